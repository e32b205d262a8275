"""What one HTTP answer of Daraja proves (daraja/codes.md §6). Pure.

The default is Unknown. Refused is said only where the table says plainly that nothing was submitted; NotSent only
where the request did not reach the back end. An acknowledgement is Accepted and proves nothing more: not the
password, not the balance, not the receiver (quirk 25).

Reasons are sentences of ours. Daraja's prose is compared with known texts and goes no further.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from mpesa_mcp.daraja.bodies import Malformed, code_at, id_at, object_at, read_object


class Operation(StrEnum):
    """What is asked of Daraja."""

    OAUTH = "oauth"
    STK_PUSH = "stk_push"
    STK_QUERY = "stk_query"
    B2C = "b2c"
    BALANCE = "balance"
    TRANSACTION_STATUS = "transaction_status"
    REVERSAL = "reversal"

    @property
    def moves_money(self) -> bool:
        # What is not known to be a question moves money: a new operation is on the safe side until it says otherwise.
        return self not in {Operation.OAUTH, Operation.STK_QUERY, Operation.BALANCE, Operation.TRANSACTION_STATUS}


@dataclass(frozen=True, slots=True)
class Accepted:
    """Daraja queued the request. Whether anything came of it, only a result or a query tells."""

    # Two of the ids embed or belong to a customer's phone (quirk 23), so none of them is printed.
    merchant_request_id: str | None
    checkout_request_id: str | None
    originator_conversation_id: str | None
    conversation_id: str | None

    def __repr__(self) -> str:
        return "Accepted(…)"


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was submitted, and the same request would be refused again."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class PhoneBusy(Refused):
    """Another prompt is open on the phone: somebody else's, or an earlier one of the same payment (quirk 19)."""

    reason: str = "The phone is busy with another M-Pesa request; no prompt was sent. Wait at least a minute."


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing was submitted; the same request may be sent later. `retry_after_seconds`: what Daraja asked for."""

    code: str
    reason: str
    retry_after_seconds: float | None


@dataclass(frozen=True, slots=True)
class Held(NotSent):
    """Not even tried: calls of the app are paused, or too many wait. It uses up no try.

    `until` is when this call may come again, `others_until` when any other of the app's may.
    """

    code: str = "held"
    reason: str = "Requests to Safaricom are paused for a moment; nothing was sent."
    retry_after_seconds: float | None = None
    until: datetime = field(kw_only=True)
    others_until: datetime = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class TokenRefused(NotSent):
    """The gateway turned a payment away for its access token alone; with another it may be sent again at once.

    If that is refused, too, it is not the token's fault (codes.md §6, quirk 54).
    """

    reason: str = "Safaricom refused an access token that had become invalid; nothing was submitted."
    retry_after_seconds: float | None = None

    @property
    def of_a_fresh_token(self) -> Refused:
        """What it means when the token was new."""
        return Refused(self.code, _NO_PRODUCT)


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been submitted or not. Ask; never send again."""

    code: str
    reason: str


Conclusion = Accepted | Refused | NotSent | Unknown

# What was to leave, and did not: it came too late, or waited too long for what it needed.
TOO_LATE: Final = NotSent("too_late", "It could not be sent in time; nothing was sent.", None)

# One refresh and one repeat are safe after these: the gateway refused the request before the back end saw it
# (codes.md §6, last rule). 404.001.03 is a token problem in spite of its status (quirk 53). A question has been
# repeated already when it is concluded.
TOKEN_REFUSALS: Final = frozenset({"400.003.01", "401", "401.001", "401.002.01", "401.003.01", "404.001.03"})

_TOO_FAST: Final = "Safaricom is limiting the rate of requests; nothing was submitted. Wait before trying again."
_QUOTA: Final = "The request quota at Safaricom is used up; nothing was submitted. Wait before trying again."
_UNCLEAR: Final = "Safaricom's answer does not say whether the request was carried out."
_NO_PRODUCT: Final = (
    "Safaricom refused a fresh access token: the app lacks the product for this operation. "
    "A person must add it on the Daraja portal; nothing was submitted."
)
_SET_UP: Final = (
    "Safaricom does not know this request as it was made; nothing was submitted. The set-up must be checked."
)
_WRONG_PASSKEY: Final = (
    "Safaricom does not accept the passkey for this shortcode; nothing was submitted. "
    "A person must correct the credentials."
)

