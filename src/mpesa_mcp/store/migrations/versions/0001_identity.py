"""Organizations, API keys, the audit, shortcodes with their sealed secrets, and the keys that seal."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)

# The database itself refuses to change or remove what was audited.
_REFUSAL = "audit entries are never changed or removed"
_APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_entries_no_{act.lower()} BEFORE {act} ON audit_entries "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        for act in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'integrity_constraint_violation'; END $$",
        "CREATE TRIGGER audit_entries_append_only BEFORE UPDATE OR DELETE ON audit_entries "
        "FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()",
    ],
}


def upgrade() -> None:
    op.create_table(
        "platform_keys",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
    )
    _identity()
    _audit()
    _credentials()


def _identity() -> None:
    op.create_table(
        "organizations",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("slug", sa.String(40), nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("callback_id", sa.String(32), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.UniqueConstraint("slug", name="uq_organizations_slug"),
        sa.UniqueConstraint("callback_id", name="uq_organizations_callback_id"),
    )
    op.create_table(
        "api_keys",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("prefix", sa.String(20), nullable=False),
        sa.Column("key_hash", sa.String(64), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("environment", sa.String(20), nullable=False),
        sa.Column("tools", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.String(120), nullable=False),
        sa.Column("expires_at", _MOMENT, nullable=True),
        sa.Column("revoked_at", _MOMENT, nullable=True),
        sa.Column("last_used_at", _MOMENT, nullable=True),
        sa.UniqueConstraint("organization_id", "key_hash", name="uq_api_keys_key_hash"),
        _of_organization("api_keys"),
    )
    op.create_index("ix_api_keys_key_hash", "api_keys", ["key_hash"])


def _audit() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("actor", sa.String(120), nullable=False),
        sa.Column("action", sa.String(60), nullable=False),
        sa.Column("subject", sa.String(80), nullable=False),
        sa.Column("decision", sa.String(20), nullable=False),
        sa.Column("reasons", sa.String(500), nullable=True),
        sa.Column("request_id", sa.String(80), nullable=True),
        sa.Column("detail", sa.JSON(none_as_null=True), nullable=True),
    )
    op.create_index("ix_audit_entries_at", "audit_entries", ["organization_id", "at"])
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


def _credentials() -> None:
    op.create_table(
        "shortcodes",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("environment", sa.String(20), nullable=False),
        sa.Column("shortcode", sa.String(7), nullable=False),
        sa.Column("type", sa.String(20), nullable=False),
        sa.Column("till", sa.String(7), nullable=True),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("updated_by", sa.String(120), nullable=False),
        sa.UniqueConstraint("organization_id", "environment", "shortcode", name="uq_shortcodes_shortcode"),
        _of_organization("shortcodes"),
    )
    op.create_table(
        "shortcode_secrets",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("shortcode_id", sa.String(40), primary_key=True),
        sa.Column("field", sa.String(40), primary_key=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("key_version", sa.Integer(), nullable=False),
        sa.Column("set_at", _MOMENT, nullable=False),
        sa.Column("set_by", sa.String(120), nullable=False),
        sa.ForeignKeyConstraint(
            ["organization_id", "shortcode_id"],
            ["shortcodes.organization_id", "shortcodes.id"],
            name="fk_shortcode_secrets_shortcode",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "data_keys",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        _of_organization("data_keys"),
    )


def _of_organization(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["organization_id"], ["organizations.organization_id"], name=f"fk_{table}_organization"
    )
