"""What one callback states about a payment: read, given its meaning, and compared with what we asked for."""

from dataclasses import dataclass

from mpesa_mcp.callbacks.matching import Asked, b2c_disagreements, reversal_disagreements, stk_disagreements
from mpesa_mcp.daraja.codes import Meaning, Verdict, b2c_meaning, is_listed, reversal_meaning, stk_meaning
from mpesa_mcp.daraja.results import SUCCESS, B2cOutcome, ReversalOutcome, read_result, read_stk_callback
from mpesa_mcp.payments.models import Attempt, Payment
from mpesa_mcp.payments.outcomes import Evidence
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.values import Kes, clean_foreign_text

# ResultType 1: more is to come (daraja/api.md §0).
_ANNOUNCED = Meaning(Verdict.PENDING, "Safaricom announced that more is to come.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One payment callback. `disagreements` names the fields that speak of something else than we asked for.

    `is_complete`: it says what moved (amount and receipt). `names_our_id`: it repeats an id that Daraja itself gave us
    for this attempt; a path alone proves less.
    """

    meaning: Meaning
    code: str
    disagreements: list[str]
    is_complete: bool
    names_our_id: bool
    receipt: str | None
    untrusted_text: str | None
    merchant_request_id: str | None = None
    checkout_request_id: str | None = None
    conversation_id: str | None = None

    @property
    def as_evidence(self) -> Evidence:
        return Evidence(
            verdict=self.meaning.verdict,
            source="callback",
            code=self.code,
            reason=self.meaning.reason,
            receipt=self.receipt,
            untrusted_text=self.untrusted_text,
        )


def read_statement(payment: Payment, attempt: Attempt, body: bytes) -> Statement:
    """Reads the body as this attempt's operation answers. Raises Malformed."""
    asked = Asked(
        kind=PaymentKind(payment.kind),
        amount=Kes(payment.amount_cents),
        phone=payment.phone,
        receipt=payment.receipt,
        reverses_receipt=payment.reverses_receipt,
        originator_conversation_id=payment.originator_conversation_id,
        merchant_request_id=attempt.merchant_request_id,
        checkout_request_id=attempt.checkout_request_id,
        conversation_id=attempt.conversation_id,
    )
    return _READ[asked.kind](asked, body)


def _of_push(asked: Asked, body: bytes) -> Statement:
    push = read_stk_callback(body)
    return Statement(
        meaning=stk_meaning(push.result_code),
        code=_shown(push.result_code),
        disagreements=stk_disagreements(asked, push),
        is_complete=push.amount is not None and push.receipt is not None,
        names_our_id=_repeats(asked.checkout_request_id, push.checkout_request_id)
        or _repeats(asked.merchant_request_id, push.merchant_request_id),
        receipt=push.receipt,
        untrusted_text=_prose(push.result_code, push.result_desc),
        merchant_request_id=push.merchant_request_id,
        checkout_request_id=push.checkout_request_id,
    )


def _of_payout(asked: Asked, body: bytes) -> Statement:
    result = read_result(body)
    paid = B2cOutcome.of(result)
    prose = _prose(result.result_code, result.result_desc)
    return Statement(
        meaning=b2c_meaning(result.result_code) if result.is_final else _ANNOUNCED,
        code=_shown(result.result_code),
        disagreements=b2c_disagreements(asked, result, paid),
        is_complete=paid.amount is not None and paid.receipt is not None,
        names_our_id=_repeats(asked.conversation_id, result.conversation_id),
        receipt=paid.receipt,
        untrusted_text=clean_foreign_text(paid.receiver.name) if paid.receiver else prose,
        conversation_id=result.conversation_id,
    )


def _of_reversal(asked: Asked, body: bytes) -> Statement:
    result = read_result(body)
    given_back = ReversalOutcome.of(result)
    return Statement(
        meaning=reversal_meaning(result.result_code) if result.is_final else _ANNOUNCED,
        code=_shown(result.result_code),
        disagreements=reversal_disagreements(asked, result, given_back),
        is_complete=given_back.amount is not None and given_back.receipt is not None,
        names_our_id=_repeats(asked.conversation_id, result.conversation_id),
        receipt=given_back.receipt,
        untrusted_text=_prose(result.result_code, result.result_desc),
        conversation_id=result.conversation_id,
    )


_READ = {
    PaymentKind.STK_PUSH: _of_push,
    PaymentKind.B2C: _of_payout,
    PaymentKind.REVERSAL: _of_reversal,
}


def _repeats(ours: str | None, theirs: str | None) -> bool:
    return ours is not None and ours == theirs


def _shown(code: str) -> str:
    """A code that is in no table is text somebody chose; it goes no further."""
    return code if is_listed(code) else "unlisted"


def _prose(code: str, text: str) -> str | None:
    """Their words about a failure; about a success they say nothing that our own do not."""
    return None if code == SUCCESS else clean_foreign_text(text)
