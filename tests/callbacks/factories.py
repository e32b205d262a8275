"""Payments that have left, their secret paths, and the bodies that are posted there. No Daraja: replies are given."""

import contextlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlmodel import col, select

from mpesa_mcp.callbacks.inbox import apply_callback, claim_stored
from mpesa_mcp.callbacks.models import Callback, CallbackStatus, Channel
from mpesa_mcp.daraja.conclusions import Accepted, Conclusion, NotSent, Operation, Unknown
from mpesa_mcp.daraja.redaction import redact
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.attempts import add_attempt
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.dispatch import claim_queued
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Attempt, Hint, Payment
from mpesa_mcp.payments.outcomes import Change, move
from mpesa_mcp.payments.reading import history_of
from mpesa_mcp.payments.replies import conclude_send
from mpesa_mcp.payments.requests import B2cRequest, PaymentRequest, ReversalRequest, StkPushRequest
from mpesa_mcp.payments.schedule import SEND_LEASE
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind
from mpesa_mcp.store.callback_log import MAX_CALLBACKS
from mpesa_mcp.store.crossings import Claim
from mpesa_mcp.values import Environment, Kes, Msisdn, Role, new_id
from tests.shortcodes import give_shortcode

PHONE = "254700000001"
OTHER_PHONE = "254700000002"
UNCLEAR = Unknown("timeout", "It is not known.")
NOT_SENT = NotSent("429", "Too fast.", None)
_OPERATIONS = {
    PaymentKind.STK_PUSH: Operation.STK_PUSH,
    PaymentKind.B2C: Operation.B2C,
    PaymentKind.REVERSAL: Operation.REVERSAL,
}


@dataclass(frozen=True)
class Sent:
    """A payment whose request is on its way or answered; `path` is where its result goes."""

    payment_id: str
    attempt_id: str
    path: str
    claim: Claim


def accepted(number: int = 1) -> Accepted:
    """The reply to request `number`: every id in it ends in that number."""
    return Accepted(f"merchant-{number}", f"ws_CO_{number}_700000001", f"originator-{number}", f"AG_{number}")


async def make_merchant(core: Core, slug: str = "acme") -> Principal:
    made = await create_organization(core.store, core.clock, name=slug.title(), slug=slug, actor="operator:tester")
    await give_shortcode(core, made.organization_id)
    return merchant_of(made.organization_id)


def merchant_of(organization_id: str) -> Principal:
    return Principal(organization_id, "key:tester", Role.MANAGER, Environment.SIMULATOR, None, "tester")


def a_push(*, shillings: int = 100, reference: str = "INV-1") -> StkPushRequest:
    return StkPushRequest(phone=Msisdn(PHONE), amount=Kes.from_shillings(shillings), reference=reference)


def a_payout(*, key: str = "payout-1") -> B2cRequest:
    return B2cRequest(phone=Msisdn(PHONE), amount=Kes.from_shillings(100), remarks="Salary", idempotency_key=key)


def a_reversal(receipt: str) -> ReversalRequest:
    return ReversalRequest(receipt=receipt, reason="Paid twice", idempotency_key="reversal-1")


async def send(
    core: Core, merchant: Principal, request: PaymentRequest | None = None, reply: Conclusion | None = None
) -> Sent:
    """What dispatch does, with a reply that the test chooses; without one the request is still on its way."""
    await open_payment(core, merchant, request or a_push())
    return await send_again(core, merchant, reply)


async def send_again(core: Core, merchant: Principal, reply: Conclusion | None = None) -> Sent:
    """Sends the one payment that is due."""
    [claim] = await claim_queued(core, 1)
    async with core.store.session(merchant.organization_id) as session:
        payment = await session.get(Payment, claim.id)
        assert payment is not None
        due = core.clock.now() + SEND_LEASE
        await move(
            core, session, payment, Change(PaymentEvent.ATTEMPT_COMMITTED, source="dispatch", next_action_at=due)
        )
        attempt = await add_attempt(
            core,
            session,
            operation=_OPERATIONS[PaymentKind(payment.kind)],
            environment=Environment(payment.environment),
            payment_id=claim.id,
        )
    sent = Sent(claim.id, attempt.attempt_id, attempt.result_url.reveal().removeprefix(core.local_callbacks), claim)
    if reply is not None:
        await conclude_send(core, sent.claim, sent.attempt_id, reply)
    return sent