_REFUSALS: Final = {
    "400.008.01": "Safaricom refused the consumer key and secret; nothing was submitted.",
    "400.008.02": "Safaricom refused the way the access token was asked for; nothing was submitted.",
    "400.002.05": "Safaricom could not read the request; nothing was submitted.",
    "400.003.02": "Safaricom refused an address in the request; nothing was submitted. PUBLIC_URL must be checked.",
    "404.001.01": _SET_UP,
    "404.002.01": _SET_UP,
    "404.003.01": _SET_UP,
    "404.001.04": _SET_UP,
    "405.001": _SET_UP,
} | dict.fromkeys(TOKEN_REFUSALS, _NO_PRODUCT)

# 400.002.02 names the first bad field (codes.md §6); these are the ones a caller can do something about.
_BAD_FIELDS: Final = {
    "phonenumber": "the phone number",
    "partya": "the paying side",
    "partyb": "the receiving side",
    "amount": "the amount",
    "accountreference": "the reference",
    "transactiondesc": "the description",
    "remarks": "the remarks",
    "occassion": "the occasion",
    "occasion": "the occasion",
    "transactionid": "the receipt",
    "businessshortcode": "the shortcode",
    "callbackurl": "the callback address; PUBLIC_URL must be checked",
    "resulturl": "the callback address; PUBLIC_URL must be checked",
    "queuetimeouturl": "the callback address; PUBLIC_URL must be checked",
    "initiatorname": "the initiator name",
    "initiator": "the initiator name",
    "securitycredential": "the initiator's credential",
}
_INVALID_FIELD = re.compile(r"invalid ([a-z]{1,40})$")
_TAGS = re.compile(r"^(\[[^\]]{0,40}\]\s*-?\s*)+")
_RETRY_AFTER = re.compile(r"[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """Daraja's error envelope, or the gateway's `fault` (quirk 56): a code, and a message made comparable.

    The message is normalised (case, spaces, tags like `[MerchantValidate] -`, the full stop) and only ever compared.
    """

    code: str
    message: str


def conclude(
    status: int, content_type: str | None, body: bytes, *, operation: Operation, retry_after: str | None = None
) -> Conclusion:
    """What the answer to `operation` proves. Never raises; whatever is not understood is Unknown."""
    parsed = _read(body, content_type)
    if isinstance(parsed, Unknown):
        if status == 429 and parsed.code != "html":
            return NotSent("429", _TOO_FAST, _seconds(retry_after))
        return parsed
    if 200 <= status < 300:
        return _acknowledgement(parsed, operation)
    error = error_in(parsed)
    if error is None:
        if status == 429 and "ResponseCode" not in parsed:
            return NotSent("429", _TOO_FAST, _seconds(retry_after))
        return Unknown(f"http_{status}", _UNCLEAR)
    if not _is_believed(status, error):
        return Unknown(error.code, _UNCLEAR)
    limited = _rate_limit(status, error, operation, retry_after)
    return limited if limited is not None else _error(error, operation)


def refuses_token(status: int, body: bytes) -> bool:
    """Whether the gateway turned the request away for its access token alone (quirks 52 to 54)."""
    try:
        error = error_in(read_object(body))
    except Malformed:
        return False
    return error is not None and error.code in TOKEN_REFUSALS and _is_believed(status, error)


def _is_believed(status: int, error: ErrorBody) -> bool:
    """Whether the code came at a status it may prove something at (codes.md §6): 4xx, or 500 for those that come there.

    A server that failed otherwise may have passed the request on before, whatever its answer says.
    """
    return 400 <= status < 500 or (status == 500 and not error.code.startswith("4"))


def error_in(parsed: dict[str, object]) -> ErrorBody | None:
    """The error a body states, in either of its two shapes; None when it states none or states it unreadably."""
    try:
        if "fault" in parsed:
            detail = object_at(object_at(parsed, "fault"), "detail")
            return ErrorBody(code_at(detail, "errorcode"), "")
        code = code_at(parsed, "errorCode")
    except Malformed:
        return None
    message = parsed.get("errorMessage")
    return ErrorBody(code, _normalised(message) if isinstance(message, str) else "")


def _read(body: bytes, content_type: str | None) -> dict[str, object] | Unknown:
    if not body.strip():
        return Unknown("empty", "Safaricom's answer was empty, which does not say whether the request was carried out.")
    if body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _HTML
    try:
        return read_object(body)
    except Malformed:
        # A web page from a firewall or a wrong host, at any status (quirk 55).
        return _HTML if "html" in (content_type or "").lower() else Unknown("unreadable", _UNCLEAR)


_HTML: Final = Unknown(
    "html", "A web page came instead of Safaricom's answer: a firewall or a wrong address stood in between."
)


def _acknowledgement(parsed: dict[str, object], operation: Operation) -> Conclusion:
    try:
        response_code = code_at(parsed, "ResponseCode")
        accepted = Accepted(
            merchant_request_id=id_at(parsed, "MerchantRequestID"),
            checkout_request_id=id_at(parsed, "CheckoutRequestID"),
            originator_conversation_id=id_at(parsed, "OriginatorConversationID", "OriginatorCoversationID"),
            conversation_id=id_at(parsed, "ConversationID"),
        )
    except Malformed:
        return Unknown("unreadable", _UNCLEAR)
    if response_code != "0" or "errorCode" in parsed or "fault" in parsed:
        return Unknown(response_code if response_code != "0" else "contradiction", _UNCLEAR)
    if operation is Operation.STK_PUSH:
        identified = accepted.checkout_request_id is not None
    else:
        identified = accepted.conversation_id is not None or accepted.originator_conversation_id is not None
    if not identified:
        return Unknown("no_id", "Safaricom accepted the request but gave no id by which to follow it.")
    return accepted


def _rate_limit(status: int, error: ErrorBody, operation: Operation, retry_after: str | None) -> NotSent | None:
    """Limits are not published (quirk 57), so what Daraja asks for is passed on to whoever waits."""
    violation = error.code.rpartition(".")[2].lower()
    if status == 429 or violation == "spikearrestviolation":
        return NotSent(error.code, _TOO_FAST, _seconds(retry_after))
    if violation == "quotaviolation" or (error.code == "500.003.03" and "quota violation" in error.message):
        return NotSent(error.code, _QUOTA, _seconds(retry_after))
    if error.code == "500.003.02":
        if "spike arrest violation" in error.message:
            return NotSent(error.code, _TOO_FAST, _seconds(retry_after))
        # "System is busy" is marked as inferred in the table: good enough for a question, not for a second prompt.
        if error.message.startswith("system is busy") and not operation.moves_money:
            return NotSent(error.code, _TOO_FAST, _seconds(retry_after))
    return None


def _error(error: ErrorBody, operation: Operation) -> Conclusion:
    if error.code == "400.002.02":
        return Refused(error.code, _bad_field(error.message))
    if error.code in TOKEN_REFUSALS and operation.moves_money:
        return TokenRefused(error.code)
    if error.code in _REFUSALS:
        return Refused(error.code, _REFUSALS[error.code])
    # One code, many meanings (quirk 11): for STK these texts alone say that nothing was submitted.
    if error.code == "500.001.1001" and operation in {Operation.STK_PUSH, Operation.STK_QUERY}:
        if error.message in {"wrong credentials", "merchant does not exist"}:
            return Refused(error.code, _WRONG_PASSKEY)
        if operation is Operation.STK_PUSH and error.message.startswith("unable to lock subscriber"):
            return PhoneBusy(error.code)
    # The other text of this code is a plain internal error (quirk 27); both leave the payout to be asked about.
    if error.code == "500.002.1001" and error.message == "duplicate originatorconversationid":
        return Unknown(
            error.code, "Safaricom has this payout already from an earlier try; its outcome must be asked for."
        )
    return Unknown(error.code, _UNCLEAR)


def _bad_field(message: str) -> str:
    match = _INVALID_FIELD.search(message)
    named = _BAD_FIELDS.get(match.group(1)) if match else None
    return f"Safaricom refused {named or 'a field of the request'}; nothing was submitted."


def _normalised(message: str) -> str:
    return _TAGS.sub("", " ".join(message[:500].lower().split())).strip(" .")


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After in seconds; its date form is ignored, our own back-off serves as well."""
    if retry_after is None or not _RETRY_AFTER.fullmatch(retry_after.strip()):
        return None
    return float(retry_after)
