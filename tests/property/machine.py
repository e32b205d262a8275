"""The model: whatever can happen, in any order. Hypothesis chooses; `books` says what must hold after every step.

What is chosen never depends on what the program did: a step for which there is nothing to do does nothing. So a run
can be repeated and made shorter.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mpesa_mcp.errors import ConflictError, NotFoundError
from mpesa_mcp.payments.desk import resolve_payment, withdraw_payment
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.requests import B2cRequest, PaymentRequest, ReversalRequest, StkPushRequest
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import FrozenClock, Kes, Msisdn

from .bodies import Forgery, answer, forged, forged_answer, told
from .books import broken, counted_twice, left_waiting, needlessly_unknown
from .office import WORK, Office, open_office
from .safaricom import Fate, Order

Value = TypeVar("Value")

NUMBER = st.integers(0, 11)
WORKER = st.integers(0, 1)
# More than half of all requests fare well, so that payments get far enough for the others to matter.
FATE = st.sampled_from([*[Fate.ACCEPTED] * 15, *(fate for fate in Fate if fate is not Fate.ACCEPTED)])
PHONE = "254700000001"
PHONES = st.sampled_from([PHONE, PHONE, "254700000002"])
# A success of the second must be confirmed.
PRICE = st.sampled_from([100, 10_000])
SELDOM = st.sampled_from([False, False, False, True])
MOSTLY = st.sampled_from([True, True, True, False])
FORGERIES = st.lists(st.sampled_from(Forgery), min_size=1, max_size=4, unique=True)
_SECONDS = [1, 5, 16, 16, 20, 61, 91, 180, 310, 3600, 6 * 3600, 25 * 3600, -30]
_FAILURES = {"stk_push": ["1032", "1037", "1037"], "b2c": ["1", "2040"], "reversal": ["1"]}


class PaymentModel(RuleBasedStateMachine):
    """Each run has a database of its own: `fresh_database`, which a test's subclass defines, gives its settings."""

    fresh_database: Callable[[], Settings]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = FrozenClock(datetime(2026, 11, 16, 8, 30, tzinfo=UTC))
        self.stack = AsyncExitStack()
        opening = open_office(self.fresh_database(), self.clock)
        self.office: Office = self.run(self.stack.enter_async_context(opening))
        self.daraja = self.office.daraja
        self.opened: dict[str, str] = {}
        self.told: set[str] = set()
        self.forgeries = 0

    def run(self, step: Coroutine[Any, Any, Value]) -> Value:
        return self.runner.run(step)

    @initialize(fates=st.lists(FATE, min_size=3, max_size=3), phone=PHONES, shillings=PRICE)
    def some_payments_have_left(self, fates: list[Fate], phone: str, shillings: int) -> None:
        """So that what is chosen next has something to meet."""
        self.a_collection_is_asked_for(0, PHONE, keyed=True)
        self.a_collection_is_asked_for(1, phone, keyed=True)
        self.a_payout_is_asked_for(0, phone, shillings)
        for fate in fates:
            self.a_payment_is_sent(0, fate, hangs=False)
            self.time_passes(5)

    @rule(number=st.integers(0, 2), phone=PHONES, keyed=st.booleans())
    def a_collection_is_asked_for(self, number: int, phone: str, keyed: bool) -> None:
        key = f"push-{number}-{phone[-1]}" if keyed else None
        self._open(
            StkPushRequest(
                phone=Msisdn(phone), amount=Kes.from_shillings(100), reference=f"INV-{number}", idempotency_key=key
            )
        )

    @rule(number=st.integers(0, 2), phone=PHONES, shillings=PRICE)
    def a_payout_is_asked_for(self, number: int, phone: str, shillings: int) -> None:
        key = f"payout-{number}-{phone[-1]}-{shillings}"
        amount = Kes.from_shillings(shillings)
        self._open(B2cRequest(phone=Msisdn(phone), amount=amount, remarks="Salary", idempotency_key=key))

    @rule(number=NUMBER, again=st.booleans())
    def a_reversal_is_asked_for(self, number: int, again: bool) -> None:
        received = [order for order in self.daraja.orders if order.operation == "stk_push" and order.receipt]
        if received:
            receipt = str(received[number % len(received)].receipt)
            with suppress(NotFoundError, ConflictError):
                self._open(
                    ReversalRequest(receipt=receipt, reason="Paid twice", idempotency_key=f"reversal-{receipt}-{again}")
                )

    def _open(self, request: PaymentRequest) -> None:
        """The same key is the same payment, whatever has happened to it."""
        opened = self.run(open_payment(self.office.cores[0], self.office.principal, request))
        if request.idempotency_key is not None:
            known = self.opened.setdefault(request.idempotency_key, opened.payment.payment_id)
            assert known == opened.payment.payment_id

    @rule(worker=WORKER, fate=FATE, hangs=SELDOM)
    def a_payment_is_sent(self, worker: int, fate: Fate, hangs: bool) -> None:
        self._work(worker, "dispatch", fate, hangs)

    @rule(worker=WORKER, fate=FATE, hangs=SELDOM)
    def a_silent_payment_is_asked_about(self, worker: int, fate: Fate, hangs: bool) -> None:
        self._work(worker, "reconciliation", fate, hangs)

    @rule(worker=WORKER, fate=FATE, hangs=SELDOM)
    def a_question_is_sent(self, worker: int, fate: Fate, hangs: bool) -> None:
        self._work(worker, "questions", fate, hangs)

    @rule(worker=WORKER)
    def the_inbox_is_read(self, worker: int) -> None:
        self._work(worker, "inbox", Fate.ACCEPTED, hangs=False)

    @rule(kinds=st.lists(st.sampled_from([*WORK]), min_size=2, max_size=2), fate=FATE)
    def both_workers_do_something_at_once(self, kinds: list[str], fate: Fate) -> None:
        self.daraja.fate, self.daraja.hangs = fate, False
        self.run(self.office.together(kinds))

    @rule(worker=WORKER, kind=st.sampled_from([*WORK]))
    def a_worker_takes_something_and_is_slow_to_begin(self, worker: int, kind: str) -> None:
        self.run(self.office.take(worker, kind))

    @rule(number=NUMBER, worker=WORKER, fate=FATE, hangs=SELDOM)
    def what_was_taken_is_begun(self, number: int, worker: int, fate: Fate, hangs: bool) -> None:
        self.daraja.fate, self.daraja.hangs = fate, hangs
        self.run(self.office.begin(number, worker))

    def _work(self, worker: int, kind: str, fate: Fate, hangs: bool) -> None:
        self.daraja.fate, self.daraja.hangs = fate, hangs
        self.run(self.office.work(worker, kind))

    @rule(number=NUMBER, dies=SELDOM)
    def an_answer_comes_or_its_process_dies(self, number: int, dies: bool) -> None:
        self.daraja.fate, self.daraja.hangs = Fate.ACCEPTED, False
        self.run(self.office.kill(number) if dies else self.office.let_go(number))

    @rule(worker=WORKER)
    def a_worker_is_started_anew(self, worker: int) -> None:
        self.run(self.office.restart(worker))

    @rule(seconds=st.sampled_from(_SECONDS))
    def time_passes(self, seconds: int) -> None:
        """Or the machine's clock is set back a little."""
        self.clock.advance(timedelta(seconds=seconds))

    @rule(number=NUMBER, moves=st.booleans(), why=NUMBER)
    def something_is_decided(self, number: int, moves: bool, why: int) -> None:
        """The customer pays or dismisses, the account pays out or cannot; now and then after a failure was told."""
        if order := self._order(number):
            failures = _FAILURES[order.operation]
            order.decide("0" if moves else failures[why % len(failures)])

    @rule(number=NUMBER, bare=st.booleans(), times=st.integers(1, 2), read=MOSTLY)
    def safaricom_calls_back(self, number: int, bare: bool, times: int, read: bool) -> None:
        order = self._order(number)
        if order is None or order.code is None:
            return
        if order.receipt and not bare:
            self.told.add(order.receipt)
        for _ in range(times):
            self.run(self.office.post(order.path, told(order, bare=bare)))
        if read:
            self.the_inbox_is_read(0)

    @rule(number=NUMBER)
    def safaricoms_queue_times_out(self, number: int) -> None:
        if order := self._order(number):
            self.run(self.office.post(order.path + "/timeout", b"{}"))

    @rule(number=NUMBER, may_not_ask=SELDOM, read=MOSTLY)
    def a_question_is_answered(self, number: int, may_not_ask: bool, read: bool) -> None:
        if not self.daraja.questions:
            return
        question = self.daraja.questions[-1 - number % len(self.daraja.questions)]
        question.answered = True
        self.run(self.office.post(question.path, answer(self.daraja, question, may_not_ask=may_not_ask)))
        if read:
            self.the_inbox_is_read(1)

    @rule(kinds=FORGERIES, number=NUMBER, other=NUMBER, late=SELDOM, read=MOSTLY)
    def somebody_posts_forgeries(self, kinds: list[Forgery], number: int, other: int, late: bool, read: bool) -> None:
        """Who knows a path, and what `Forgery` says."""
        if not self.daraja.sent:
            return
        order = self.daraja.sent[-1 - number % len(self.daraja.sent)].order
        others = [sent.order for sent in self.daraja.sent if sent.ids_are_known and sent.order.token != order.token]
        another = others[other % len(others)] if others else None
        for kind in kinds:
            self.forgeries += 1
            body = forged(kind, order, another, self.forgeries)
            self.run(self.office.post(order.path + "/timeout" * late, body))
            if read:
                self.the_inbox_is_read(0)

    @rule(number=NUMBER)
    def somebody_forges_an_answer(self, number: int) -> None:
        if self.daraja.questions:
            question = self.daraja.questions[-1 - number % len(self.daraja.questions)]
            if order := self.daraja.movement(question.about):
                self.run(self.office.post(question.path, forged_answer(order)))

    @rule(number=NUMBER, succeeded=st.sampled_from([True, False, None]))
    def a_person_decides(self, number: int, succeeded: bool | None) -> None:
        """That it succeeded or failed after all, or that it shall not be sent."""
        core, organization_id = self.office.cores[1], self.office.principal.organization_id
        payment_id = [*self.opened.values()][number % len(self.opened)]
        asked: dict[str, Any] = {"reason": "Looked it up.", "actor": "operator:tester"}
        with suppress(ConflictError):
            if succeeded is None:
                self.run(withdraw_payment(core, organization_id, payment_id, **asked))
            else:
                asked |= {"succeeded": succeeded, "receipt": None, "although_asked": number % 2 == 0}
                self.run(resolve_payment(core, organization_id, payment_id, **asked))

    def _order(self, number: int) -> Order | None:
        """One of those Safaricom has, the newest first."""
        orders = self.daraja.orders
        return orders[-1 - number % len(orders)] if orders else None

    @invariant()
    def every_promise_is_kept(self) -> None:
        _none(broken(self.run(self.office.books()), self.daraja))

    def teardown(self) -> None:
        try:
            self._comes_to_rest()
        finally:
            self.run(self.stack.aclose())
            self.runner.close()

    def _comes_to_rest(self) -> None:
        """Nothing waits for ever, and what moved twice is not counted once."""
        self.run(self.office.come_to_rest())
        books, to_review = self.run(self.office.books()), self.run(self.office.to_review())
        _none(broken(books, self.daraja))
        _none(left_waiting(books, to_review))
        _none(needlessly_unknown(books, self.daraja))
        _none(counted_twice(books, self.daraja, to_review, self.told))


def _none(sentences: list[str]) -> None:
    if sentences:
        raise AssertionError("; ".join(sentences))
