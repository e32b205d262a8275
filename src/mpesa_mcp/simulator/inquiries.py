"""Account balance and transaction status (daraja/api.md §9 and §10). They move nothing and always deliver a result."""

from collections.abc import Callable, Mapping

from mpesa_mcp.simulator import requests, wire
from mpesa_mcp.simulator.accounts import Kind
from mpesa_mcp.simulator.payments import Payment, State
from mpesa_mcp.simulator.requests import Fields
from mpesa_mcp.simulator.schedule import pause
from mpesa_mcp.simulator.simulation import Simulation
from mpesa_mcp.simulator.wire import Answer, Json, item

UNKNOWN_RECEIPT = "2032"
MISSING_PARAMETER = "25"

# Gives ResultCode and ResultParameters; called when the result is due, so that it tells the state of that moment.
Finding = Callable[[], tuple[str, list[Json]]]


async def balance(simulation: Simulation, body: Mapping[str, object]) -> Answer:
    """Raises InvalidField."""
    asked = requests.read(requests.BALANCE, body)
    accounts = simulation.ledger.accounts(asked["PartyA"])

    def find() -> tuple[str, list[Json]]:
        return "0", wire.balance_parameters(accounts, simulation.now())

    return _inquire(simulation, asked, find, wire.queue_timeout_reference("abresults"), about="balance")


async def status(simulation: Simulation, body: Mapping[str, object]) -> Answer:
    """Raises InvalidField. Only payments of the asking shortcode are known to it."""
    asked = requests.read(requests.STATUS, body)

    def find() -> tuple[str, list[Json]]:
        if not asked["TransactionID"] and not asked["OriginalConversationID"]:
            return MISSING_PARAMETER, []
        payment = _asked_payment(simulation, asked)
        if payment is None:
            return UNKNOWN_RECEIPT, []
        return "0", status_parameters(simulation, payment)

    reference = item("Occasion", asked["Occasion"] or None)
    return _inquire(simulation, asked, find, reference, about="transaction status")


def _asked_payment(simulation: Simulation, asked: Fields) -> Payment | None:
    payment = None
    if asked["TransactionID"]:
        payment = simulation.book.find(asked["TransactionID"])
        if payment is not None and payment.receipt != asked["TransactionID"]:
            payment = None
    elif asked["OriginalConversationID"]:
        payment = simulation.book.find(asked["OriginalConversationID"])
        # Whether Daraja knows an STK push by one of its ids here is not established: it does not.
        if payment is not None and payment.kind is Kind.STK:
            payment = None
    return payment if payment is not None and payment.shortcode == asked["PartyA"] else None


def _inquire(simulation: Simulation, asked: Fields, find: Finding, reference: Json, *, about: str) -> Answer:
    originator = simulation.identifiers.merchant_request_id()
    conversation = simulation.identifiers.conversation_id()
    wrong_operator = simulation.initiators.refusal(
        shortcode=asked["PartyA"], name=asked["Initiator"], credential=asked["SecurityCredential"]
    )

    async def deliver() -> None:
        await pause(simulation.delay_seconds)
        code, parameters = (wrong_operator, []) if wrong_operator is not None else find()
        body = wire.result(
            code=code,
            originator=originator,
            conversation=conversation,
            transaction=simulation.identifiers.placeholder(),
            parameters=parameters,
            reference=reference,
        )
        await simulation.deliveries.post(asked["ResultURL"], body, about=f"{about} result {code}")

    simulation.schedule.start(deliver)
    return wire.acknowledgement(originator=originator, conversation=conversation)


def status_parameters(simulation: Simulation, payment: Payment) -> list[Json]:
    """Incoming money as captured in production, outgoing money as in the official sample (quirk 30)."""
    facts = _incoming(payment) if payment.kind is Kind.STK else _outgoing(payment)
    finalised = [] if payment.decided_at is None else [item("FinalisedTime", wire.eat_number(payment.decided_at))]
    return [
        *facts,
        item("TransactionReason"),
        item("ReasonType", payment.reason_type),
        item("TransactionStatus", wire.transaction_status(payment)),
        *finalised,
        item("Amount", payment.amount),
        item("ConversationID", payment.conversation_id),
        item("ReceiptNo", payment.receipt or simulation.identifiers.placeholder()),
    ]


def _incoming(payment: Payment) -> list[Json]:
    return [
        item("DebitPartyName", wire.customer(payment.party)),
        item("CreditPartyName", wire.organization(payment.shortcode)),
        item("OriginatorConversationID", payment.checkout_request_id),
        item("InitiatedTime", wire.eat_number(payment.accepted_at)),
        item("CreditPartyCharges"),
        item("DebitAccountType", "MMF Account For Customer"),
    ]


def _outgoing(payment: Payment) -> list[Json]:
    """DebitPartyName twice: the first is the organization, the second the customer."""
    charge = "Fee For B2C Payment|KES|0.00"
    return [
        item("DebitPartyName", wire.organization(payment.shortcode)),
        item("DebitPartyName", wire.customer(payment.party) if payment.party else None),
        item("OriginatorConversationID", payment.originator_conversation_id),
        item("InitiatedTime", wire.eat_number(payment.accepted_at)),
        item("DebitAccountType", "Utility Account"),
        item("DebitPartyCharges", charge if payment.kind is Kind.B2C and payment.state is State.SUCCEEDED else ""),
    ]
