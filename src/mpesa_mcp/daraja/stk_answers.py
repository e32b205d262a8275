"""What the answer to an STK query proves (daraja/api.md §3, quirks 10 to 14). Pure.

One and the same state may come as code 4999, as an error "The transaction is being processed", or as that error
without a text, within one minute. Only a result code of the table, for the checkout asked about, decides anything.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from mpesa_mcp.daraja.bodies import Malformed, code_at, id_at, read_object
from mpesa_mcp.daraja.codes import Verdict, stk_meaning
from mpesa_mcp.daraja.conclusions import Accepted, Operation, conclude, error_in


@dataclass(frozen=True, slots=True)
class Decided:
    """The prompt has a final result; `codes.stk_meaning` tells which. There is no amount and no receipt in it."""

    result_code: str
    merchant_request_id: str | None = field(repr=False)
    checkout_request_id: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class StillPending:
    """The customer has not decided yet, as far as Safaricom says."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """The answer tells nothing about the prompt; ask again later. `reason` is a sentence of ours."""

    reason: str
    code: str = "nothing"


@dataclass(frozen=True, slots=True)
class NotAsked(Nothing):
    """The question was held back before it left; it may be asked again at `until`, and this one does not count."""

    until: datetime = field(kw_only=True)


StkQueryAnswer = Decided | StillPending | Nothing

_PROCESSING: Final = "500.001.1001"
_NO_ANSWER: Final = "Safaricom did not answer the question about this prompt."


def read_stk_answer(
    status: int, content_type: str | None, body: bytes, *, checkout_request_id: str, retry_after: str | None = None
) -> StkQueryAnswer:
    """Never raises."""
    if not 200 <= status < 300:
        return _from_error(status, content_type, body, retry_after)
    try:
        parsed = read_object(body)
        answered = code_at(parsed, "ResponseCode")
        result_code = code_at(parsed, "ResultCode")
        merchant = id_at(parsed, "MerchantRequestID")
        checkout = id_at(parsed, "CheckoutRequestID")
    except Malformed:
        return _from_error(status, content_type, body, retry_after)
    if answered != "0":
        return Nothing(_NO_ANSWER, answered)
    if checkout is not None and checkout != checkout_request_id:
        return Nothing("Safaricom answered about another prompt.", "other_checkout")
    meaning = stk_meaning(result_code)
    match meaning.verdict:
        case Verdict.SUCCEEDED | Verdict.FAILED:
            return Decided(result_code, merchant, checkout)
        case Verdict.PENDING:
            return StillPending()
        case Verdict.UNKNOWN:
            return Nothing(meaning.reason, result_code)


def _from_error(status: int, content_type: str | None, body: bytes, retry_after: str | None) -> StkQueryAnswer:
    try:
        error = error_in(read_object(body))
    except Malformed:
        error = None
    if error is not None and status >= 400 and error.code == _PROCESSING:
        # Without a text it is noise that comes between good answers for a prompt that exists (quirk 10).
        if error.message in {"the transaction is being processed", ""}:
            return StillPending()
        if error.message == "the transaction does not exist":
            # Unknown, too early or too old: not a failure (quirk 12).
            return Nothing("Safaricom does not know this prompt now.", "does_not_exist")
    conclusion = conclude(status, content_type, body, operation=Operation.STK_QUERY, retry_after=retry_after)
    if isinstance(conclusion, Accepted):
        return Nothing(_NO_ANSWER, "no_result")
    return Nothing(conclusion.reason, conclusion.code)
