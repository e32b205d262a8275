"""Usage of each month; what has ended so far is counted into it."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# Nairobi has no daylight saving time. SQLite's moments are cut to whole seconds, or it would round the last of a month.
_MONTH = {
    "sqlite": "strftime('%Y-%m', substr(created_at, 1, 19), '+3 hours')",
    "postgresql": "to_char(timezone('Africa/Nairobi', created_at), 'YYYY-MM')",
}
_COUNTED = """
INSERT INTO usage_payments (organization_id, month, actor, environment, kind, outcome, payments, moved_cents)
SELECT organization_id, {month}, created_by, environment, kind, status, count(*),
    sum(CASE WHEN status IN ('succeeded', 'reversed') THEN amount_cents ELSE 0 END)
FROM payments
WHERE status IN ('succeeded', 'failed', 'declined', 'expired', 'disputed', 'reversed')
GROUP BY organization_id, {month}, created_by, environment, kind, status
"""


def upgrade() -> None:
    op.create_table(
        "usage_calls",
        *_keys("month", "actor", "tool"),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "usage_payments",
        *_keys("month", "actor", "environment", "kind", "outcome"),
        sa.Column("payments", sa.BigInteger(), nullable=False),
        sa.Column("moved_cents", sa.BigInteger(), nullable=False),
    )
    op.execute(_COUNTED.replace("{month}", _MONTH[op.get_bind().dialect.name]))


def _keys(*names: str) -> list[sa.Column[str]]:
    lengths = {"month": 7, "actor": 120, "tool": 40, "environment": 20, "kind": 20, "outcome": 20}
    return [
        sa.Column("organization_id", sa.String(40), primary_key=True),
        *(sa.Column(name, sa.String(lengths[name]), primary_key=True) for name in names),
    ]
