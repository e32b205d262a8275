"""What a result code means (daraja/codes.md §§1, 3, 5). Pure.

Codes are compared as stripped strings and per operation, because one number means different things (its reading rules
1 and 3). A code that is not in the tables is UNKNOWN: never success, never failure (rule 5). Texts that came with a
code are never looked at (rule 4, quirk 14).

A movement fails only where its row says plainly that none was made; "no (S)" and "no by text" are UNKNOWN. On purpose:
a push that is documented as not paid fails at once even where the row says "query first", because a query would repeat
the code, another prompt pays nothing without the customer's PIN, and a late success makes a dispute. What the generic
table of §5 lists is UNKNOWN for a movement, but for the initiator's problems that §3 and §5 name for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Verdict(StrEnum):
    """What became of the movement, or of the question, that a code is about."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    PENDING = "pending"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Meaning:
    """A verdict, and one sentence of ours that says why and who must do what."""

    verdict: Verdict
    reason: str


def stk_meaning(code: str) -> Meaning:
    """The ResultCode of an STK callback or an STK query."""
    return _look_up(_STK, code)


def b2c_meaning(code: str) -> Meaning:
    """The ResultCode of a payout's result."""
    return _look_up(_B2C, code)


def reversal_meaning(code: str) -> Meaning:
    """The ResultCode of a reversal's result."""
    return _look_up(_REVERSAL, code)


def balance_meaning(code: str) -> Meaning:
    """The ResultCode of a balance inquiry: SUCCEEDED says that the question was answered."""
    return _look_up(_BALANCE, code)


def status_meaning(code: str) -> Meaning:
    """The ResultCode of a status inquiry: SUCCEEDED says that the question was answered, not that money moved."""
    return _look_up(_STATUS, code)


def transaction_status_verdict(word: str | None) -> Verdict:
    """`TransactionStatus` of an answered status inquiry (daraja/api.md §10, quirk 42)."""
    return _STATUS_WORDS.get(" ".join((word or "").lower().split()), Verdict.UNKNOWN)


def listed_status_word(word: str | None) -> str | None:
    """The word as the table spells it; one that is not there may be any text."""
    known = " ".join((word or "").lower().split())
    return known.title() if known in _STATUS_WORDS else None


def is_listed(code: str) -> bool:
    """Whether the code is in any of the tables; one that is not may be any text."""
    return any(code.strip() in table for table in (_STK, _B2C, _REVERSAL, _BALANCE, _STATUS))


def _succeeded(reason: str) -> Meaning:
    return Meaning(Verdict.SUCCEEDED, reason)


def _failed(reason: str) -> Meaning:
    return Meaning(Verdict.FAILED, reason)


def _pending(reason: str) -> Meaning:
    return Meaning(Verdict.PENDING, reason)


def _unknown(reason: str) -> Meaning:
    return Meaning(Verdict.UNKNOWN, reason)


def _look_up(table: Mapping[str, Meaning], code: str) -> Meaning:
    return table.get(code.strip(), _NOT_LISTED)


_NOT_LISTED: Final = _unknown(
    "Safaricom gave a result code whose meaning is not known; whether money moved is not known."
)
_CACHED: Final = _pending("Safaricom is holding the request and will send it on.")

_STATUS_WORDS: Final = {
    "completed": Verdict.SUCCEEDED,
    "cancelled": Verdict.FAILED,
    "declined": Verdict.FAILED,
    "expired": Verdict.FAILED,
    "initiated": Verdict.PENDING,
    "authorized": Verdict.PENDING,
    "pending authorized": Verdict.PENDING,
}


_DISMISSED: Final = _failed("The customer dismissed the prompt or let it lapse.")
_WRONG_PIN: Final = _failed("The customer entered a wrong PIN.")
_TEXT_TOO_LONG: Final = _failed("The prompt's text was too long. Use a shorter reference and description.")
_WRONG_NUMBERS: Final = _failed(
    "Safaricom does not accept this shortcode with this receiving number. An administrator must correct them."
)

