"""The audit as a chain: where an act came from, what it changed, and the seals that link the entries."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)

# The database itself refuses to change or remove a link.
_REFUSAL = "audit seals are never changed or removed"
_INSERT_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER audit_seals_no_{act.lower()} BEFORE {act} ON audit_seals "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        for act in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE FUNCTION refuse_seal_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}' USING ERRCODE = 'integrity_constraint_violation'; END $$",
        "CREATE TRIGGER audit_seals_append_only BEFORE UPDATE OR DELETE ON audit_seals "
        "FOR EACH ROW EXECUTE FUNCTION refuse_seal_change()",
    ],
}


def upgrade() -> None:
    for name, kind in (
        ("client", sa.String(120)),
        ("address", sa.String(64)),
        ("trace_id", sa.String(64)),
        ("before", sa.JSON(none_as_null=True)),
        ("after", sa.JSON(none_as_null=True)),
    ):
        op.add_column("audit_entries", sa.Column(name, kind, nullable=True))
    op.create_index("ix_audit_entries_actor", "audit_entries", ["organization_id", "actor", "at"])
    op.create_index("ix_audit_entries_subject", "audit_entries", ["organization_id", "subject", "at"])
    op.create_table(
        "audit_seals",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("sequence", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("entry_id", sa.String(40), nullable=False),
        sa.Column("entry_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("sealed_at", _MOMENT, nullable=False),
        sa.UniqueConstraint("organization_id", "entry_id", name="uq_audit_seals_entry"),
    )
    for statement in _INSERT_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)
    op.create_table(
        "audit_unsealed",
        sa.Column("organization_id", sa.String(40), primary_key=True),
        sa.Column("at", _MOMENT, primary_key=True),
        sa.Column("entry_id", sa.String(40), primary_key=True),
    )
    # What was recorded before there were seals gets them, too.
    op.execute(
        "INSERT INTO audit_unsealed (organization_id, at, entry_id) SELECT organization_id, at, id FROM audit_entries"
    )
