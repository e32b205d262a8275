"""A shop that is paid through a fake Daraja, its requests, and the bodies Safaricom would post to it."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx2
from sqlmodel import col, select

from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.http import listen, port_of, serving
from mpesa_mcp.callbacks.inbox import apply_callback, claim_stored
from mpesa_mcp.callbacks.models import Callback
from mpesa_mcp.callbacks.sidecar import create_sidecar
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.dispatch import claim_queued, send_payment
from mpesa_mcp.payments.inquiry_dispatch import claim_queued_inquiries, send_inquiry
from mpesa_mcp.payments.models import Attempt, Payment
from mpesa_mcp.payments.reading import history_of
from mpesa_mcp.payments.reconciliation import ask_about, claim_silent
from mpesa_mcp.payments.requests import B2cRequest, ReversalRequest, StkPushRequest
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import Clock, Environment, Kes, Msisdn, Role, new_id
from tests.shortcodes import give_shortcode

from .fake_daraja import FakeDaraja

SHORTCODE = "174379"
PHONE = "254700000001"


@dataclass(frozen=True)
class Shop:
    """An organization with one shortcode, and everything that runs for it."""

    core: Core
    daraja: FakeDaraja
    principal: Principal
    http: httpx2.AsyncClient

    async def post(self, url: str, body: object) -> None:
        """What Safaricom does: posts a body to an address that a request named."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await self.http.post(url, content=content)
        assert answer.status_code == 200

    async def call_back(self, url: str, body: object) -> None:
        """Posts a body and has the inbox apply it."""
        await self.post(url, body)
        await apply_due(self.core)

    async def row(self, payment_id: str) -> Payment:
        async with self.core.store.reading(self.principal.organization_id) as session:
            payment = await session.get(Payment, payment_id)
        assert payment is not None
        return payment

    async def status(self, payment_id: str) -> str:
        return (await self.row(payment_id)).status

    async def attempts(self, payment_id: str) -> list[Attempt]:
        async with self.core.store.reading(self.principal.organization_id) as session:
            wanted = select(Attempt).where(Attempt.payment_id == payment_id).order_by(col(Attempt.id))
            return list(await session.all(wanted))

    async def callbacks(self) -> list[Callback]:
        async with self.core.store.reading(self.principal.organization_id) as session:
            return list(await session.all(select(Callback).order_by(col(Callback.id))))

    async def events(self, payment_id: str) -> list[tuple[str, str | None]]:
        """(event, status afterwards) of each line of its history."""
        lines = await history_of(self.core, self.principal.organization_id, payment_id)
        return [(line.event, line.after) for line in lines]


@asynccontextmanager
async def open_shop(
    database: Mapping[str, Any], clock: Clock, *, organization_id: str | None = None, **values: Any
) -> AsyncIterator[Shop]:
    """A fake Daraja, a sidecar and a core of their own; `database` and `values` are settings.

    The shop's organization is made, unless the database has it.
    """
    daraja = FakeDaraja()
    opened = listen("127.0.0.1", 0)
    async with serving(daraja.application(), listen("127.0.0.1", 0)) as daraja_port:
        simulator_url = f"http://127.0.0.1:{daraja_port}"
        settings = Settings(**database, port=port_of(opened), simulator_url=simulator_url, **values)
        async with (
            open_core(settings, clock=clock) as core,
            serving(create_sidecar(core.store, settings, clock), opened),
            httpx2.AsyncClient(verify=False) as http,
        ):
            principal = a_principal(organization_id) if organization_id else await make_organization(core)
            yield Shop(core, daraja, principal, http)


async def make_organization(core: Core, slug: str = "acme") -> Principal:
    """An organization with a shortcode at the simulator; the manager who acts for it."""
    made = await create_organization(core.store, core.clock, name=slug.title(), slug=slug, actor="operator:tester")
    manager = a_principal(made.organization_id)
    await give_shortcode(core, made.organization_id)
    return manager


def a_principal(
    organization_id: str,
    *,
    role: Role = Role.MANAGER,
    environment: Environment = Environment.SIMULATOR,
    tools: frozenset[str] | None = None,
) -> Principal:
    return Principal(organization_id, "key:tester", role, environment, tools, "tester")


