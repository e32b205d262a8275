"""What a comparison finds: one finding for a payment, a movement, or both, and what a person should do about it."""

from dataclasses import dataclass, field
from datetime import datetime

from mpesa_mcp.payments.booked import Booked
from mpesa_mcp.payments.movements import Direction, Movement
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import Kes


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`ours` is our status, `theirs` the statement's; the side that knows nothing of it is None."""

    receipt: str | None
    payment_id: str | None
    kind: PaymentKind | None
    direction: Direction
    ours: PaymentStatus | None
    theirs: str | None
    amount_ours: Kes | None
    amount_theirs: Kes | None
    when: datetime
    what_to_do: str
    untrusted_text: str | None


@dataclass(slots=True)
class Sums:
    """How many movements one side knows in the period, and their cents each way. Sums may exceed what Kes holds."""

    count: int = 0
    cents_in: int = 0
    cents_out: int = 0

    def add(self, direction: Direction, cents: int) -> None:
        self.count += 1
        if direction is Direction.IN:
            self.cents_in += cents
        else:
            self.cents_out += cents


@dataclass(slots=True)
class Comparison:
    """The outcome. `matched` and `charges` are listed only where asked for; their counts are always there.

    `not_completed` lines moved nothing; `undecided` payments are not settled here and did not move there;
    `at_the_edge` payments were sent so late that they completed after the end of what was compared.
    """

    matched: list[Finding] = field(default_factory=list)
    matched_without_receipt: list[Finding] = field(default_factory=list)
    missing_here: list[Finding] = field(default_factory=list)
    missing_there: list[Finding] = field(default_factory=list)
    amounts_differ: list[Finding] = field(default_factory=list)
    statuses_differ: list[Finding] = field(default_factory=list)
    charges: list[Finding] = field(default_factory=list)
    # payment id → receipt, of those matched so surely that the receipt may be adopted.
    adoptable: dict[str, str] = field(default_factory=dict)
    ours: Sums = field(default_factory=Sums)
    theirs: Sums = field(default_factory=Sums)
    charged: Sums = field(default_factory=Sums)
    matched_count: int = 0
    not_completed: int = 0
    undecided: int = 0
    at_the_edge: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def left_over(self) -> list[Finding]:
        return [*self.missing_here, *self.missing_there, *self.amounts_differ, *self.statuses_differ]


def finding(booked: Booked | None, movement: Movement | None, what_to_do: str = "") -> Finding:
    """At least one of the two is given."""
    if movement is None:
        assert booked is not None
        direction, when = booked.direction, booked.moves_at
    else:
        direction, when = movement.direction, movement.at
    return Finding(
        receipt=movement.receipt if movement else (booked.receipt if booked else None),
        payment_id=booked.payment_id if booked else None,
        kind=booked.kind if booked else None,
        direction=direction,
        ours=booked.status if booked else None,
        theirs=movement.theirs if movement else None,
        amount_ours=Kes(booked.cents) if booked else None,
        amount_theirs=Kes(movement.cents) if movement else None,
        when=when,
        what_to_do=what_to_do,
        untrusted_text=movement.untrusted_text if movement else None,
    )


# Each is formatted with `source`, the name of what was compared with.
CAME_IN = "Money came in that no payment here asked for: a customer may have paid directly. Find out what it is for."
WENT_OUT = (
    "Money went out that no payment here asked for: a transfer or another system, or somebody has the initiator's "
    "password. Find out who made it."
)
REPEATED = "The receipt stands twice in {source}: is the file joined from two exports? If not, ask Safaricom."
SECOND_MOVEMENT = "This payment moved money a second time. Give it back if it came in; ask Safaricom if it went out."
NOT_THERE = (
    "It succeeded here but is not in {source}. Export all accounts of the shortcode and all days again; if it is "
    "still missing, ask Safaricom."
)
NOT_IN_THE_LEDGER = "It succeeded here but is not in {source}, which begins anew whenever the simulator starts."
AFTER_THE_LAST_LINE = "It was made after the last line of the statement: export the statement again."
BEFORE_THE_FIRST_LINE = "It was made before the first line of the statement: export the whole period."
OTHER_AMOUNT = "Ask Safaricom which amount is right. Nothing was changed."
OTHER_DIRECTION = "The money went the other way than here. Ask Safaricom about the receipt. Nothing was changed."
NOT_COMPLETED_THERE = "It succeeded here, but is not called completed there. Ask Safaricom about the receipt."
NO_RECEIPT_YET = "It is paid; only its receipt is not known here. --adopt takes it from {source}."
ONE_OF_SEVERAL = "It is paid; which of several like it has this receipt, {source} does not tell."
ADOPTED = "The receipt was taken from {source}."


def what_to_do_about_status(slug: str, booked: Booked, receipt: str, *, source: str, is_sure: bool) -> str:
    """Money moved, says `source`, for a payment that does not count as succeeded here."""
    perhaps = "" if is_sure else "If this line is this payment (compare phone and time): "
    match booked.status:
        case PaymentStatus.UNKNOWN | PaymentStatus.DISPUTED:
            command = (
                f'mpesa-mcp payment resolve {booked.payment_id} --org {slug} --as succeeded --reason "in {source}"'
            )
            return f"{perhaps}{command}" + ("" if booked.receipt == receipt else f" --receipt {receipt}")
        case PaymentStatus.PENDING | PaymentStatus.SENDING | PaymentStatus.QUEUED | PaymentStatus.AWAITING_APPROVAL:
            return "It is still being followed here. Compare again later."
        case _:
            return (
                f"{perhaps}Money moved although it counts as {booked.status} here. Do not ask for it again; a person "
                "settles it with the other side."
            )
