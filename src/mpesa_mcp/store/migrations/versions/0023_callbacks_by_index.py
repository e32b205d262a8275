"""The functions of the callbacks' role find everything by an index, and take arrays (crossings.sql)."""

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Functions are made anew at the end of every upgrade."""