def a_push(
    *,
    phone: str = PHONE,
    shillings: int = 100,
    reference: str = "INV-1",
    description: str = "",
    key: str | None = None,
) -> StkPushRequest:
    return StkPushRequest(
        phone=Msisdn(phone),
        amount=Kes.from_shillings(shillings),
        reference=reference,
        description=description,
        idempotency_key=key,
    )


def a_payout(
    *, phone: str = PHONE, shillings: int = 100, remarks: str = "Salary", key: str = "payout-1", **values: Any
) -> B2cRequest:
    return B2cRequest(
        phone=Msisdn(phone), amount=Kes.from_shillings(shillings), remarks=remarks, idempotency_key=key, **values
    )


def a_reversal(receipt: str, *, reason: str = "Paid twice", key: str = "reversal-1") -> ReversalRequest:
    return ReversalRequest(receipt=receipt, reason=reason, idempotency_key=key)


def a_row(organization_id: str, at: datetime, *, shillings: int = 100, **values: Any) -> Payment:
    """A payment as if it had gone its way long ago: a succeeded push, unless `values` say otherwise."""
    return Payment(
        **{
            "organization_id": organization_id,
            "id": new_id("pay"),
            "kind": PaymentKind.STK_PUSH,
            "status": PaymentStatus.SUCCEEDED,
            "environment": Environment.SIMULATOR,
            "shortcode_id": "sc_1",
            "shortcode": SHORTCODE,
            "phone": PHONE,
            "amount_cents": shillings * 100,
            "reference": "INV-1",
            "created_by": "key:tester",
            "created_at": at,
            "updated_at": at,
            **values,
        }
    )


async def store_rows(shop: Shop, *rows: Payment) -> None:
    async with shop.core.store.session(rows[0].organization_id) as session:
        session.add(*rows)


async def send_due(core: Core) -> int:
    """One round of dispatch; how many were due."""
    claims = await claim_queued(core, 10)
    for claim in claims:
        await send_payment(core, claim)
    return len(claims)


async def ask_due(core: Core) -> int:
    """One round of reconciliation."""
    claims = await claim_silent(core, 10)
    for claim in claims:
        await ask_about(core, claim)
    return len(claims)


async def send_due_inquiries(core: Core) -> int:
    claims = await claim_queued_inquiries(core, 10)
    for claim in claims:
        await send_inquiry(core, claim)
    return len(claims)


async def apply_due(core: Core) -> int:
    """One round of the inbox."""
    claims = await claim_stored(core, 10)
    for claim in claims:
        await apply_callback(core, claim)
    return len(claims)


def stk_callback(
    number: int = 1, *, code: object = 0, amount: object = 100, receipt: str = "SKE0000AA1", phone: str = PHONE
) -> dict[str, Any]:
    """The callback of push number `number` of the fake."""
    callback: dict[str, Any] = {
        "MerchantRequestID": f"merchant-{number}",
        "CheckoutRequestID": f"ws_CO_{number}_700000001",
        "ResultCode": code,
        "ResultDesc": "prose",
    }
    if code == 0:
        items = [("Amount", amount), ("MpesaReceiptNumber", receipt), ("PhoneNumber", int(phone))]
        callback["CallbackMetadata"] = {"Item": [{"Name": name, "Value": value} for name, value in items]}
    return {"Body": {"stkCallback": callback}}


def result(
    conversation_id: str, *, code: object = 0, receipt: str = "SKE0000BB1", **parameters: object
) -> dict[str, Any]:
    """What comes to a ResultURL; `parameters` are its named values."""
    return {
        "Result": {
            "ResultType": 0,
            "ResultCode": code,
            "ResultDesc": "prose",
            "OriginatorConversationID": "not-the-one-of-the-reply",
            "ConversationID": conversation_id,
            "TransactionID": receipt,
            "ResultParameters": {"ResultParameter": [{"Key": k, "Value": v} for k, v in parameters.items()]},
        }
    }


def payout_result(
    number: int = 1, *, amount: int = 100, receipt: str = "SKE0000BB1", code: object = 0
) -> dict[str, Any]:
    return result(
        f"AG_b2c_{number}",
        code=code,
        receipt=receipt,
        TransactionAmount=amount,
        TransactionReceipt=receipt,
        ReceiverPartyPublicName=f"{PHONE} - JANE DOE",
    )
