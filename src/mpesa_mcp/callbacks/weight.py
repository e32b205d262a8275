"""What a callback weighs: whether it may settle a payment alone, or our own question must confirm it."""

from mpesa_mcp.callbacks.models import Callback
from mpesa_mcp.callbacks.statements import Statement
from mpesa_mcp.daraja.codes import Verdict
from mpesa_mcp.payments.models import Attempt, Payment
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus, Reply
from mpesa_mcp.values import Kes


def is_evidence(said: Statement) -> bool:
    """Whether the callback alone counts: it names an id Daraja gave us, and a success says what moved."""
    match said.meaning.verdict:
        case Verdict.SUCCEEDED:
            return said.names_our_id and said.is_complete
        case Verdict.FAILED:
            return said.names_our_id
        case Verdict.PENDING | Verdict.UNKNOWN:
            return True  # it settles nothing: at most the payment is unknown, and asked about


def must_be_confirmed(
    payment: Payment, attempt: Attempt, callback: Callback, said: Statement, confirm_payouts_from: Kes
) -> bool:
    """Whether this success would settle the payment, and must not do so on a callback's word alone.

    One that came before Daraja's own answer could not know what the answer says; and much money does not leave the
    books by an unsigned message.
    """
    if said.meaning.verdict is not Verdict.SUCCEEDED or PaymentStatus(payment.status).is_settled:
        return False
    if attempt.reply != Reply.ACCEPTED or attempt.replied_at is None or callback.received_at < attempt.replied_at:
        return True
    return PaymentKind(payment.kind).pays_out and payment.amount_cents >= confirm_payouts_from.cents