async def store_callback(
    core: Core, merchant: Principal, sent: Sent, body: object, *, channel: Channel = Channel.RESULT
) -> str:
    """Stores a body as the sidecar does; its id."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    now = core.clock.now()
    callback_id = new_id("cbk")
    async with core.store.session(merchant.organization_id) as session:
        session.add(
            Callback(
                organization_id=merchant.organization_id,
                id=callback_id,
                attempt_id=sent.attempt_id,
                channel=channel,
                status=CallbackStatus.STORED,
                received_at=now,
                source_address="127.0.0.1",
                body=redact(raw),
                next_action_at=now,
            )
        )
    return callback_id


async def receive(
    core: Core, merchant: Principal, sent: Sent, body: object, *, channel: Channel = Channel.RESULT
) -> Callback:
    """Stores a body, and has the inbox look at it once."""
    callback_id = await store_callback(core, merchant, sent, body, channel=channel)
    await apply_due(core)
    async with core.store.reading(merchant.organization_id) as session:
        stored = await session.get(Callback, callback_id)
    assert stored is not None
    return stored


async def apply_due(core: Core) -> int:
    claims = await claim_stored(core, 2 * MAX_CALLBACKS)
    for claim in claims:
        await apply_callback(core, claim)
    return len(claims)


async def payment_of(core: Core, merchant: Principal, sent: Sent) -> Payment:
    async with core.store.reading(merchant.organization_id) as session:
        payment = await session.get(Payment, sent.payment_id)
    assert payment is not None
    return payment


async def status_of(core: Core, merchant: Principal, sent: Sent) -> str:
    return (await payment_of(core, merchant, sent)).status


async def hints_of(core: Core, merchant: Principal, sent: Sent) -> list[Hint]:
    async with core.store.reading(merchant.organization_id) as session:
        return list(await session.all(select(Hint).where(Hint.payment_id == sent.payment_id)))


async def attempt_of(core: Core, merchant: Principal, sent: Sent) -> Attempt:
    async with core.store.reading(merchant.organization_id) as session:
        attempt = await session.get(Attempt, sent.attempt_id)
    assert attempt is not None
    return attempt


async def last_event(core: Core, merchant: Principal, sent: Sent) -> tuple[str, str | None]:
    line = (await history_of(core, merchant.organization_id, sent.payment_id))[-1]
    return line.event, line.after


async def callbacks_stored(core: Core, merchant: Principal) -> list[Callback]:
    async with core.store.reading(merchant.organization_id) as session:
        return list(await session.all(select(Callback).order_by(col(Callback.id))))


def run_sql(core: Core, statement: str) -> None:
    """Does something to the database that the program itself never does."""
    path = core.settings.sqlite_path
    assert path is not None
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(statement)


async def as_owner(core: Core, statement: str) -> None:
    """Does something to the tables, on either database, that the program itself may not do."""
    if core.settings.database_url is None:
        run_sql(core, statement)
        return
    connection = await asyncpg.connect(core.settings.owner_database_url.replace("+asyncpg", ""))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def stk_body(number: int = 1, *, code: object = 0, **changed: object) -> dict[str, Any]:
    """The callback of push `number`; `changed` replaces fields by their wire names, None takes them out."""
    callback: dict[str, Any] = {
        "MerchantRequestID": changed.pop("MerchantRequestID", f"merchant-{number}"),
        "CheckoutRequestID": changed.pop("CheckoutRequestID", f"ws_CO_{number}_700000001"),
        "ResultCode": code,
        "ResultDesc": "prose of theirs",
    }
    values = {"Amount": 100, "MpesaReceiptNumber": f"SKE0000AA{number}", "PhoneNumber": int(PHONE)} | changed
    if code in {0, "0"}:
        items = [{"Name": name, "Value": value} for name, value in values.items() if value is not None]
        callback["CallbackMetadata"] = {"Item": items}
    return {"Body": {"stkCallback": callback}}


def result_body(
    number: int = 1, *, code: object = 0, parameters: Mapping[str, object] | None = None, **changed: object
) -> dict[str, Any]:
    """The result of payout `number`, in full; `changed` replaces fields of the envelope."""
    receipt = f"SKE0000BB{number}"
    said = {
        "TransactionAmount": 100,
        "TransactionReceipt": receipt,
        "ReceiverPartyPublicName": f"{PHONE} - JANE DOE",
        **(parameters or {}),
    }
    envelope: dict[str, object] = {
        "ResultType": 0,
        "ResultCode": code,
        "ResultDesc": "prose of theirs",
        "OriginatorConversationID": f"originator-{number}",
        "ConversationID": f"AG_{number}",
        "TransactionID": said["TransactionReceipt"] or receipt,
        "ResultParameters": {
            "ResultParameter": [{"Key": key, "Value": value} for key, value in said.items() if value is not None]
        },
    }
    return {"Result": {key: value for key, value in (envelope | changed).items() if value is not None}}
