"""The rules of an organization as they stand."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import col, select

from mpesa_mcp.errors import InputError, InternalFault
from mpesa_mcp.identity.api_keys import ended_keys
from mpesa_mcp.policy.models import SpendRule
from mpesa_mcp.policy.rules import DEFAULT_RULE, ORGANIZATION, Rule
from mpesa_mcp.policy.words import rule_from
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock


class RuleUnreadable(InternalFault):
    """A stored rule says what this program does not know: it was changed by a newer one. No fault of who asks."""

    code = "rule_unreadable"

    def __init__(self) -> None:
        super().__init__(
            "A rule of this organization was written by a newer version of mpesa-mcp. Nothing was done. "
            "The operator must update this program."
        )


async def rules_of(session: OrganizationSession, scopes: Collection[str]) -> dict[str, Rule]:
    """The rules of these scopes; the organization's own holds even where nobody has set it.

    Who decides from them holds the organization, so that they stay so.
    """
    rows = await session.all(
        select(SpendRule).where(col(SpendRule.scope).in_(sorted(scopes))).order_by(col(SpendRule.scope))
    )
    rules = {ORGANIZATION: DEFAULT_RULE} if ORGANIZATION in scopes else {}
    return rules | {row.scope: rule_of(row) for row in rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRecord:
    """The rule of one scope. `is_default`: nobody has changed it. `key_ended`: its key is revoked or expired."""

    scope: str
    rule: Rule
    is_default: bool
    changed_at: datetime | None
    changed_by: str | None
    key_ended: bool = False


async def list_rules(store: Store, clock: Clock, organization_id: str) -> Sequence[RuleRecord]:
    """Every rule of an organization: its own first, those of keys that are revoked or expired last."""
    async with store.reading(organization_id) as session:
        rows = await session.all(select(SpendRule).order_by(col(SpendRule.scope)))
        ended = await ended_keys(session, clock.now())
    records = [
        RuleRecord(
            scope=row.scope,
            rule=rule_of(row),
            is_default=False,
            changed_at=row.changed_at,
            changed_by=row.changed_by,
            key_ended=row.scope.removeprefix("key:") in ended,
        )
        for row in rows
    ]
    if all(record.scope != ORGANIZATION for record in records):
        records.append(
            RuleRecord(scope=ORGANIZATION, rule=DEFAULT_RULE, is_default=True, changed_at=None, changed_by=None)
        )
    return sorted(records, key=lambda record: (record.scope != ORGANIZATION, record.key_ended, record.scope))


def rule_of(row: SpendRule) -> Rule:
    """The rule a row says. Raises RuleUnreadable."""
    try:
        return rule_from(row.rule)
    except InputError as unread:
        raise RuleUnreadable from unread
