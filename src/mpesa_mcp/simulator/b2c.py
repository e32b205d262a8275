"""B2C v3 payouts (daraja/api.md §5). An OriginatorConversationID that was accepted once is refused ever after."""

from collections.abc import Mapping
from dataclasses import dataclass

from mpesa_mcp.simulator import requests, wire
from mpesa_mcp.simulator.accounts import Kind
from mpesa_mcp.simulator.outcomes import b2c_outcome, failure
from mpesa_mcp.simulator.payments import Payment
from mpesa_mcp.simulator.requests import Fields
from mpesa_mcp.simulator.simulation import Simulation
from mpesa_mcp.simulator.stories import begin, refusal
from mpesa_mcp.simulator.wire import Answer, Json

REASONS = {
    "BusinessPayment": "Business Payment to Customer via API",
    "SalaryPayment": "Salary Payment via API",
    "PromotionPayment": "Promotion Payment via API",
}


@dataclass(frozen=True, slots=True)
class PayoutTelling:
    simulation: Simulation
    payment: Payment
    timeout_url: str
    request: Mapping[str, object]

    async def result(self) -> None:
        code = self.payment.code
        await self._post(self.payment.callback_url, payout_result(self.simulation, self.payment), f"b2c result {code}")

    async def forgery(self) -> None:
        body = payout_forgery(self.simulation, self.payment)
        await self._post(self.payment.callback_url, body, "b2c forgery")

    async def timeout_echo(self) -> None:
        await self._post(self.timeout_url, self.request, "b2c timeout, request echoed")

    async def timeout_envelope(self) -> None:
        await self._post(self.timeout_url, wire.timeout_envelope(self.payment), "b2c timeout")

    async def _post(self, url: str, body: object, about: str) -> None:
        await self.simulation.deliveries.post(url, body, about=about)


async def pay(simulation: Simulation, body: Mapping[str, object]) -> Answer:
    """Raises InvalidField."""
    asked = requests.read(requests.B2C, body)
    phone = asked["PartyB"]
    outcome = b2c_outcome(phone)
    refused = refusal(simulation, "b2c", phone, outcome)
    if refused is not None:
        return refused
    if simulation.book.find(asked["OriginatorConversationID"]) is not None:
        return simulation.error(500, "500.002.1001", "Duplicate OriginatorConversationID.")
    payment = _accept(simulation, asked)
    wrong_operator = simulation.initiators.refusal(
        shortcode=payment.shortcode, name=asked["InitiatorName"], credential=asked["SecurityCredential"]
    )
    if wrong_operator is not None:
        outcome = failure(wrong_operator)
    acknowledgement = wire.acknowledgement(
        originator=payment.originator_conversation_id, conversation=payment.conversation_id
    )
    return await begin(
        simulation,
        payment,
        outcome,
        PayoutTelling(simulation, payment, asked["QueueTimeOutURL"], body),
        accepted=acknowledgement,
        failed=simulation.error(500, "500.002.1001", "System internal error."),
    )


def _accept(simulation: Simulation, asked: Fields) -> Payment:
    payment = Payment(
        kind=Kind.B2C,
        shortcode=asked["PartyA"],
        party=asked["PartyB"],
        amount=int(asked["Amount"]),
        accepted_at=simulation.now(),
        originator_conversation_id=asked["OriginatorConversationID"],
        conversation_id=simulation.identifiers.conversation_id(),
        reference=asked["Occassion"],
        description=asked["Remarks"],
        reason_type=REASONS[asked["CommandID"]],
        callback_url=asked["ResultURL"],
    )
    simulation.book.add(payment)
    simulation.phones.phone(payment.party)
    return payment


def payout_result(simulation: Simulation, payment: Payment) -> Json:
    """The true result. A failure has no parameters, and a placeholder where a receipt would be (quirk 34)."""
    parameters: list[Json] = []
    if payment.receipt is not None and payment.decided_at is not None:
        parameters = wire.payout_parameters(
            amount=payment.amount,
            receipt=payment.receipt,
            phone=payment.party,
            at=payment.decided_at,
            accounts=simulation.ledger.accounts(payment.shortcode),
        )
    return wire.result(
        code=payment.code,
        originator=payment.originator_conversation_id,
        conversation=payment.conversation_id,
        transaction=payment.receipt or simulation.identifiers.placeholder(),
        parameters=parameters,
        reference=wire.queue_timeout_reference("b2cresults"),
    )


def payout_forgery(simulation: Simulation, payment: Payment) -> Json:
    """What an attacker who learned the ids would post: a success of ten times the amount."""
    receipt = simulation.identifiers.receipt()
    return wire.result(
        code="0",
        originator=payment.originator_conversation_id,
        conversation=payment.conversation_id,
        transaction=receipt,
        parameters=wire.payout_parameters(
            amount=payment.amount * 10,
            receipt=receipt,
            phone=payment.party,
            at=simulation.now(),
            accounts=simulation.ledger.accounts(payment.shortcode),
        ),
        reference=wire.queue_timeout_reference("b2cresults"),
    )
