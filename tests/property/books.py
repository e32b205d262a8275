"""What must hold after every step, whatever happened. Each promise is a function that tells how it is broken.

A counter that a later feature adds joins here: one function more in PROMISES, and, where it has a table, one field more
in Books.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.billing.models import PaymentUsage
from mpesa_mcp.billing.usage import month_of
from mpesa_mcp.payments.models import Attempt, Payment, PaymentHistory
from mpesa_mcp.payments.states import PaymentEvent, PaymentStatus, Reply, first_status, next_status
from mpesa_mcp.policy.models import Spending
from mpesa_mcp.values import sha256_hex
from tests.spending import differing

from .safaricom import LIES, Order, Safaricom, Sent


@dataclass
class Books:
    """Everything that is written down about payments at one moment."""

    payments: Sequence[Payment]
    attempts: Sequence[Attempt]
    history: Sequence[PaymentHistory]
    usage: Sequence[PaymentUsage]
    spending: Sequence[Spending]
    audit: Sequence[AuditEntry]
    _payment_of: dict[str, str | None] = field(init=False)

    def __post_init__(self) -> None:
        self._payment_of = {attempt.callback_token_sha256: attempt.payment_id for attempt in self.attempts}

    def lines_of(self, payment: Payment) -> list[PaymentHistory]:
        return [line for line in self.history if line.payment_id == payment.id]

    def changes_of(self, payment: Payment) -> list[PaymentHistory]:
        return [line for line in self.lines_of(payment) if line.to_status is not None]

    def attempts_of(self, payment: Payment) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.payment_id == payment.id]

    def is_of(self, payment: Payment, order: Order) -> bool:
        return self._payment_of[sha256_hex(order.token)] == payment.id

    def orders_of(self, payment: Payment, daraja: Safaricom) -> list[Order]:
        return [order for order in daraja.orders if self.is_of(payment, order)]

    def sent_of(self, payment: Payment, daraja: Safaricom) -> list[Sent]:
        return [sent for sent in daraja.sent if self.is_of(payment, sent.order)]

    def a_person_decided(self, payment: Payment) -> bool:
        return any(line.source == "person" for line in self.lines_of(payment))


Promise = Callable[[Books, Safaricom], Iterator[str]]


def each_attempt_is_sent_once(books: Books, daraja: Safaricom) -> Iterator[str]:
    """Whatever the answer was: what follows is another attempt."""
    sends = Counter(sent.order.token for sent in daraja.sent)
    yield from ("an attempt was sent twice" for sends_of_one in sends.values() if sends_of_one > 1)
    known = {attempt.callback_token_sha256 for attempt in books.attempts}
    yield from ("a send without an attempt" for token in sends if sha256_hex(token) not in known)


def nothing_is_sent_again_unless_proven_unsent(books: Books, daraja: Safaricom) -> Iterator[str]:
    for payment in books.payments:
        for attempt in books.attempts_of(payment)[:-1]:
            if attempt.reply != Reply.NOT_SENT:
                yield f"{payment.id} was sent again after {attempt.reply}"
        sends = books.sent_of(payment, daraja)
        for number, sent in enumerate(sends):
            for before in sends[:number]:
                if not before.fate.says_unsent or before not in sent.after:
                    yield f"{payment.id} was sent again after {before.fate}"


def money_moves_once(books: Books, daraja: Safaricom) -> Iterator[str]:
    """Unless Safaricom said of a push or a reversal that it had not got it, and carried it out."""
    for payment in books.payments:
        orders = books.orders_of(payment, daraja)
        lied = any(order.fate in LIES for order in orders)
        if sum(order.moved for order in orders) > 1 and not lied:
            yield f"{payment.id} moved twice"


def statuses_follow_the_table(books: Books, _daraja: Safaricom) -> Iterator[str]:
    for payment in books.payments:
        status: str | None = None
        for line in books.changes_of(payment):
            if line.from_status != status:
                yield f"{payment.id}: {line.event} from {line.from_status}, and it was {status}"
            after = line.to_status
            if status is None:
                lawful = first_status(PaymentEvent(line.event)) == after
            else:
                lawful = next_status(PaymentStatus(status), PaymentEvent(line.event)) == after
            if not lawful:
                yield f"{payment.id}: {status} to {after} by {line.event}"
            status = after
        if payment.status != status:
            yield f"{payment.id} is {payment.status}, and its history ends with {status}"


def every_change_is_audited(books: Books, _daraja: Safaricom) -> Iterator[str]:
    for payment in books.payments:
        told = [line.to_status for line in books.changes_of(payment)][1:]
        audited = [entry.action for entry in books.audit if entry.subject == payment.id]
        if audited != ["payment.opened", *(f"payment.{status}" for status in told)]:
            yield f"{payment.id}: the audit has {audited}, the history {told}"


def receipts_are_unique(books: Books, _daraja: Safaricom) -> Iterator[str]:
    seen = Counter(payment.receipt for payment in books.payments if payment.receipt)
    yield from (f"{receipt} belongs to {payments} payments" for receipt, payments in seen.items() if payments > 1)


def success_means_that_money_moved(books: Books, daraja: Safaricom) -> Iterator[str]:
    for payment in books.payments:
        moved = any(order.moved for order in books.orders_of(payment, daraja))
        if PaymentStatus(payment.status).moved and not moved and not books.a_person_decided(payment):
            yield f"{payment.id} is {payment.status}, and nothing moved"


def failure_means_that_nothing_moved(books: Books, daraja: Safaricom) -> Iterator[str]:
    """As far as Safaricom told the truth: it may call back late about what it said had failed or had not arrived."""
    for payment in books.payments:
        orders = books.orders_of(payment, daraja)
        excused = any(order.fate in LIES or order.turned_around for order in orders)
        moved = any(order.moved for order in orders)
        nothing = PaymentStatus(payment.status).nothing_moved
        if nothing and moved and not excused and not books.a_person_decided(payment):
            yield f"{payment.id} is {payment.status}, and money moved"


def settled_payments_wait_for_nothing(books: Books, _daraja: Safaricom) -> Iterator[str]:
    for payment in books.payments:
        settled = PaymentStatus(payment.status).is_settled
        if settled and (payment.next_action_at is not None or payment.settled_at is None):
            yield f"{payment.id} is {payment.status}, and still scheduled"


def a_payment_is_reversed_once(books: Books, _daraja: Safaricom) -> Iterator[str]:
    by_original = sorted(
        (payment for payment in books.payments if payment.reverses_payment_id),
        key=lambda payment: str(payment.reverses_payment_id),
    )
    originals = {payment.id: payment for payment in books.payments}
    for original_id, group in groupby(by_original, key=lambda payment: str(payment.reverses_payment_id)):
        reversals = list(group)
        open_or_done = [each for each in reversals if not PaymentStatus(each.status).nothing_moved]
        if len([each for each in open_or_done if each.status != PaymentStatus.DISPUTED]) > 1:
            yield f"{original_id} has several reversals"
        if originals[original_id].status == PaymentStatus.REVERSED and not open_or_done:
            yield f"{original_id} is reversed, and by nothing"


def usage_is_what_the_payments_are(books: Books, _daraja: Safaricom) -> Iterator[str]:
    """Each settled payment counts once, in its month and under its status; and what moved is the sum of them."""
    payments, moved = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for payment in books.payments:
        status = PaymentStatus(payment.status)
        place = (month_of(payment.created_at), payment.created_by, payment.environment, payment.kind, payment.status)
        payments[place] += status.is_settled
        moved[place] += payment.amount_cents * status.moved
    for row in books.usage:
        place = (row.month, row.actor, row.environment, row.kind, row.outcome)
        if (row.payments, row.moved_cents) != (payments.pop(place, 0), moved[place]):
            yield f"{row.payments} payments and {row.moved_cents} cents are counted for {place}"
    yield from (f"nothing is counted for {place}" for place, number in payments.items() if number)


def spending_is_what_the_payments_are(books: Books, _daraja: Safaricom) -> Iterator[str]:
    """Reserved while money may move, given back when it is certain that none did."""
    yield from differing(books.spending, books.payments)


PROMISES: list[Promise] = [
    each_attempt_is_sent_once,
    nothing_is_sent_again_unless_proven_unsent,
    money_moves_once,
    statuses_follow_the_table,
    every_change_is_audited,
    receipts_are_unique,
    success_means_that_money_moved,
    failure_means_that_nothing_moved,
    settled_payments_wait_for_nothing,
    a_payment_is_reversed_once,
    usage_is_what_the_payments_are,
    spending_is_what_the_payments_are,
]


def broken(books: Books, daraja: Safaricom) -> list[str]:
    return [sentence for promise in PROMISES for sentence in promise(books, daraja)]


def left_waiting(books: Books, to_review: set[str]) -> list[str]:
    """After all has come to rest: what is neither settled nor on a person's list."""
    return [
        f"{payment.id} is {payment.status}, and nobody is told"
        for payment in books.payments
        if payment.id not in to_review and not PaymentStatus(payment.status).is_final
    ]


def needlessly_unknown(books: Books, daraja: Safaricom) -> list[str]:
    """After all has come to rest: what our questions could have settled. No forgery keeps them from being asked."""
    found = []
    for payment in books.payments:
        may_not_ask = any(line.code == "21" for line in books.lines_of(payment))
        if payment.status != PaymentStatus.UNKNOWN or may_not_ask:
            continue
        sends = [sent for sent in books.sent_of(payment, daraja) if sent.order in daraja.orders]
        if any(sent.ids_are_known or sent.order.operation == "b2c" for sent in sends):
            found.append(f"{payment.id} is unknown, asked about {payment.ask_count} times")
    return found


def counted_twice(books: Books, daraja: Safaricom, to_review: set[str], told: set[str]) -> list[str]:
    """What moved twice and was told of twice, and still passes for one success. `told`: the receipts we were sent."""
    return [
        f"{payment.id} moved twice, and is {payment.status}"
        for payment in books.payments
        if len({order.receipt for order in books.orders_of(payment, daraja) if order.receipt in told}) > 1
        and payment.id not in to_review
        and not books.a_person_decided(payment)
    ]
