"""What must hold after a storm, whatever was killed when. Each promise that a row breaks is named."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from mpesa_mcp.payments.states import PaymentKind, PaymentStatus

from .facts import Facts, Row, Told

_STK, _B2C, _REVERSAL = PaymentKind.STK_PUSH, PaymentKind.B2C, PaymentKind.REVERSAL
# The table of outcomes (docs/simulator.md): what is left open, what fails once accepted, what is told two things.
_NEVER_TOLD = {91, 97}
_WAITS_FOR_A_PERSON = 99
_FAILS = {_STK: {80, 81, 82, 83, 85, 94, 98}, _B2C: {80, 81, 82, 83, 85, 94, 98}, _REVERSAL: set[int]()}
_TWO_ANSWERS = 88

Broken = tuple[str, str, Row | None]


def broken_promises(facts: Facts) -> Iterator[Broken]:
    """(subject, promise, row) for each promise that does not hold."""
    for complaint in facts.complaints:
        yield complaint, "no process logs an error or ends by itself", None
    for difference in facts.miscounted:
        yield difference, "what is reserved is what the payments say", None
    for movement in facts.strays:
        yield str(movement), "no money moves that no payment asked for", None
    yield from _of_answers(facts)
    given_back = {row.reverses for row in facts.rows if row.reverses and row.status.moved}
    for row in facts.rows:
        for promise in _of_row(row, is_given_back=row.payment_id in given_back):
            yield row.payment_id, promise, row
    for slug, told in facts.told.items():
        rows = [row for row in facts.rows if row.slug == slug]
        for promise in [*_of_review(rows, told.review), *_of_reconciliation(rows, told)]:
            yield slug, promise, None


def _of_answers(facts: Facts) -> Iterator[Broken]:
    """Two processes asked for each order: one of them opened it."""
    answers = defaultdict(list)
    for answer in facts.answers:
        answers[answer["kind"], answer["order"]].append(answer)
    for (kind, order), told in answers.items():
        if len({answer["payment_id"] for answer in told}) != 1 or [a["replayed"] for a in told].count(False) != 1:
            yield f"{kind} of order {order}", "one request is one payment, and all but one caller are told so", None
    if len([key for key in answers if key[0] != _REVERSAL]) != facts.orders or len(facts.rows) != len(answers):
        counted = f"{facts.orders} orders, {len(answers)} answered, {len(facts.rows)} rows"
        yield counted, "each order is one row", None


def _of_row(row: Row, *, is_given_back: bool) -> Iterator[str]:
    moved = len(row.movements)
    if moved > 1:
        yield "no payment has two movements"
    if row.status.moved and moved != 1:
        yield "what succeeded has moved"
    if row.status.nothing_moved and moved:
        yield "what failed or expired has not moved"
    if row.status is PaymentStatus.DISPUTED and row.digits != _TWO_ANSWERS:
        yield "only what was told two things is disputed"
    if (row.status is PaymentStatus.REVERSED) != is_given_back:
        yield "a payment is reversed if its reversal succeeded, and only then"
    yield from _of_movement(row)
    if row.status.is_settled:
        if row.was_accepted and row.status not in _expected_of_accepted(row):
            yield "what Safaricom accepted ends as the table of outcomes says"
    elif row.status is not PaymentStatus.UNKNOWN or row.is_scheduled:
        yield "everything comes to rest"
    elif not _may_stay_open(row):
        yield "only what nobody can tell stays open"


def _of_movement(row: Row) -> Iterator[str]:
    for movement in row.movements:
        if movement["amount"] != row.shillings:
            yield "the amount is the ledger's"
        if row.receipt not in {None, movement["receipt"]}:
            yield "the receipt is the ledger's"
        if row.kind is _B2C and movement["originator_conversation_id"] != row.originator_conversation_id:
            yield "the movement has the payment's own id"
        known = row.checkout_request_ids
        if row.kind is _STK and known and movement["checkout_request_id"] not in known:
            yield "the movement has the id that Daraja gave the push"


def _expected_of_accepted(row: Row) -> set[PaymentStatus]:
    if row.kind is not _REVERSAL and row.digits == _TWO_ANSWERS:
        return {PaymentStatus.DISPUTED, PaymentStatus.SUCCEEDED}
    if row.digits in _FAILS[row.kind]:
        return {PaymentStatus.FAILED}
    if _stays_open_by_digits(row):
        return set()
    return {PaymentStatus.SUCCEEDED, PaymentStatus.REVERSED}


def _stays_open_by_digits(row: Row) -> bool:
    if row.kind is _REVERSAL:
        return False
    return row.digits in _NEVER_TOLD or (row.kind is _STK and row.digits == _WAITS_FOR_A_PERSON)


def _may_stay_open(row: Row) -> bool:
    """What the table leaves open; and what a kill cut off before any id was known. A payout's id is its own."""
    if _stays_open_by_digits(row):
        return True
    return row.is_cut_off and not row.was_heard_of and not (row.kind is _B2C and row.movements)


def _of_review(rows: list[Row], review: Mapping[str, set[str]]) -> Iterator[str]:
    for status in (PaymentStatus.UNKNOWN, PaymentStatus.DISPUTED):
        if review.get(status, set()) != {row.payment_id for row in rows if row.status is status}:
            yield f"review lists exactly what is {status}"
    if others := sorted(set(review) - {PaymentStatus.UNKNOWN, PaymentStatus.DISPUTED}):
        yield f"review lists nothing else, such as {', '.join(others)}"


def _of_reconciliation(rows: list[Row], told: Told) -> Iterator[str]:
    for name in ("missing_here", "missing_there", "amounts_differ"):
        if told.reconcile[name]:
            yield f"reconcile finds nothing in {name}: {told.reconcile[name]}"
    differing = {each["payment_id"] for each in told.reconcile["statuses_differ"]}
    if differing != {row.payment_id for row in rows if row.movements and not row.status.moved}:
        yield "reconcile names exactly what moved and is not a success here"
    matched = {each["payment_id"] for name in ("matched", "matched_without_receipt") for each in told.reconcile[name]}
    if matched != {row.payment_id for row in rows if row.status.moved}:
        yield "reconcile matches every success"
