"""What a tool says of something that waits for people: who decides and where, or that too few people may."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mpesa_mcp.tools.caller import Caller

if TYPE_CHECKING:
    from mpesa_mcp.payments.records import AskedApproval


async def in_vain(me: Caller, asked: "Iterable[AskedApproval | None]") -> frozenset[str]:
    """The approvals among these that too few people of the organization may give."""
    approval_ids = [each.approval_id for each in asked if each is not None]
    if not approval_ids:
        return frozenset()
    from mpesa_mcp.payments.approving import waiting_in_vain

    return await waiting_in_vain(me.core, me.principal.organization_id, approval_ids)


def nobody_can_approve(url: str) -> str:
    """What is to be done instead of waiting: whoever becomes org_admin now may decline it, and approve the next."""
    return (
        "Nobody can approve it: fewer people than it needs were org_admin before it was asked for and did not ask for "
        "it themselves. Tell the user that somebody must first accept an invitation as org_admin (mpesa-mcp org "
        f"invite prints a link, on which they choose a password) and decline this one at {url}. Then, when the user "
        "asks for it, ask again with a new idempotency_key. Do not send it again before."
    )
