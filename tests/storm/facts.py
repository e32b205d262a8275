"""What is to be seen after a storm: each row of ours with the movements of its customer, and what the commands say."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlmodel import col, select

from mpesa_mcp.callbacks.models import UNAPPLIED, Callback
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Attempt, Inquiry, Payment, PaymentHistory
from mpesa_mcp.payments.records import InquiryStatus
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus
from mpesa_mcp.store.tenancy import OrganizationSession
from tests.spending import miscounted

_IN_LEDGER = {PaymentKind.STK_PUSH: "stk", PaymentKind.B2C: "b2c", PaymentKind.REVERSAL: "reversal"}
_SETTLED = [status for status in PaymentStatus if status.is_settled]
_ENDED = [status for status in InquiryStatus if status.is_final]
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
Movement = Mapping[str, Any]


@dataclass(kw_only=True)
class Row:
    """A payment after the storm. `digits` chose what happened to it.

    `is_cut_off`: a sender died, so that its lease had to run out. `was_heard_of`: its reply or a callback was stored.
    """

    payment_id: str
    slug: str
    kind: PaymentKind
    status: PaymentStatus
    phone: str
    shillings: int
    receipt: str | None = None
    originator_conversation_id: str | None = None
    reverses: str | None = None
    is_scheduled: bool = False
    is_cut_off: bool = False
    was_heard_of: bool = True
    was_accepted: bool = True
    checkout_request_ids: Sequence[str] = ()
    movements: Sequence[Movement] = ()
    history: Sequence[str] = ()

    @property
    def digits(self) -> int:
        return int(self.phone[-2:])


@dataclass(kw_only=True)
class Told:
    """What the commands say of one organization: `review` by status, and `reconcile` as it is printed."""

    review: Mapping[str, set[str]]
    reconcile: Mapping[str, Any]


@dataclass(kw_only=True)
class Facts:
    rows: Sequence[Row]
    strays: Sequence[Movement] = ()
    answers: Sequence[Mapping[str, Any]] = ()
    told: Mapping[str, Told] = field(default_factory=dict)
    complaints: Sequence[str] = ()
    miscounted: Sequence[str] = ()
    orders: int = 0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row that something will still happen to. `until` it is due, or held by somebody."""

    row_id: str
    status: str
    asked: int
    until: datetime

    @property
    def state(self) -> tuple[str, str, int]:
        """What changes when something happens to it; that it was only looked at is nothing."""
        return self.row_id, self.status, self.asked


async def unrest(core: Core, organizations: Mapping[str, str]) -> Sequence[Waiting]:
    """Every row that something will still happen to by itself."""
    open_payment = col(Payment.status).not_in(_SETTLED) & (
        (col(Payment.status) != PaymentStatus.UNKNOWN) | col(Payment.next_action_at).is_not(None)
    )
    queues: Mapping[type[Any], Any] = {
        Payment: open_payment,
        Inquiry: col(Inquiry.status).not_in(_ENDED),
        Callback: col(Callback.status).in_(UNAPPLIED),
    }
    found: list[Waiting] = []
    for organization_id in organizations.values():
        async with core.store.reading(organization_id) as session:
            for table, which in queues.items():
                for row in await session.all(select(table).where(which)):
                    until = max(at for at in (row.next_action_at, row.lease_until, _LONG_AGO) if at)
                    found.append(Waiting(row.id, row.status, getattr(row, "ask_count", 0), until))
    return found


async def collect(
    core: Core, organizations: Mapping[str, str], ledger: Sequence[Movement]
) -> tuple[Sequence[Row], Sequence[Movement]]:
    """Our rows, each with the movements of its customer; and the movements of nobody's."""
    moved: dict[tuple[str, str], list[Movement]] = defaultdict(list)
    for movement in ledger:
        moved[movement["kind"], movement["party"]].append(movement)
    rows = []
    for slug, organization_id in organizations.items():
        async with core.store.reading(organization_id) as session:
            attempts = await _by_payment(session, Attempt)
            history = await _by_payment(session, PaymentHistory)
            called_back = set(await session.all(select(Callback.attempt_id)))
            for payment in await session.all(select(Payment).order_by(col(Payment.id))):
                movements = moved.pop((_IN_LEDGER[PaymentKind(payment.kind)], payment.phone), [])
                rows.append(_row(slug, payment, attempts[payment.id], history[payment.id], called_back, movements))
    return rows, [movement for movements in moved.values() for movement in movements]


async def miscounted_spending(core: Core, organizations: Mapping[str, str]) -> Sequence[str]:
    """Where the spending counters do not say what the payments say."""
    found: list[str] = []
    for slug, organization_id in organizations.items():
        async with core.store.reading(organization_id) as session:
            found += [f"{slug} {difference}" for difference in await miscounted(session)]
    return found


async def _by_payment(session: OrganizationSession, table: type[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for each in await session.all(select(table).order_by(table.id)):
        found[each.payment_id].append(each)
    return found


def _row(
    slug: str,
    payment: Payment,
    attempts: Sequence[Attempt],
    history: Sequence[PaymentHistory],
    called_back: set[str],
    movements: Sequence[Movement],
) -> Row:
    has_id = any(attempt.checkout_request_id or attempt.conversation_id for attempt in attempts)
    return Row(
        payment_id=payment.id,
        slug=slug,
        kind=PaymentKind(payment.kind),
        status=PaymentStatus(payment.status),
        phone=payment.phone,
        shillings=payment.amount_cents // 100,
        receipt=payment.receipt,
        originator_conversation_id=payment.originator_conversation_id,
        reverses=payment.reverses_payment_id,
        is_scheduled=payment.next_action_at is not None,
        is_cut_off=any(line.event == PaymentEvent.LEASE_RAN_OUT for line in history),
        was_heard_of=has_id or any(attempt.id in called_back for attempt in attempts),
        was_accepted=any(attempt.reply == "accepted" for attempt in attempts),
        checkout_request_ids=[attempt.checkout_request_id for attempt in attempts if attempt.checkout_request_id],
        movements=movements,
        history=[_line(each) for each in history],
    )


def _line(line: PaymentHistory) -> str:
    change = f"{line.from_status or '-'} -> {line.to_status or '-'}"
    return (
        f"{line.at:%H:%M:%S.%f} {line.event:<20} {change:<22} {line.source:<9} {line.code or '':<12} {line.note or ''}"
    )
