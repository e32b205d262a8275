"""Two organizations: Ours, which asks, and Theirs, which has everything an organization can have.

`named` is whatever can name something of Theirs; `unlike` makes of such a value one of the same shape that names
nothing. Whatever is asked with the one must be answered as with the other, to the byte.
"""

import json
import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import SQLModel

from mpesa_mcp import audit
from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.audit.sealing import seal
from mpesa_mcp.callbacks.models import Callback, CallbackStatus, Channel
from mpesa_mcp.credentials.models import Shortcode
from mpesa_mcp.credentials.shortcodes import ShortcodeUse, choose_defaults
from mpesa_mcp.identity.api_keys import NewKey, create_key, revoke_key
from mpesa_mcp.identity.organizations import OrganizationRecord, create_organization
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import (
    Attempt,
    BalanceSnapshot,
    Hint,
    Inquiry,
    Payment,
    PaymentHistory,
)
from mpesa_mcp.payments.requests import StkPushRequest
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import Environment, FrozenClock, Kes, Msisdn, Role, new_id, sha256_hex
from tests.shortcodes import OPERATOR, give_shortcode

from .batches import store_batch
from .held import store_held
from .people import store_people
from .terms import store_rules, store_terms

ACTOR = "operator:tester"

SHORTCODE, THEIR_SHORTCODE = "174379", "600998"
PHONE, THEIR_PHONE = "254700000001", "254711222333"
THEIR_REFERENCE = "ZEBRA-77"
CALLBACK_TOKEN = "5eb7a5eb7a5eb7a5eb7a5eb7a5eb7a00"
OWN_CALLBACK_TOKEN = "0a00a0a00a0a00a0a00a0a00a0a00a11"


@dataclass(frozen=True)
class Theirs:
    """The other organization. `marks` are words that stand in its rows and in nobody else's."""

    organization: OrganizationRecord
    key: NewKey
    revoked: NewKey
    expired: NewKey
    named: Mapping[str, str]
    push: StkPushRequest
    marks: frozenset[str]


def unlike(value: str) -> str:
    """A value of the same shape that names nothing: each of its last letters and digits is another one."""
    turned = str.maketrans(
        string.digits + string.ascii_lowercase + string.ascii_uppercase,
        string.digits[1:] + "0" + string.ascii_lowercase[1:] + "a" + string.ascii_uppercase[1:] + "A",
    )
    return value[:-6] + value[-6:].translate(turned)


def scrubbed(said: object, *given: str) -> str:
    """What was said, without what the asker gave and without what is new each time: our ids and the time."""
    text = said if isinstance(said, str) else json.dumps(said, sort_keys=True)
    text = _without(text, given)
    text = re.sub(r"\b(pay|inq|org|key|sc|apr|bat)_[0-9a-z]{26}\b", "<id>", text)
    return re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+( EAT|Z|\+00:00)", "<time>", text)


def marks_in(said: object, theirs: Theirs, *given: str) -> set[str]:
    """What was said of Theirs that the asker did not say himself."""
    text = _without(said if isinstance(said, str) else json.dumps(said), given).lower()
    return {mark for mark in theirs.marks if mark.lower() in text}


def _without(text: str, given: Iterable[str]) -> str:
    for value in given:
        masked = Msisdn(value).masked if re.fullmatch(r"254\d{9}", value) else value
        for written in (value, masked):
            text = re.sub(re.escape(written), "<given>", text, flags=re.IGNORECASE)
    return text


async def make_organization(core: Core, slug: str, shortcode: str = SHORTCODE) -> OrganizationRecord:
    made = await create_organization(core.store, core.clock, name=f"{slug.title()} Traders", slug=slug, actor=ACTOR)
    await give_shortcode(core, made.organization_id, shortcode=shortcode)
    return made


async def make_key(core: Core, organization_id: str, name: str = "assistant", *, at: datetime | None = None) -> NewKey:
    """A manager's key; one made `at` some time expired a day later."""
    return await create_key(
        core.store,
        core.keyring,
        FrozenClock(at) if at else core.clock,
        organization_id=organization_id,
        name=name,
        role=Role.MANAGER,
        environment=Environment.SIMULATOR,
        expires_at=at + timedelta(days=1) if at else None,
        tools=None,
        actor=OPERATOR,
    )


def manager_of(organization_id: str) -> Principal:
    return Principal(organization_id, "key:tester", Role.MANAGER, Environment.SIMULATOR, None, "tester")


