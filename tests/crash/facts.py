"""What is to be seen after the recovery: our rows, the simulator's ledger, and what was promised to whom."""

from collections.abc import Mapping
from typing import Any, TypedDict

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.callbacks.models import Callback
from mpesa_mcp.payments.models import Attempt, Inquiry, Payment, PaymentHistory

from .scene import Scene

Standing = dict[str, dict[str, Any]]


class Facts(TypedDict):
    """`before` is how the payments stood at the death; `answers` what the client was told since, twice the same act.

    Of the callbacks `acknowledged` is how many got a 200, and `lost` how many died with the process that took them.
    """

    before: Mapping[str, Mapping[str, Any]]
    payments: Mapping[str, Mapping[str, Any]]
    history: list[dict[str, Any]]
    audit: list[tuple[str, str]]
    inquiries: list[str]
    callbacks: list[str]
    acknowledged: int
    lost: int
    ledger: list[dict[str, Any]]
    answers: list[dict[str, Any]]


async def standing(scene: Scene) -> Standing:
    """Each payment by its id: status, receipt, and the replies and ids of its attempts."""
    attempts = await scene.rows(Attempt)
    return {
        payment.id: {
            "kind": payment.kind,
            "status": payment.status,
            "receipt": payment.receipt,
            "reverses": payment.reverses_payment_id,
            "is_scheduled": payment.next_action_at is not None,
            "replies": [attempt.reply for attempt in attempts if attempt.payment_id == payment.id],
            "has_id": any(
                attempt.checkout_request_id or attempt.conversation_id
                for attempt in attempts
                if attempt.payment_id == payment.id
            ),
        }
        for payment in await scene.rows(Payment)
    }


async def collect(scene: Scene, before: Standing) -> Facts:
    # What was acknowledged is read first: what is stored afterwards is not missing.
    deliveries = (await scene.simulator.get("/_sim/deliveries")).json()
    ours = [each for each in deliveries if each["url"].startswith(scene.callbacks_at)]
    callbacks = [callback.status for callback in await scene.rows(Callback)]
    return Facts(
        acknowledged=sum(each["http_status"] == 200 for each in ours),
        lost=max(0, len(ours) - len(callbacks)),
        before=before,
        payments=await standing(scene),
        history=[
            {name: getattr(line, name) for name in ("payment_id", "event", "from_status", "to_status", "source")}
            for line in await scene.rows(PaymentHistory)
        ],
        audit=[(entry.subject, entry.action) for entry in await scene.rows(AuditEntry)],
        inquiries=[inquiry.status for inquiry in await scene.rows(Inquiry)],
        callbacks=callbacks,
        ledger=await scene.ledger(),
        answers=scene.answers,
    )
