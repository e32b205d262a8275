"""The function that claims due rows is another one (crossings.sql): it never takes more than it is asked for."""

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Functions are made anew at the end of every upgrade."""
