"""Which of several shortcodes a payment uses."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_shortcodes_place", "shortcodes", ["organization_id", "environment", "id"], unique=True)
    op.create_table(
        "shortcode_defaults",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("environment", sa.String(20), primary_key=True),
        sa.Column("use", sa.String(20), primary_key=True),
        sa.Column("shortcode_id", sa.String(40), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("set_by", sa.String(120), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "environment", "shortcode_id"],
            ["shortcodes.organization_id", "shortcodes.environment", "shortcodes.id"],
            name="fk_shortcode_defaults_shortcode",
            ondelete="CASCADE",
        ),
    )
