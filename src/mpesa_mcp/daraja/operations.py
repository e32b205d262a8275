"""Typed requests and the bodies they become: the one place where Daraja's field names are written.

Spellings are Daraja's, mistakes included (quirk 31): `Occassion` for payouts, `RecieverIdentifierType` for
reversals, `InitiatorName` for payouts and `Initiator` elsewhere. Amounts are whole shillings (quirk 60). Bodies hold
secrets; requests hide them when printed.
"""

import base64
import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

from mpesa_mcp.daraja.conclusions import Operation
from mpesa_mcp.errors import InputError
from mpesa_mcp.values import Environment, Kes, Msisdn, Secret, ShortcodeType
from mpesa_mcp.values.clock import daraja_timestamp

# Same paths at both hosts (daraja/api.md §0); the simulator's address is a setting.
HOSTS: Final = {
    Environment.SANDBOX: "https://sandbox.safaricom.co.ke",
    Environment.PRODUCTION: "https://api.safaricom.co.ke",
}

Body = dict[str, str]


@dataclass(frozen=True, slots=True)
class DarajaApp:
    """One app on the Daraja portal, at one environment. Its access token is shared by everything that uses it."""

    environment: Environment
    base_url: str
    consumer_key: str = field(repr=False)
    consumer_secret: Secret

    def __post_init__(self) -> None:
        if self.environment is not Environment.SIMULATOR and not self.base_url.startswith("https://"):
            raise InputError("Safaricom is reached over https only.", field="base_url")
        object.__setattr__(self, "base_url", self.base_url.rstrip("/"))


@dataclass(frozen=True, slots=True)
class Initiator:
    """The API operator of an organization. Wrong tries lock it (daraja/security.md §1)."""

    name: str
    password: Secret


class Purpose(StrEnum):
    """Why a payout is made; the receiver sees it."""

    BUSINESS = "business"
    SALARY = "salary"
    PROMOTION = "promotion"


