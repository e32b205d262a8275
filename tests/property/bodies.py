"""What is posted to our paths: what Safaricom tells, and what somebody makes up who knows a path."""

import json
from enum import StrEnum
from typing import Any

from .safaricom import Order, Question, Safaricom


def told(order: Order, *, bare: bool) -> bytes:
    """Safaricom's own result; `bare` without parameters, as old successes were (quirk 43)."""
    assert order.code is not None
    return stated(
        order,
        code=order.code,
        amount=None if bare else order.shillings,
        receipt=order.receipt,
        ids=order,
    )


def stated(order: Order, *, code: str, amount: int | None, receipt: str | None, ids: Order | None) -> bytes:
    """A result in the form of this order's operation."""
    if order.operation == "stk_push":
        items = {"Amount": amount, "MpesaReceiptNumber": receipt, "PhoneNumber": int(order.phone)}
        items_said = [{"Name": name, "Value": value} for name, value in items.items() if value is not None]
        push: dict[str, Any] = {"ResultCode": int(code), "ResultDesc": "prose"}
        if ids is not None:
            push |= {"MerchantRequestID": ids.merchant, "CheckoutRequestID": ids.checkout}
        if code == "0":
            push["CallbackMetadata"] = {"Item": items_said}
        return json.dumps({"Body": {"stkCallback": push}}).encode()
    result: dict[str, Any] = {"ResultType": 0, "ResultCode": int(code), "ResultDesc": "prose"}
    if ids is not None:
        result |= {"OriginatorConversationID": ids.originator, "ConversationID": ids.conversation}
    if receipt is not None:
        result["TransactionID"] = receipt
    if amount is not None and code == "0":
        party = f"{order.phone} - JANE DOE"
        if order.operation == "b2c":
            said = [_item("TransactionAmount", amount), _item("ReceiverPartyPublicName", party)]
            if receipt is not None:
                said.append(_item("TransactionReceipt", receipt))
        else:
            said = [_item("Amount", amount), _item("CreditPartyPublicName", party)]
            said.append(_item("OriginalTransactionID", order.reverses or ""))
        result["ResultParameters"] = {"ResultParameter": said}
    return json.dumps({"Result": result}).encode()


def answer(daraja: Safaricom, question: Question, *, may_not_ask: bool) -> bytes:
    """The truth about the movement that was asked about, or that this initiator may not ask."""
    order = daraja.movement(question.about)
    result: dict[str, Any] = {
        "ResultType": 0,
        "ResultCode": 0,
        "ResultDesc": "prose",
        "OriginatorConversationID": f"originator-{question.number}",
        "ConversationID": question.conversation,
        "TransactionID": "SKE0000000",
    }
    if may_not_ask:
        result["ResultCode"] = 21
    elif order is None:
        result["ResultCode"] = 2032
    else:
        word = "Initiated" if order.code is None else "Completed" if order.moved else "Declined"
        said = {
            "TransactionStatus": word,
            "Amount": order.shillings,
            "ReceiptNo": order.receipt,
            "OriginatorConversationID": order.originator,
            "ConversationID": order.conversation,
            "CreditPartyName": f"{order.phone} - JANE DOE",
        }
        items = [_item(name, value) for name, value in said.items() if value is not None]
        result["ResultParameters"] = {"ResultParameter": items}
    return json.dumps({"Result": result}).encode()


class Forgery(StrEnum):
    """What somebody posts who knows one attempt's path, the phone and the price, but no id."""

    SUCCESS = "success without ids"
    FAILURE = "failure without ids"
    INVENTED_SUCCESS = "success with ids made up for this phone"
    INVENTED_FAILURE = "failure with ids made up for this phone"
    RECEIPT_OF_ANOTHER = "success with the receipt of another"
    WRONG_AMOUNT = "success over another amount"
    GARBAGE = "not JSON"
    UNLISTED = "a code in no table"
    # Who knows our ids, and not what was asked for. (Who knows all of it cannot be told from Safaricom.)
    OUR_IDS_ALONE = "success with our ids and nothing else"
    OUR_IDS_WRONG_AMOUNT = "success with our ids over another amount"
    # Who knows the ids of another payment of ours.
    SUCCESS_OF_ANOTHER = "success with the ids of another"
    FAILURE_OF_ANOTHER = "failure with the ids of another"


def forged(kind: Forgery, order: Order, another: Order | None, number: int) -> bytes:
    """`order` is what the path is for, carried out or not; `another` somebody else's; `number` makes it unique."""
    invented = Order(9000 + number, order.operation, "", order.phone, order.shillings, order.fate, f"invented-{number}")
    another = another or invented
    receipt = f"FRG{number:05d}XY"
    price = order.shillings

    def body(code: str, amount: int | None = price, receipt: str | None = receipt, ids: Order | None = None) -> bytes:
        return stated(order, code=code, amount=amount, receipt=receipt, ids=ids)

    match kind:
        case Forgery.SUCCESS:
            return body("0")
        case Forgery.FAILURE:
            return body("1")
        case Forgery.INVENTED_SUCCESS:
            return body("0", ids=invented)
        case Forgery.INVENTED_FAILURE:
            return body("1", ids=invented)
        case Forgery.RECEIPT_OF_ANOTHER:
            return body("0", receipt=another.receipt or receipt)
        case Forgery.WRONG_AMOUNT:
            return body("0", amount=price + 1)
        case Forgery.GARBAGE:
            return b"{"
        case Forgery.UNLISTED:
            return body("777", ids=invented)
        case Forgery.OUR_IDS_ALONE:
            return body("0", amount=None, receipt=None, ids=order)
        case Forgery.OUR_IDS_WRONG_AMOUNT:
            return body("0", amount=price + 1, ids=order)
        case Forgery.SUCCESS_OF_ANOTHER:
            return body("0", ids=another)
        case Forgery.FAILURE_OF_ANOTHER:
            return body("1", ids=another)


def _item(key: str, value: object) -> dict[str, object]:
    return {"Key": key, "Value": value}


def forged_answer(order: Order) -> bytes:
    """That the opposite is true of this movement, from somebody who does not know the question's own id."""
    return json.dumps(
        {
            "Result": {
                "ResultType": 0,
                "ResultCode": 0,
                "ResultDesc": "prose",
                "OriginatorConversationID": "invented",
                "ConversationID": "AG_invented",
                "TransactionID": "SKE0000000",
                "ResultParameters": {
                    "ResultParameter": [
                        _item("TransactionStatus", "Declined" if order.moved else "Completed"),
                        _item("Amount", order.shillings),
                        _item("OriginatorConversationID", order.originator),
                        _item("ConversationID", order.conversation),
                    ]
                },
            }
        }
    ).encode()
