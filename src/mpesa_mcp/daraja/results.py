"""Reads what Safaricom posts: STK callbacks, results, timeout notices. Pure, and decides nothing.

A body is evidence only as far as it can be read in one way: a missing, null, boolean or fractional result code, a
key twice, two different amounts are Malformed, never success. Nothing here says that a payment happened; `codes`
gives a code its meaning, and the payment compares every field with what it asked for.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Self

from mpesa_mcp.daraja.bodies import Malformed, as_id, code_at, id_at, object_at, read_object, text_at
from mpesa_mcp.daraja.codes import Verdict, listed_status_word, transaction_status_verdict
from mpesa_mcp.daraja.parameters import Parameters, Party, read_money, read_phone, read_receipt, read_time
from mpesa_mcp.values import Kes

__all__ = [
    "Account",
    "B2cOutcome",
    "BalanceOutcome",
    "Malformed",
    "Parameters",
    "Party",
    "Result",
    "ReversalOutcome",
    "StatusOutcome",
    "StkCallback",
    "TimeoutShape",
    "read_result",
    "read_stk_callback",
    "read_timeout",
]

SUCCESS = "0"


@dataclass(frozen=True, slots=True)
class StkCallback:
    """The verdict on one prompt (daraja/api.md §2). Nothing we chose comes back but the path it came on (quirk 7).

    `result_desc` is foreign text. A receipt is given only with a success (quirk 34); `phone` is twelve digits.
    """

    merchant_request_id: str | None
    checkout_request_id: str | None = field(repr=False)  # it contains the customer's phone (quirk 23)
    result_code: str
    result_desc: str = field(repr=False)
    amount: Kes | None
    receipt: str | None
    phone: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Result:
    """What came to a ResultURL (daraja/api.md §0). `result_desc` and parameters are foreign text.

    The ids need not be those of the acknowledgement (quirk 33). ReferenceData is not read: it repeats what we sent, and
    may name a QueueTimeoutURL, which is Safaricom's own and is never called (quirk 32).
    """

    result_type: str | None
    result_code: str
    result_desc: str = field(repr=False)
    originator_conversation_id: str | None
    conversation_id: str | None
    transaction_id: str | None
    parameters: Parameters = field(repr=False)

    @property
    def is_final(self) -> bool:
        """ResultType 1 announces further messages; only 0, or none stated, closes the matter."""
        return self.result_type in {None, "0"}

    @property
    def succeeded(self) -> bool:
        return self.is_final and self.result_code == SUCCESS

    @property
    def receipt(self) -> str | None:
        """The receipt of the movement this result reports; in a failed result it is none (quirk 34)."""
        return read_receipt(self.transaction_id) if self.succeeded else None


class TimeoutShape(StrEnum):
    """The shapes in which a QueueTimeOut is said to come (quirk 28).

    It says that a request waited too long in a queue, which always means unknown: the movement may still happen
    (quirk 26).
    """

    RESULT = "result"
    REQUEST_ECHO = "request_echo"
    EMPTY = "empty"
    UNRECOGNISED = "unrecognised"


def read_stk_callback(raw: bytes) -> StkCallback:
    """Raises Malformed."""
    callback = object_at(object_at(read_object(raw), "Body"), "stkCallback")
    code = code_at(callback, "ResultCode")
    # Absent on failure; by name, because Balance has no Value and the order is not fixed (quirk 15).
    metadata = Parameters.read(callback.get("CallbackMetadata"), item="Item", name="Name")
    receipt = read_receipt(metadata.only("MpesaReceiptNumber"))
    return StkCallback(
        merchant_request_id=id_at(callback, "MerchantRequestID"),
        checkout_request_id=id_at(callback, "CheckoutRequestID"),
        result_code=code,
        result_desc=text_at(callback, "ResultDesc"),
        amount=read_money(metadata.only("Amount")),
        receipt=receipt if code == SUCCESS else None,
        phone=read_phone(metadata.only("PhoneNumber")),
    )


def read_result(raw: bytes) -> Result:
    """Raises Malformed."""
    return _result_in(read_object(raw))


def read_timeout(raw: bytes) -> TimeoutShape:
    """The shape of a QueueTimeOut; never raises, for no shape of it says more than unknown."""
    if not raw.strip():
        return TimeoutShape.EMPTY
    try:
        body = read_object(raw)
    except Malformed:
        return TimeoutShape.UNRECOGNISED
    if isinstance(body.get("Result"), dict):
        return TimeoutShape.RESULT
    return TimeoutShape.REQUEST_ECHO if "CommandID" in body else TimeoutShape.UNRECOGNISED


@dataclass(frozen=True, slots=True)
class B2cOutcome:
    """What a payout's result says (daraja/api.md §5). What is left in the organization's accounts is not read."""

    receipt: str | None
    amount: Kes | None
    receiver: Party | None

    @classmethod
    def of(cls, result: Result) -> Self:
        """Raises Malformed when two values of one thing differ."""
        said = result.parameters
        stated = read_receipt(said.only("TransactionReceipt"))
        return cls(
            # A success without parameters still has its TransactionID (quirk 43).
            receipt=(stated or result.receipt) if result.succeeded else None,
            amount=read_money(said.only("TransactionAmount")),
            receiver=Party.read(said.only("ReceiverPartyPublicName")),
        )


@dataclass(frozen=True, slots=True)
class ReversalOutcome:
    """What a reversal's result says (daraja/api.md §11). `receipt` is the reversal's own (quirk 40)."""

    receipt: str | None
    original_receipt: str | None
    amount: Kes | None
    credit_party: Party | None

    @classmethod
    def of(cls, result: Result) -> Self:
        """Raises Malformed when two values of one thing differ."""
        said = result.parameters
        return cls(
            receipt=result.receipt,
            original_receipt=read_receipt(said.only("OriginalTransactionID")),
            amount=read_money(said.only("Amount")),
            credit_party=Party.read(said.first("CreditPartyPublicName")),
        )


@dataclass(frozen=True, slots=True)
class Account:
    """One account of an organization. `name` is foreign text; the charges account is normally negative (quirk 36)."""

    name: str
    currency: str
    current: Kes
    available: Kes
    reserved: Kes
    uncleared: Kes


@dataclass(frozen=True, slots=True)
class BalanceOutcome:
    """The accounts in the order they came; which there are varies (quirk 36)."""

    accounts: tuple[Account, ...]

    @classmethod
    def of(cls, result: Result) -> Self:
        """Raises Malformed when an account cannot be read: a balance with a hole would mislead."""
        said = result.parameters
        # By name: ActionType may come first (quirk 38).
        return cls(accounts=tuple(_accounts(said.only("AccountBalance") or "")))


@dataclass(frozen=True, slots=True)
class StatusOutcome:
    """What Safaricom knows about one movement (daraja/api.md §10).

    The ids and the receipt are those of the movement asked about, not of the question.
    """

    transaction_status: str | None
    verdict: Verdict
    receipt: str | None
    amount: Kes | None
    debit_party: Party | None
    credit_party: Party | None
    initiated_at: datetime | None
    finalised_at: datetime | None
    originator_conversation_id: str | None = field(repr=False)  # a CheckoutRequestID for an STK payment
    conversation_id: str | None

    @classmethod
    def of(cls, result: Result) -> Self:
        """Raises Malformed when two values of one thing differ.

        `verdict` is SUCCEEDED for `Completed` only: a result code 0 says no more than that the question was
        answered (quirk 42).
        """
        said = result.parameters
        word = said.only("TransactionStatus")
        debit = said.all("DebitPartyName")
        # The official sample names DebitPartyName twice; the second is the receiver (quirk 30).
        credit = said.only("CreditPartyName") or (debit[1] if len(debit) > 1 else None)
        return cls(
            transaction_status=listed_status_word(word),
            verdict=transaction_status_verdict(word) if result.succeeded else Verdict.UNKNOWN,
            receipt=read_receipt(said.only("ReceiptNo")) if result.succeeded else None,
            amount=read_money(said.only("Amount")),
            debit_party=Party.read(debit[0] if debit else None),
            credit_party=Party.read(credit),
            initiated_at=read_time(said.first("InitiatedTime")),
            finalised_at=read_time(said.first("FinalisedTime")),
            originator_conversation_id=as_id(said.only("OriginatorConversationID")),
            conversation_id=as_id(said.only("ConversationID")),
        )


_ACCOUNT_FIELDS = 6


def _result_in(body: dict[str, object]) -> Result:
    result = object_at(body, "Result")
    return Result(
        result_type=None if result.get("ResultType") is None else code_at(result, "ResultType"),
        result_code=code_at(result, "ResultCode"),
        result_desc=text_at(result, "ResultDesc"),
        originator_conversation_id=id_at(result, "OriginatorConversationID", "OriginatorCoversationID"),
        conversation_id=id_at(result, "ConversationID"),
        transaction_id=id_at(result, "TransactionID"),
        parameters=Parameters.read(result.get("ResultParameters"), item="ResultParameter"),
    )


def _accounts(text: str) -> Iterator[Account]:
    """`Name|KES|current|available|reserved|uncleared`, joined by `&` (quirk 36)."""
    for part in text.split("&"):
        if not part.strip():
            continue
        fields = [piece.strip() for piece in part.split("|")]
        amounts = [read_money(piece) for piece in fields[2:]]
        if len(fields) != _ACCOUNT_FIELDS or fields[1] != "KES" or None in amounts:
            raise Malformed("an account's balance is not readable")
        current, available, reserved, uncleared = (amount for amount in amounts if amount is not None)
        yield Account(fields[0], fields[1], current, available, reserved, uncleared)