@dataclass(frozen=True, slots=True, kw_only=True)
class StkPush:
    """A prompt on a customer's phone. `party_b` is the till for a till, else the shortcode itself (quirk 17).

    Two of them are two payments (quirk 18). The reference is printed in the payer's SMS (quirk 21).
    """

    operation: ClassVar[Operation] = Operation.STK_PUSH
    path: ClassVar[str] = "/mpesa/stkpush/v1/processrequest"

    shortcode: str
    party_b: str
    shortcode_type: ShortcodeType
    passkey: Secret
    phone: Msisdn
    amount: Kes
    reference: str
    callback_url: Secret
    description: str = ""

    def __post_init__(self) -> None:
        _check_shortcode(self.shortcode)
        _check_shortcode(self.party_b)
        _check_amount(self.amount)
        # Refused here rather than changed: people reconcile by it (quirk 59).
        if not _REFERENCE.fullmatch(self.reference):
            raise InputError("reference has 1 to 12 letters, digits, spaces or dashes.", field="reference")

    def body(self, at: datetime) -> Body:
        """`at` stamps the password; both copies of the stamp must agree (quirk 22)."""
        return {
            **_stk_password(self.shortcode, self.passkey, at),
            "TransactionType": _TRANSACTION_TYPES[self.shortcode_type],
            "Amount": str(self.amount.shillings),
            "PartyA": self.phone.digits,
            "PartyB": self.party_b,
            "PhoneNumber": self.phone.digits,
            "CallBackURL": self.callback_url.reveal(),
            "AccountReference": self.reference,
            # Said to be optional; it is always sent. Too long a prompt fails with 1025 or 1101 (quirk 20).
            "TransactionDesc": _plain(self.description, limit=13) or self.reference,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StkQuery:
    """The question what became of a prompt. It tells no amount and no receipt (daraja/api.md §3)."""

    operation: ClassVar[Operation] = Operation.STK_QUERY
    path: ClassVar[str] = "/mpesa/stkpushquery/v1/query"

    shortcode: str
    passkey: Secret
    checkout_request_id: str = field(repr=False)  # it contains the customer's phone (quirk 23)

    def __post_init__(self) -> None:
        _check_shortcode(self.shortcode)

    def body(self, at: datetime) -> Body:
        return {
            **_stk_password(self.shortcode, self.passkey, at),
            "CheckoutRequestID": self.checkout_request_id,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class InitiatorRequest:
    """What the requests made by an initiator have in common; `body` takes the encrypted password."""

    shortcode: str
    initiator: Initiator
    remarks: str
    result_url: Secret
    timeout_url: Secret
    occasion: str = ""

    def __post_init__(self) -> None:
        _check_shortcode(self.shortcode)

    def _common(self, credential: str, *, command: str) -> Body:
        return {
            "SecurityCredential": credential,
            "CommandID": command,
            "Remarks": sent_remarks(self.remarks),
            "QueueTimeOutURL": self.timeout_url.reveal(),
            "ResultURL": self.result_url.reveal(),
        }

    def _occasion(self, key: str) -> Body:
        occasion = sent_occasion(self.occasion)
        return {key: occasion} if occasion else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class B2cPayment(InitiatorRequest):
    """A payout, version 3: Daraja refuses a second with the same `originator_conversation_id` (quirk 26).

    It spends the utility account (quirk 39) and cannot be reversed.
    """

    operation: ClassVar[Operation] = Operation.B2C
    path: ClassVar[str] = "/mpesa/b2c/v3/paymentrequest"

    originator_conversation_id: str
    purpose: Purpose
    phone: Msisdn
    amount: Kes

    def __post_init__(self) -> None:
        _check_shortcode(self.shortcode)
        _check_amount(self.amount)
        if not _CONVERSATION.fullmatch(self.originator_conversation_id):
            raise InputError("A payout needs an id of its own.", field="originator_conversation_id")

    def body(self, credential: str) -> Body:
        return {
            **self._common(credential, command=_COMMANDS[self.purpose]),
            **self._occasion("Occassion"),
            "OriginatorConversationID": self.originator_conversation_id,
            "InitiatorName": self.initiator.name,
            "Amount": str(self.amount.shillings),
            "PartyA": self.shortcode,
            "PartyB": self.phone.digits,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceInquiry(InitiatorRequest):
    """The question what the accounts of a shortcode hold."""

    operation: ClassVar[Operation] = Operation.BALANCE
    path: ClassVar[str] = "/mpesa/accountbalance/v1/query"

    shortcode_type: ShortcodeType

    def body(self, credential: str) -> Body:
        return {
            **self._common(credential, command="AccountBalance"),
            "Initiator": self.initiator.name,
            "PartyA": self.shortcode,
            "IdentifierType": _IDENTIFIER_TYPES[self.shortcode_type],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusInquiry(InitiatorRequest):
    """The question what became of one movement, by its receipt or by its conversation id (quirk 26)."""

    operation: ClassVar[Operation] = Operation.TRANSACTION_STATUS
    path: ClassVar[str] = "/mpesa/transactionstatus/v1/query"

    shortcode_type: ShortcodeType
    receipt: str | None = None
    original_conversation_id: str | None = None

    def __post_init__(self) -> None:
        _check_shortcode(self.shortcode)
        if not self.receipt and not self.original_conversation_id:
            raise InputError("A status inquiry names a receipt or a conversation id.", field="receipt")

    def body(self, credential: str) -> Body:
        asked = {"TransactionID": self.receipt or ""}
        if self.original_conversation_id:
            asked["OriginalConversationID"] = self.original_conversation_id
        return {
            **self._common(credential, command="TransactionStatusQuery"),
            **self._occasion("Occasion"),
            **asked,
            "Initiator": self.initiator.name,
            "PartyA": self.shortcode,
            "IdentifierType": _IDENTIFIER_TYPES[self.shortcode_type],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal(InitiatorRequest):
    """Gives a received payment back, whole. It has no id of ours: never sent again after an unknown (quirk 40)."""

    operation: ClassVar[Operation] = Operation.REVERSAL
    path: ClassVar[str] = "/mpesa/reversal/v1/request"

    receipt: str
    amount: Kes

    def __post_init__(self) -> None:
        _check_shortcode(self.shortcode)
        _check_amount(self.amount)
        if not self.receipt:
            raise InputError("A reversal names a receipt.", field="receipt")

    def body(self, credential: str) -> Body:
        return {
            **self._common(credential, command="TransactionReversal"),
            **self._occasion("Occasion"),
            "Initiator": self.initiator.name,
            "TransactionID": self.receipt,
            "Amount": str(self.amount.shillings),
            "ReceiverParty": self.shortcode,
            # 11: the organization that received the money; the right spelling is refused (quirk 31).
            "RecieverIdentifierType": "11",
        }


_TRANSACTION_TYPES: Final = {
    ShortcodeType.PAYBILL: "CustomerPayBillOnline",
    ShortcodeType.TILL: "CustomerBuyGoodsOnline",
}
_IDENTIFIER_TYPES: Final = {ShortcodeType.PAYBILL: "4", ShortcodeType.TILL: "2"}
_COMMANDS: Final = {
    Purpose.BUSINESS: "BusinessPayment",
    Purpose.SALARY: "SalaryPayment",
    Purpose.PROMOTION: "PromotionPayment",
}
_SHORTCODE = re.compile(r"[0-9]{5,7}")
_REFERENCE = re.compile(r"[A-Za-z0-9 \-]{1,12}")
_CONVERSATION = re.compile(r"[A-Za-z0-9_\-]{8,64}")
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 \-]+")


def _stk_password(shortcode: str, passkey: Secret, at: datetime) -> Body:
    """An encoding, not a secret: who sees it has the passkey (daraja/security.md §2)."""
    stamp = daraja_timestamp(at)
    password = base64.b64encode(f"{shortcode}{passkey.reveal()}{stamp}".encode()).decode()
    return {"BusinessShortCode": shortcode, "Password": password, "Timestamp": stamp}


def _plain(text: str, *, limit: int) -> str:
    """Letters, digits, spaces and dashes: other characters are refused or lost silently (quirk 59)."""
    return " ".join(_NOT_PLAIN.sub(" ", text).split())[:limit].strip()


def sent_remarks(text: str) -> str:
    """What of somebody's remarks reaches Safaricom: 2 to 100 characters are required."""
    plain = _plain(text, limit=100)
    return plain if len(plain) >= 2 else "Payment"


def sent_occasion(text: str) -> str:
    """What of it reaches Safaricom, which may be nothing."""
    return _plain(text, limit=100)


def _check_shortcode(shortcode: str) -> None:
    if not _SHORTCODE.fullmatch(shortcode):
        raise InputError("A shortcode has 5 to 7 digits.", field="shortcode")


def _check_amount(amount: Kes) -> None:
    if amount.shillings < 1:
        raise InputError("The amount must be at least one shilling.", field="amount")
