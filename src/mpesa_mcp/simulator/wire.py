"""Daraja's bodies, key for key (daraja/payloads/). What an answer means is decided elsewhere."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mpesa_mcp.simulator.accounts import Accounts, account_line
from mpesa_mcp.simulator.payments import Payment, State
from mpesa_mcp.values import EAT

Json = Mapping[str, object]

ACCEPTED = "The service request has been accepted successfully"
PROCESSED = "The service request is processed successfully."
STK_ACCEPTED = "Success. Request accepted for processing"
CUSTOMER_NAME = "SIMULATED CUSTOMER"
ORGANIZATION_NAME = "Simulated Organization"

# daraja/codes.md §1, §3 and §5. The STK callback and the STK query word the same code differently (quirk 14).
DESCRIPTIONS = {
    "0": PROCESSED,
    "1": "The balance is insufficient for the transaction.",
    "8": "Declined due to limit rule: would exceed the maximum balance.",
    "25": "The format of parameter null is invalid.",
    "1032": "Request cancelled by user",
    "1037": "No response from user.",
    "2001": "The initiator information is invalid.",
    "2032": "The transaction receipt number does not exist.",
    "2040": "Credit Party customer type (Unregistered or Registered Customer) can't be supported by the service.",
    "4999": "The transaction is still under processing",
    "8006": "The security credential is locked.",
    "R000001": "The transaction has already been reversed.",
    "R000002": "The OriginalTransactionID is invalid.",
}
QUERY_DESCRIPTIONS = DESCRIPTIONS | {
    "1032": "Request Cancelled by user.",
    "1037": "DS timeout user cannot be reached.",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; `dropped` means that the connection closes instead."""

    status: int
    body: Json | str
    media_type: str = "application/json"
    dropped: bool = False

    @property
    def content(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else encode(self.body)


DROPPED = Answer(0, "", dropped=True)
FIREWALL_PAGE = Answer(
    503,
    '<html><head><META NAME="robots" CONTENT="noindex,nofollow"></head><body>'
    '<iframe src="/_Incapsula_Resource?CWUDNSAI=9&incident_id=173000240624511593-8199">'
    "Request unsuccessful. Incapsula incident ID: 173000240624511593-8199</iframe></body></html>",
    "text/html",
)


def encode(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()


def error(request_id: str, status: int, code: str, message: str) -> Answer:
    return Answer(status, {"requestId": request_id, "errorCode": code, "errorMessage": message})


def fault(status: int, text: str, code: str) -> Answer:
    """An error of the Apigee gateway in front of Daraja."""
    return Answer(status, {"fault": {"faultstring": text, "detail": {"errorcode": code}}})


def spike_arrest() -> Answer:
    rate = "MessageRate{messagesPerPeriod=5, periodInMicroseconds=60000000, maxBurstMessageCount=1.0}"
    return fault(429, f"Spike arrest violation. Allowed rate : {rate}", "policies.ratelimit.SpikeArrestViolation")


def stk_accepted(payment: Payment) -> Answer:
    return Answer(
        200,
        {
            "MerchantRequestID": payment.originator_conversation_id,
            "CheckoutRequestID": payment.checkout_request_id,
            "ResponseCode": "0",
            "ResponseDescription": STK_ACCEPTED,
            "CustomerMessage": STK_ACCEPTED,
        },
    )


def stk_query_answer(payment: Payment, code: str) -> Answer:
    return Answer(
        200,
        {
            "ResponseCode": "0",
            "ResponseDescription": ACCEPTED,
            "MerchantRequestID": payment.originator_conversation_id,
            "CheckoutRequestID": payment.checkout_request_id,
            "ResultCode": code,
            "ResultDesc": QUERY_DESCRIPTIONS[code],
        },
    )


def stk_callback(payment: Payment) -> Json:
    """Of a decided payment; a failure has no CallbackMetadata."""
    return _stk_callback(payment, payment.code, payment.amount, payment.receipt, payment.decided_at)


def stk_forgery(payment: Payment, *, receipt: str, at: datetime) -> Json:
    """What an attacker who learned the ids would post: a success of ten times the amount."""
    return _stk_callback(payment, "0", payment.amount * 10, receipt, at)


def _stk_callback(payment: Payment, code: str, amount: int, receipt: str | None, at: datetime | None) -> Json:
    callback: dict[str, object] = {
        "MerchantRequestID": payment.originator_conversation_id,
        "CheckoutRequestID": payment.checkout_request_id,
        "ResultCode": int(code),
        "ResultDesc": DESCRIPTIONS[code],
    }
    if code == "0" and at is not None:
        callback["CallbackMetadata"] = {
            "Item": [
                {"Name": "Amount", "Value": amount},
                {"Name": "MpesaReceiptNumber", "Value": receipt},
                {"Name": "Balance"},
                {"Name": "TransactionDate", "Value": eat_number(at)},
                {"Name": "PhoneNumber", "Value": int(payment.party)},
            ]
        }
    return {"Body": {"stkCallback": callback}}


def acknowledgement(*, originator: str, conversation: str) -> Answer:
    return Answer(
        200,
        {
            "OriginatorConversationID": originator,
            "ConversationID": conversation,
            "ResponseCode": "0",
            "ResponseDescription": "Accept the service request successfully.",
        },
    )


def result(
    *,
    code: str,
    originator: str,
    conversation: str,
    transaction: str,
    parameters: Sequence[Json] = (),
    reference: Json,
) -> Json:
    """The envelope of every asynchronous result. One reference comes as an object, not a list (quirk 29)."""
    body: dict[str, object] = {
        "ResultType": 0,
        "ResultCode": int(code) if code.isdecimal() else code,
        "ResultDesc": DESCRIPTIONS[code],
        "OriginatorConversationID": originator,
        "ConversationID": conversation,
        "TransactionID": transaction,
    }
    if parameters:
        body["ResultParameters"] = {"ResultParameter": list(parameters) if len(parameters) > 1 else parameters[0]}
    body["ReferenceData"] = {"ReferenceItem": reference}
    return {"Result": body}


def timeout_envelope(payment: Payment) -> Json:
    """A QueueTimeOut in the shape of a Result; it says nothing about the money (quirk 28)."""
    return {
        "Result": {
            "ResultType": 1,
            "ResultCode": "1",
            "ResultDesc": "The service request timed out.",
            "OriginatorConversationID": payment.originator_conversation_id,
            "ConversationID": payment.conversation_id,
        }
    }


def item(key: str, value: object = None) -> Json:
    return {"Key": key} if value is None else {"Key": key, "Value": value}


def queue_timeout_reference(kind: str) -> Json:
    """Names an internal host of Safaricom, not the caller's URL (quirk 32)."""
    return item("QueueTimeoutURL", f"https://internalsandbox.safaricom.co.ke/mpesa/{kind}/v1/submit")


def payout_parameters(*, amount: int, receipt: str, phone: str, at: datetime, accounts: Accounts) -> list[Json]:
    return [
        item("TransactionAmount", amount),
        item("TransactionReceipt", receipt),
        item("ReceiverPartyPublicName", customer(phone)),
        item("TransactionCompletedDateTime", at.astimezone(EAT).strftime("%d.%m.%Y %H:%M:%S")),
        item("B2CUtilityAccountAvailableFunds", float(accounts.utility)),
        item("B2CWorkingAccountAvailableFunds", float(accounts.working)),
        item("B2CRecipientIsRegisteredCustomer", "Y"),
        item("B2CChargesPaidAccountAvailableFunds", float(accounts.charges_paid)),
    ]


def balance_parameters(accounts: Accounts, at: datetime) -> list[Json]:
    return [
        item("ActionType", "AccountBalance"),
        item("AccountBalance", accounts.as_daraja()),
        item("BOCompletedTime", eat_number(at)),
    ]


def reversal_parameters(payment: Payment, original_receipt: str, at: datetime, accounts: Accounts) -> list[Json]:
    return [
        item("DebitAccountBalance", account_line("Utility Account", accounts.utility)),
        item("Amount", payment.amount),
        item("TransCompletedTime", eat_number(at)),
        item("OriginalTransactionID", original_receipt),
        item("Charge", 0.0),
        item("CreditPartyPublicName", customer(payment.party)),
        item("DebitPartyPublicName", organization(payment.shortcode)),
    ]


def customer(phone: str) -> str:
    return f"{phone} - {CUSTOMER_NAME}"


def organization(shortcode: str) -> str:
    return f"{shortcode} - {ORGANIZATION_NAME}"


def eat_number(at: datetime) -> int:
    """yyyyMMddHHmmss in EAT, as the number Daraja sends."""
    return int(at.astimezone(EAT).strftime("%Y%m%d%H%M%S"))


def transaction_status(payment: Payment) -> str:
    match payment.state:
        case State.SUCCEEDED:
            return "Completed"
        case State.FAILED:
            return "Declined"
        case State.UNDECIDED:
            return "Pending Authorized"
