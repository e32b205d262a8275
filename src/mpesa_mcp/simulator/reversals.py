"""Reversal of money the shortcode received (daraja/api.md §11): once per receipt, whole amounts, with its own receipt.

The customer's payment stays `Completed` in Transaction Status, for it did complete; the reversal is another movement.
"""

from collections.abc import Mapping

from mpesa_mcp.simulator import requests, wire
from mpesa_mcp.simulator.accounts import Kind
from mpesa_mcp.simulator.payments import Payment, State
from mpesa_mcp.simulator.requests import Fields
from mpesa_mcp.simulator.schedule import pause
from mpesa_mcp.simulator.simulation import Simulation
from mpesa_mcp.simulator.wire import Answer, Json

ALREADY_REVERSED = "R000001"
INVALID_ORIGINAL = "R000002"
INSUFFICIENT = "1"


async def reverse(simulation: Simulation, body: Mapping[str, object]) -> Answer:
    """Raises InvalidField."""
    asked = requests.read(requests.REVERSAL, body)
    payment = _accept(simulation, asked)
    wrong_operator = simulation.initiators.refusal(
        shortcode=payment.shortcode, name=asked["Initiator"], credential=asked["SecurityCredential"]
    )

    async def live() -> None:
        await pause(simulation.delay_seconds)
        if wrong_operator is not None:
            simulation.fail(payment, wrong_operator)
        else:
            decide(simulation, payment)
        result = reversal_result(simulation, payment)
        await simulation.deliveries.post(payment.callback_url, result, about=f"reversal result {payment.code}")

    simulation.schedule.start(live)
    return wire.acknowledgement(originator=payment.originator_conversation_id, conversation=payment.conversation_id)


def _accept(simulation: Simulation, asked: Fields) -> Payment:
    original = simulation.book.find(asked["TransactionID"])
    is_own = original is not None and original.shortcode == asked["ReceiverParty"]
    payment = Payment(
        kind=Kind.REVERSAL,
        shortcode=asked["ReceiverParty"],
        party=original.party if original is not None and is_own else "",
        amount=int(asked["Amount"]),
        accepted_at=simulation.now(),
        originator_conversation_id=simulation.identifiers.merchant_request_id(),
        conversation_id=simulation.identifiers.conversation_id(),
        reference=asked["TransactionID"],
        description=asked["Remarks"],
        reason_type="Transaction Reversal via API",
        callback_url=asked["ResultURL"],
    )
    simulation.book.add(payment)
    return payment


def decide(simulation: Simulation, payment: Payment) -> None:
    """Nothing is awaited between the look at the original and the movement: two reversals cannot both pass."""
    original = simulation.book.find(payment.reference)
    if original is None or not _is_reversible(original, payment):
        simulation.fail(payment, INVALID_ORIGINAL)
    elif original.reversed_by is not None:
        simulation.fail(payment, ALREADY_REVERSED)
    elif not simulation.ledger.can_pay(payment.shortcode, payment.amount):
        simulation.fail(payment, INSUFFICIENT)
    else:
        simulation.succeed(payment)
        original.reversed_by = payment.receipt


def _is_reversible(original: Payment, reversal: Payment) -> bool:
    """Incoming money of this shortcode, named by its receipt, in full."""
    return (
        original.kind is Kind.STK
        and original.state is State.SUCCEEDED
        and original.receipt == reversal.reference
        and original.shortcode == reversal.shortcode
        and original.amount == reversal.amount
    )


def reversal_result(simulation: Simulation, payment: Payment) -> Json:
    parameters: list[Json] = []
    if payment.decided_at is not None and payment.state is State.SUCCEEDED:
        accounts = simulation.ledger.accounts(payment.shortcode)
        parameters = wire.reversal_parameters(payment, payment.reference, payment.decided_at, accounts)
    return wire.result(
        code=payment.code,
        originator=payment.originator_conversation_id,
        conversation=payment.conversation_id,
        transaction=payment.receipt or simulation.identifiers.placeholder(),
        parameters=parameters,
        reference=wire.queue_timeout_reference("reversalresults"),
    )
