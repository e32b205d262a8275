"""What is to be seen after the recovery: our rows, the simulator's ledger, and what was promised to whom."""

from collections.abc import Mapping
from typing import Any, TypedDict

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.callbacks.models import Callback
from mpesa_mcp.payments.models import Attempt, Inquiry, Payment, PaymentHistory
from mpesa_mcp.values import sha256_hex
from tests.spending import miscounted

from .scene import Scene

Standing = dict[str, dict[str, Any]]


class Facts(TypedDict):
    """`before` is how the payments stood at the death; `answers` what the client was told since, twice the same act.

    Of the callbacks `acknowledged` are the paths that got a 200, as often as they did, `stored` those that are there;
    `lost` is how many died with the process that took them.
    """

    before: Mapping[str, Mapping[str, Any]]
    payments: Mapping[str, Mapping[str, Any]]
    history: list[dict[str, Any]]
    audit: list[tuple[str, str]]
    inquiries: list[str]
    callbacks: list[str]
    acknowledged: list[str]
    stored: list[str]
    lost: int
    miscounted: list[str]
    ledger: list[dict[str, Any]]
    answers: list[dict[str, Any]]


async def standing(scene: Scene) -> Standing:
    """Each payment by its id: status, receipt, and the replies and ids of its attempts."""
    attempts = await scene.rows(Attempt)
    return {
        payment.id: {
            "kind": payment.kind,
            "key": payment.idempotency_key,
            "of_batch": payment.batch_id is not None,
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
    callbacks = await scene.rows(Callback)
    tokens = {attempt.id: attempt.callback_token_sha256 for attempt in await scene.rows(Attempt)}
    return Facts(
        acknowledged=[_path(each["url"]) for each in ours if each["http_status"] == 200],
        stored=[f"{tokens[callback.attempt_id]} {callback.channel}" for callback in callbacks],
        lost=max(0, len(ours) - len(callbacks)),
        before=before,
        payments=await standing(scene),
        history=[
            {name: getattr(line, name) for name in ("payment_id", "event", "from_status", "to_status", "source")}
            for line in await scene.rows(PaymentHistory)
        ],
        audit=[(entry.subject, entry.action) for entry in await scene.rows(AuditEntry)],
        inquiries=[inquiry.status for inquiry in await scene.rows(Inquiry)],
        callbacks=[callback.status for callback in callbacks],
        miscounted=await _miscounted(scene),
        ledger=await scene.ledger(),
        answers=scene.answers,
    )


async def _miscounted(scene: Scene) -> list[str]:
    """Where the spending counters do not say what the payments say."""
    async with scene.core.store.reading(scene.principal.organization_id) as session:
        return await miscounted(session)


def _path(url: str) -> str:
    """Which attempt and channel a callback's address is, as the database knows it: the token's hash."""
    is_timeout = url.endswith("/timeout")
    token = url.removesuffix("/timeout").rpartition("/")[2]
    return f"{sha256_hex(token)} {'timeout' if is_timeout else 'result'}"
