"""Approvals: the queue of what waits for a person, and one with everything that a person needs to judge it.

What is approved is the digest that the page showed: who approves a page that is out of date approves nothing.
"""

from typing import Final

from starlette.responses import Response
from starlette.routing import Route

from mpesa_mcp.billing.states import Act
from mpesa_mcp.console import words
from mpesa_mcp.console.batches import version_of
from mpesa_mcp.console.rendering import going_to, rendered, unchanged
from mpesa_mcp.console.visits import Visit, page
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.payments.approval_reading import MOST_EARLIER, ToDecide, approval_to_decide, list_approvals
from mpesa_mcp.payments.approving import Prospect, approve, decline, prospect, refusal_to_approve
from mpesa_mcp.payments.batches.reading import BatchRecord, batch_of
from mpesa_mcp.policy.approvals import ApprovalRecord, ApprovalStatus, Verdict
from mpesa_mcp.values import Msisdn, Role

_ON_A_PAGE: Final = 25


@page(Role.USER)
async def approvals(visit: Visit) -> Response:
    """The queue; with `all`, what was decided too. The page looks for what is new by itself."""
    shows_all = "all" in visit.query
    read = await list_approvals(
        visit.core,
        visit.organization_id,
        status=None if shows_all else ApprovalStatus.PENDING,
        limit=_ON_A_PAGE,
        cursor=visit.query.get("cursor"),
    )
    version = "-".join(f"{each.approval.approval_id[-10:]}{len(each.approval.decisions)}" for each in read.items)
    if visit.query.get("seen") == version:
        return unchanged()
    return rendered(
        "approvals.html",
        visit=visit,
        approvals=read.items,
        older=read.next_cursor,
        shows_all=shows_all,
        version=version,
    )


@page(Role.USER)
async def approval(visit: Visit) -> Response:
    """One of them. Until it is decided, and what it let go is settled, the page looks again by itself."""
    return await _shown(visit)


async def _shown(visit: Visit, refused: MpesaMcpError | None = None) -> Response:
    found = await approval_to_decide(visit.core, visit.organization_id, _id(visit))
    approval = found.approval
    batch = await batch_of(visit.core, visit.organization_id, approval.batch_id) if approval.batch_id else None
    kind = found.payment.kind if found.payment else None
    may_not = await refusal_to_approve(visit.core, visit.organization_id, kind)
    # Of a batch every row is judged: not each time that its page looks again.
    judged = await _judged(visit, approval) if found.payment else None
    version = _version(found, batch, judged, may_not)
    if visit.query.get("seen") == version:
        return unchanged()
    judged = judged or await _judged(visit, approval)
    mine = [each for each in approval.decisions if each.user_id == visit.principal.user_id]
    return rendered(
        "approval.html",
        visit=visit,
        status=refused.http_status if refused else 200,
        approval=approval,
        payment=found.payment,
        batch=batch,
        asked_batch=found.batch,
        version=version,
        asker=words.caller(approval.asked_by, found.asker),
        sending=found.sending,
        to=Msisdn(found.sending.phone) if found.sending else None,
        earlier=found.earlier,
        may_be_more=len(found.earlier) == MOST_EARLIER,
        rows_waiting=found.rows_waiting,
        gives_back=found.gives_back,
        judged=judged,
        has_approved=any(each.verdict is Verdict.APPROVED for each in mine),
        done=mine[-1] if mine and "done" in visit.query else None,
        may_not=may_not,
        refused=refused,
    )


async def _judged(visit: Visit, approval: ApprovalRecord) -> Prospect | None:
    """What approving it now would come to, while it can be."""
    if approval.status is not ApprovalStatus.PENDING:
        return None
    return await prospect(visit.core, visit.organization_id, approval.approval_id, actor=visit.actor)


def _version(found: ToDecide, batch: BatchRecord | None, judged: Prospect | None, may_not: MpesaMcpError | None) -> str:
    """Another one whenever the page would say something else."""
    state = version_of(batch) if batch else found.payment.updated_at.timestamp() if found.payment else ""
    by_rules = f"{judged.missing}{'r' if judged.refused else ''}" if judged else ""
    newest = found.earlier[0].payment_id[-10:] if found.earlier else ""
    told = (found.approval.status, len(found.approval.decisions), state, may_not.code if may_not else "")
    return "-".join(map(str, (*told, by_rules, newest, found.rows_waiting)))


@page(Role.ORG_ADMIN, act=Act.PAY_OUT, again=_shown)
async def approve_it(visit: Visit) -> Response:
    """Approves what the page showed."""
    digest = visit.form.get("digest", "")
    await approve(visit.core, visit.organization_id, _id(visit), actor=visit.actor, digest=digest)
    return going_to(f"/console/approvals/{_id(visit)}?done=1")


@page(Role.ORG_ADMIN, again=_shown)
async def decline_it(visit: Visit) -> Response:
    """Declines it for good, with a reason that whoever asked is told."""
    reason = visit.form.get("reason", "")
    await decline(visit.core, visit.organization_id, _id(visit), actor=visit.actor, reason=reason)
    return going_to(f"/console/approvals/{_id(visit)}?done=1")


ROUTES: Final = (
    Route("/approvals", approvals),
    Route("/approvals/{approval_id}", approval),
    Route("/approvals/{approval_id}/approve", approve_it, methods=["POST"]),
    Route("/approvals/{approval_id}/decline", decline_it, methods=["POST"]),
)


def _id(visit: Visit) -> str:
    approval_id: str = visit.request.path_params["approval_id"]
    return approval_id
