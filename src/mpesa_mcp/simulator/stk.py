"""STK push and its query (daraja/api.md §2 and §3). Two pushes are two payments (quirk 18)."""

from collections.abc import Mapping
from dataclasses import dataclass

from mpesa_mcp.simulator import requests, wire
from mpesa_mcp.simulator.accounts import Kind
from mpesa_mcp.simulator.outcomes import Decision, stk_outcome
from mpesa_mcp.simulator.payments import Payment, State
from mpesa_mcp.simulator.requests import Fields
from mpesa_mcp.simulator.simulation import Simulation, stk_password
from mpesa_mcp.simulator.stories import begin, refusal
from mpesa_mcp.simulator.wire import Answer

CANCELLED = "1032"
PENDING_CODE = "4999"
PENDING_TEXT = "The transaction is being processed"
MIN_SLOW_ANSWERS = 2


@dataclass(frozen=True, slots=True)
class StkTelling:
    simulation: Simulation
    payment: Payment
    callback_url: str

    async def result(self) -> None:
        await self._post(wire.stk_callback(self.payment), f"stk result {self.payment.code}")

    async def forgery(self) -> None:
        receipt = self.simulation.identifiers.receipt()
        body = wire.stk_forgery(self.payment, receipt=receipt, at=self.simulation.now())
        await self._post(body, "stk forgery")

    async def timeout_echo(self) -> None:
        """STK has no QueueTimeOutURL."""

    async def timeout_envelope(self) -> None:
        """STK has no QueueTimeOutURL."""

    async def _post(self, body: object, about: str) -> None:
        headers = {"BusinessShortCode": self.payment.shortcode}
        await self.simulation.deliveries.post(self.callback_url, body, about=about, headers=headers)


async def push(simulation: Simulation, body: Mapping[str, object]) -> Answer:
    """Raises InvalidField."""
    asked = requests.read(requests.STK_PUSH, body)
    if not _password_is_right(asked):
        return simulation.error(500, "500.001.1001", "Wrong credentials")
    phone = asked["PhoneNumber"]
    outcome = stk_outcome(phone)
    refused = refusal(simulation, "stk_push", phone, outcome)
    if refused is not None:
        return refused
    payment = _accept(simulation, asked)
    if outcome.decision is Decision.ASKS_A_PERSON:
        simulation.phones.phone(phone).ask(payment)
    return await begin(
        simulation,
        payment,
        outcome,
        StkTelling(simulation, payment, payment.callback_url),
        accepted=wire.stk_accepted(payment),
        failed=simulation.error(500, "500.003.1001", "Internal Server Error"),
    )


def _accept(simulation: Simulation, asked: Fields) -> Payment:
    ids = simulation.identifiers
    payment = Payment(
        kind=Kind.STK,
        shortcode=asked["BusinessShortCode"],
        party=asked["PhoneNumber"],
        amount=int(asked["Amount"]),
        accepted_at=simulation.now(),
        originator_conversation_id=ids.merchant_request_id(),
        conversation_id=ids.conversation_id(),
        checkout_request_id=ids.checkout_request_id(asked["PhoneNumber"]),
        reference=asked["AccountReference"],
        description=asked["TransactionDesc"],
        reason_type="Pay Bill Online" if asked["TransactionType"] == "CustomerPayBillOnline" else "Buy Goods Online",
        callback_url=asked["CallBackURL"],
    )
    simulation.book.add(payment)
    simulation.phones.phone(payment.party)
    return payment


async def query(simulation: Simulation, body: Mapping[str, object]) -> Answer:
    """Raises InvalidField. A checkout of another shortcode does not exist."""
    asked = requests.read(requests.STK_QUERY, body)
    if not _password_is_right(asked):
        return simulation.error(500, "500.001.1001", "Wrong credentials")
    payment = simulation.book.checkout(asked["CheckoutRequestID"])
    if payment is None or payment.shortcode != asked["BusinessShortCode"]:
        return simulation.error(500, "500.001.1001", "The transaction does not Exist")
    if stk_outcome(payment.party).slow_query:
        return _slow_answer(simulation, payment)
    if payment.state is State.UNDECIDED:
        return _pending_answer(simulation, payment)
    return wire.stk_query_answer(payment, payment.code)


def _slow_answer(simulation: Simulation, payment: Payment) -> Answer:
    """4999 and `being processed` in turn, long after the money moved."""
    undecided = payment.state is State.UNDECIDED or payment.query_is_slow
    if not undecided and payment.pending_answers >= MIN_SLOW_ANSWERS:
        return wire.stk_query_answer(payment, payment.code)
    payment.pending_answers += 1
    if payment.pending_answers % 2 == 1:
        return wire.stk_query_answer(payment, PENDING_CODE)
    return simulation.error(500, "500.001.1001", PENDING_TEXT)


def _pending_answer(simulation: Simulation, payment: Payment) -> Answer:
    """One of the three ways in which Daraja says that it does not know yet (quirk 10), chosen by the seed."""
    choice = simulation.moods.randrange(3)
    if choice == 0:
        return wire.stk_query_answer(payment, PENDING_CODE)
    return simulation.error(500, "500.001.1001", PENDING_TEXT if choice == 1 else "")


async def answer_prompt(simulation: Simulation, payment: Payment, *, pays: bool) -> None:
    """What the person at the phone decided; the callback goes out at once."""
    if pays:
        simulation.succeed(payment)
    else:
        simulation.fail(payment, CANCELLED)
    telling = StkTelling(simulation, payment, payment.callback_url)
    simulation.schedule.start(telling.result)


def _password_is_right(asked: Fields) -> bool:
    return asked["Password"] == stk_password(asked["BusinessShortCode"], asked["Timestamp"])