# codes.md §1. "no by documentation" is taken as no: a late success still turns the payment around.
_STK: Final[Mapping[str, Meaning]] = {
    "0": _succeeded("The customer paid."),
    "1": _failed("The customer does not have enough money."),
    "2": _failed("The amount is below the least M-Pesa takes."),
    "3": _failed("The amount is above the most M-Pesa takes in one payment."),
    "4": _failed("The customer has reached the daily limit; it opens again tomorrow."),
    "8": _failed("The receiving account has reached the most it may hold. An administrator must move money out."),
    "15": _unknown("Safaricom took the request for one it has seen; whether the customer paid must be asked for."),
    # Quirk 19.
    "17": _failed("Safaricom allows the same amount from the same phone only once in two minutes."),
    "21": _failed("Safaricom does not allow this shortcode to ask for payments. An administrator must correct that."),
    "26": _failed("Safaricom was too busy to take the request."),
    "1001": _failed("The phone was busy with another M-Pesa request. Wait at least a minute."),
    "1019": _failed("The customer did not finish in time."),
    "1025": _failed("The prompt could not be sent. Use a shorter reference and description, or wait."),
    "1031": _DISMISSED,
    "1032": _DISMISSED,
    "1036": _failed("The phone could not be reached."),
    # A success may still follow after minutes (quirks 5 and 6): the payment is then disputed, not lost.
    "1037": _failed("The phone could not be reached, or the customer did not answer the prompt."),
    "1101": _TEXT_TOO_LONG,
    "1102": _TEXT_TOO_LONG,
    "2001": _WRONG_PIN,
    "2008": _WRONG_PIN,
    "2026": _failed("The session on the customer's phone was lost."),
    "2028": _WRONG_NUMBERS,
    # Pending only (quirk 10); 5000 was seen beside 4999.
    "4999": _pending("The customer has not decided yet."),
    "5000": _pending("The customer has not decided yet."),
    "8006": _failed("The customer's M-Pesa PIN is locked; the customer must call Safaricom."),
    "9999": _failed("Safaricom could not send the prompt."),
    "SFC_IC0003": _WRONG_NUMBERS,
    "100000000": _CACHED,
    "100000100": _unknown("Safaricom could not store the request; whether the customer paid must be asked for."),
}

_BAD_INITIATOR: Final = {
    "20": _failed("Safaricom does not know the initiator. An administrator must correct the credentials."),
    "21": _failed("The initiator lacks the role for this. The organization's M-Pesa administrator must grant it."),
    "2001": _failed("Safaricom refused the initiator's name or password. An administrator must correct them."),
    "8006": _failed("The initiator is locked. The organization's M-Pesa administrator must unlock it."),
}
_BAD_ACCOUNT: Final = {
    "11": _failed("The paying account is not active. The organization must ask Safaricom."),
    "2006": _failed("The rules of the paying account do not allow this. The organization must ask Safaricom."),
    "2028": _failed("The shortcode does not have the product for this. The organization must ask Safaricom."),
}

# The portal's generic table (codes.md §5) says what went wrong, not whether money moved.
_GENERIC: Final = {
    "15": "Safaricom saw the same request earlier.",
    "17": "Safaricom had an internal failure.",
    "18": "Safaricom could not check the initiator's credential.",
    "19": "Safaricom could not order the messages of this request.",
    "20": "Safaricom does not know the initiator.",
    "21": "The initiator may not act for this shortcode.",
    "22": "The initiator is not active, or may not act on the receiver.",
    "24": "The request lacked a field.",
    "25": "The request had a field in a wrong format.",
    "26": "Safaricom is blocking traffic.",
    "29": "The request had a wrong command.",
    "100000001": "Safaricom is overloaded.",
    "100000002": "Safaricom is limiting the rate of requests.",
    "100000004": "Safaricom had an internal failure.",
    "100000005": "The request had a value that Safaricom does not take.",
    "100000007": "Safaricom's service is out of order.",
    "100000009": "Safaricom's interface is out of order.",
    "100000010": "The shortcode lacks a permission.",
    "100000011": "Safaricom is limiting the rate of requests.",
    # Outages are common (quirk 64).
    "00.002.1001": "Safaricom is under maintenance.",
}
_GENERIC_MONEY: Final = {code: _unknown(f"{why} Whether money moved is not known.") for code, why in _GENERIC.items()}
_GENERIC_QUESTION: Final = {code: _failed(f"{why} The question was not answered.") for code, why in _GENERIC.items()}