def a_payment(core: Core, organization_id: str, status: PaymentStatus, **values: Any) -> Payment:
    """A payment at rest: nothing is due, so that no worker takes it."""
    now = core.clock.now()
    return Payment(
        **{
            "organization_id": organization_id,
            "id": new_id("pay"),
            "kind": PaymentKind.STK_PUSH,
            "status": status,
            "environment": Environment.SIMULATOR,
            "shortcode_id": "sc_none",
            "shortcode": SHORTCODE,
            "phone": PHONE,
            "amount_cents": 100_00,
            "reference": "INV-1",
            "created_by": "key:tester",
            "created_at": now,
            "updated_at": now,
            **values,
        }
    )


async def own_payment(platform: LocalPlatform, status: PaymentStatus, **values: Any) -> Payment:
    """A payment of the asking organization."""
    organization = platform.organization
    async with platform.core.store.reading(organization.organization_id) as session:
        [shortcode] = await session.all(select(Shortcode))
    payment = a_payment(platform.core, organization.organization_id, status, shortcode_id=shortcode.id, **values)
    async with platform.core.store.session(organization.organization_id) as session:
        session.add(payment)
    return payment


async def make_theirs(core: Core) -> Theirs:
    """An organization with keys, payments in every status, a reversal, inquiries, balances, callbacks and hints."""
    made = await make_organization(core, "zebra", THEIR_SHORTCODE)
    organization_id = made.organization_id
    await choose_defaults(
        core.store,
        core.clock,
        organization_id=organization_id,
        environment=Environment.SIMULATOR,
        uses=frozenset(ShortcodeUse),
        shortcode=THEIR_SHORTCODE,
        actor=OPERATOR,
    )
    key = await make_key(core, organization_id, "zebra assistant")
    revoked = await make_key(core, organization_id, "zebra revoked")
    await revoke_key(
        core.store, core.clock, organization_id=organization_id, key_id=revoked.record.key_id, actor=OPERATOR
    )
    expired = await make_key(core, organization_id, "zebra expired", at=core.clock.now() - timedelta(days=2))
    # One through intake, without a key: it leaves a claim.
    push = StkPushRequest(phone=Msisdn(THEIR_PHONE), amount=Kes.from_shillings(4321), reference=THEIR_REFERENCE)
    claimed = (await open_payment(core, manager_of(organization_id), push)).payment.payment_id
    named = await _store_rows(core, organization_id)
    named["an audit entry"] = await _seal_all_but_one(core, organization_id)
    named |= {
        "a claimed payment": claimed,
        "a key's id": key.record.key_id,
        "a key's prefix": key.record.prefix,
        "the organization": organization_id,
        "the slug": made.slug,
        "the callback id": made.callback_id,
        "the callback token": CALLBACK_TOKEN,
        "a shortcode": THEIR_SHORTCODE,
        "a phone": THEIR_PHONE,
        "a reference": THEIR_REFERENCE,
    }
    hidden = {"Zebra Traders", "zebra assistant", "JANE ZEBRA", "zebra remarks", "2547*****333", key.key.reveal()}
    return Theirs(made, key, revoked, expired, named, push, frozenset({*named.values()} - {"zebra"} | hidden))


