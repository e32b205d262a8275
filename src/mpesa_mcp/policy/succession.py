"""A key that takes the place of another one: the rule that was made for it goes on. What was spent begins anew."""

from sqlmodel import select

from mpesa_mcp.policy.models import SpendRule
from mpesa_mcp.store.tenancy import OrganizationSession


async def take_over_rule(session: OrganizationSession, old_key_id: str, new_key_id: str) -> None:
    """What `identity.api_keys.rotate_key` does besides, in its transaction."""
    await session.hold_organization()
    rule = await session.first(select(SpendRule).where(SpendRule.scope == f"key:{old_key_id}"))
    if rule is not None:
        values = {"rule": rule.rule, "changed_at": rule.changed_at, "changed_by": rule.changed_by}
        await session.insert_if_absent(SpendRule, scope=f"key:{new_key_id}", **values)