_RECEIVER: Final = _failed("M-Pesa does not accept this receiver. Check the phone number with the person.")

# codes.md §3. 15, 17, 26 and 2029 do not prove what became of this payout: it is asked about by its own id.
_B2C: Final[Mapping[str, Meaning]] = {
    **_GENERIC_MONEY,
    **_BAD_INITIATOR,
    **_BAD_ACCOUNT,
    "0": _succeeded("The money was paid out."),
    "1": _failed("The utility account does not hold enough money. The organization must top it up."),
    "2": _failed("The amount is below the least M-Pesa pays out."),
    "3": _failed("The amount is above the most M-Pesa pays out at once."),
    "4": _failed("The receiver has reached the daily limit; it opens again tomorrow."),
    "5": _failed("The paying account would fall below its least balance. The organization must top it up."),
    "6": _failed("Safaricom could not identify a side of the payment. An administrator must check the credentials."),
    "7": _RECEIVER,
    "8": _failed("The receiver's wallet is full."),
    "12": _RECEIVER,
    "13": _failed("Safaricom could not identify the paying account. An administrator must check the credentials."),
    "14": _failed("The receiver's account cannot take money now."),
    "15": _unknown("Safaricom saw this payout earlier; the earlier one counts, and its outcome must be asked for."),
    "17": _unknown("Safaricom had an internal failure; whether the money was paid out is not known."),
    "26": _unknown("Safaricom says it was too busy to take the payout; whether it was paid out must be asked for."),
    "1005": _failed("Safaricom does not accept the account reference."),
    "2007": _failed("A check outside M-Pesa refused the payout. The organization must ask Safaricom."),
    "2020": _failed("Safaricom does not accept the format of the amount."),
    "2029": _unknown("Safaricom could not name the reason of the payout; whether the money was paid out is not known."),
    "2033": _failed("Safaricom does not know the receipt."),
    "2040": _failed("The receiver is not registered with M-Pesa. Check the phone number with the person."),
    "2043": _failed("The receiving organization does not belong to this one."),
    "2051": _RECEIVER,
    "2202": _failed("Safaricom does not accept the account number."),
    "SFC_IC0003": _RECEIVER,
    "R002": _failed("Safaricom does not know this kind of identity document."),
    "R003": _failed("The identity number does not match the receiver."),
    "100000000": _CACHED,
}

# codes.md §5. R000001 says that something reversed it earlier; only a question tells whether it was this request.
_REVERSAL: Final[Mapping[str, Meaning]] = {
    **_GENERIC_MONEY,
    **{code: _BAD_INITIATOR[code] for code in ("21", "2001", "8006")},
    **_BAD_ACCOUNT,
    "0": _succeeded("The money went back to the customer."),
    "1": _failed("The account does not hold enough money to give back. The organization must top it up."),
    "R000001": _unknown("The payment was reversed earlier; whether by this request must be asked."),
    "R000002": _failed("Safaricom does not know the receipt as an incoming payment of this shortcode."),
    "100000000": _CACHED,
}

_QUESTION: Final = {**_GENERIC_QUESTION, **_BAD_INITIATOR, "100000000": _CACHED}

_BALANCE: Final[Mapping[str, Meaning]] = {**_QUESTION, "0": _succeeded("Safaricom answered.")}

_STATUS: Final[Mapping[str, Meaning]] = {
    **_QUESTION,
    "0": _succeeded("Safaricom answered."),
    "25": _failed("The question lacked a receipt or conversation id, or had a malformed one."),
    "2032": _failed("Safaricom does not know this receipt now; a fresh one may need a few minutes."),
    "SFC_IC0003": _failed("Safaricom does not know the party the question named."),
}