async def _store_rows(core: Core, organization_id: str) -> dict[str, str]:
    """Rows in every table that payments leave; what names them."""
    now = core.clock.now()
    common: dict[str, Any] = {
        "phone": THEIR_PHONE,
        "amount_cents": 4321_00,
        "shortcode": THEIR_SHORTCODE,
        "reference": THEIR_REFERENCE,
        "remarks": "zebra remarks",
        "untrusted_text": "JANE ZEBRA",
    }
    payments = {status: a_payment(core, organization_id, status, **common) for status in PaymentStatus}
    succeeded = payments[PaymentStatus.SUCCEEDED]
    succeeded.receipt, succeeded.idempotency_key = "ZBR7Z8CJ88", "zebra-invoice-1042"
    payout = a_payment(core, organization_id, PaymentStatus.SUCCEEDED, **common | {"kind": PaymentKind.B2C})
    payout.originator_conversation_id, payout.receipt = "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "ZBR7Z8CJ99"
    given_back = payments[PaymentStatus.REVERSED]
    given_back.receipt = "ZBR7Z8CJ77"
    reversal = a_payment(core, organization_id, PaymentStatus.SUCCEEDED, **common | {"kind": PaymentKind.REVERSAL})
    reversal.reverses_payment_id, reversal.reverses_receipt = given_back.id, given_back.receipt
    attempt = Attempt(
        organization_id=organization_id,
        id=new_id("att"),
        payment_id=succeeded.id,
        operation="stk_push",
        callback_token_sha256=sha256_hex(CALLBACK_TOKEN),
        sent_at=now,
        in_flight_until=now,
        replied_at=now,
        reply="accepted",
        merchant_request_id="29115-34620561-1",
        checkout_request_id="ws_CO_16112026113000711222333",
        conversation_id="AG_20261116_2010zebra0000000001",
        originator_conversation_id="10571-7910404-1",
    )
    inquiries = [
        Inquiry(
            organization_id=organization_id,
            id=new_id("inq"),
            kind=kind,
            status="answered",
            environment=Environment.SIMULATOR,
            shortcode_id="sc_none",
            shortcode=THEIR_SHORTCODE,
            payment_id=None,
            receipt=succeeded.receipt if kind == "transaction_status" else None,
            created_by="key:tester",
            created_at=now,
            updated_at=now,
        )
        for kind in ("balance", "transaction_status")
    ]
    async with core.store.session(organization_id) as session:
        session.add(*payments.values(), payout, reversal, *inquiries)
        await session.flush()
        session.add(attempt)
        await session.flush()
        session.add(
            Callback(
                organization_id=organization_id,
                id=new_id("cbk"),
                attempt_id=attempt.id,
                channel=Channel.RESULT,
                status=CallbackStatus.APPLIED,
                received_at=now,
                source_address="127.0.0.1",
                body='{"zebra": "JANE ZEBRA"}',
            ),
            Hint(
                organization_id=organization_id,
                id=new_id("hnt"),
                payment_id=succeeded.id,
                attempt_id=attempt.id,
                result_code="0",
                receipt="ZBR7Z8CJ66",
                received_at=now,
            ),
            PaymentHistory(
                organization_id=organization_id,
                id=new_id("evt"),
                payment_id=succeeded.id,
                at=now,
                event="success",
                source="callback",
                note="JANE ZEBRA",
            ),
            BalanceSnapshot(
                organization_id=organization_id,
                id=new_id("bal"),
                inquiry_id=inquiries[0].id,
                shortcode_id="sc_none",
                at=now,
                account="Zebra Account",
                currency="KES",
                current_cents=1,
                available_cents=1,
                reserved_cents=0,
                uncleared_cents=0,
            ),
        )
        audit.record(session, core.clock, actor=ACTOR, action="payment.opened", subject=succeeded.id)
    batch = await store_batch(core, organization_id, payout.id, THEIR_SHORTCODE)
    people = await store_people(core, organization_id, ACTOR)
    held = await store_held(core, organization_id, payments[PaymentStatus.AWAITING_APPROVAL].id, people["a user"])
    await store_terms(core, organization_id, plan=THEIR_REFERENCE.lower())
    people["a rule proposal"] = await store_rules(core, organization_id)
    return (
        people
        | held
        | {f"a payment that is {status}": payment.id for status, payment in payments.items()}
        | {
            "a payout": payout.id,
            "a batch": batch.id,
            "a batch's key": batch.idempotency_key,
            "a reversal": reversal.id,
            "a receipt": "ZBR7Z8CJ88",
            "a receipt of a payout": "ZBR7Z8CJ99",
            "a receipt given back": "ZBR7Z8CJ77",
            "a receipt that was only claimed": "ZBR7Z8CJ66",
            "an idempotency key": "zebra-invoice-1042",
            "a payout's id at Safaricom": "0f1e2d3c4b5a69788796a5b4c3d2e1f0",
            "an attempt": attempt.id,
            "a merchant request": "29115-34620561-1",
            "a checkout request": "ws_CO_16112026113000711222333",
            "a conversation": "AG_20261116_2010zebra0000000001",
            "an originator conversation": "10571-7910404-1",
            "a balance inquiry": inquiries[0].id,
            "a status inquiry": inquiries[1].id,
        }
    )


async def _seal_all_but_one(core: Core, organization_id: str) -> str:
    """Links what was recorded so far, and records one thing more; the id of an entry."""
    await seal(core.store, core.clock, organization_id)
    async with core.store.session(organization_id) as session:
        audit.record(session, core.clock, actor=ACTOR, action="zebra.counted", subject=organization_id)
        entry = await session.first(select(audit.AuditEntry).limit(1))
    assert entry is not None
    return entry.id


def tables_of_organizations() -> Iterable[Table]:
    return [table for table in SQLModel.metadata.sorted_tables if "organization_id" in table.c]


async def rows_of(core: Core, organization_id: str) -> dict[str, list[str]]:
    """Everything the database holds of an organization, read with the owner's rights, past every guard."""
    engine = create_async_engine(core.settings.owner_database_url)
    held: dict[str, list[str]] = {}
    async with engine.connect() as connection:
        for table in tables_of_organizations():
            # The owner is bound by no policy; on SQLite there is none.
            wanted = select(table).where(table.c.organization_id == organization_id)
            held[table.name] = sorted(repr(tuple(row)) for row in (await connection.execute(wanted)).all())
    await engine.dispose()
    return held
