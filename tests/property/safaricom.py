"""A Safaricom that the model scripts: what it answers is one thing, what it does is another, and that is the truth.

It stands where the network would be, so a request can hang until the model lets its answer come, or never does.
"""

import asyncio
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx2

from mpesa_mcp.daraja.credential import sandbox_certificate

# Never dialled: requests end in the transport below.
URL = "http://127.0.0.1:9"
_OPERATIONS = {
    "/mpesa/stkpush/v1/processrequest": "stk_push",
    "/mpesa/b2c/v3/paymentrequest": "b2c",
    "/mpesa/reversal/v1/request": "reversal",
    "/mpesa/transactionstatus/v1/query": "status",
}


class Fate(StrEnum):
    """What becomes of one request."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    STALE_TOKEN = "turned away for its token; the repeat is accepted"
    TOO_FAST = "turned away: too fast"
    NO_CONNECTION = "never connected"
    LOST_BEFORE = "lost on the way there"
    LOST_AFTER = "carried out, and the answer lost"
    ERROR_BEFORE = "an error instead of being carried out"
    ERROR_AFTER = "carried out, and an error answered"
    PAGE_AFTER = "carried out, and a web page answered"
    LIE = "carried out, and answered: too fast"
    LIE_ABOUT_TOKEN = "carried out, and turned away for its token; the repeat is carried out, too"

    @property
    def carries_out(self) -> bool:
        return self in {Fate.ACCEPTED, Fate.LOST_AFTER, Fate.ERROR_AFTER, Fate.PAGE_AFTER, *LIES}

    @property
    def says_unsent(self) -> bool:
        return self in {Fate.TOO_FAST, Fate.NO_CONNECTION, Fate.STALE_TOKEN, *LIES}


LIES = (Fate.LIE, Fate.LIE_ABOUT_TOKEN)


@dataclass
class Order:
    """Something Safaricom was asked to do. `code` is what became of it; None while it is open."""

    number: int
    operation: str
    path: str
    phone: str
    shillings: int
    fate: Fate
    originator: str
    reverses: str | None = None
    code: str | None = None
    receipt: str | None = None
    # Reported as failed, and carried out afterwards (quirk 6).
    turned_around: bool = False

    @property
    def token(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def merchant(self) -> str:
        return f"merchant-{self.number}"

    @property
    def checkout(self) -> str:
        return f"ws_CO_{self.number}_{self.phone[-9:]}"

    @property
    def conversation(self) -> str:
        return f"AG_{self.number}"

    @property
    def moved(self) -> bool:
        return self.code == "0"

    def decide(self, code: str) -> None:
        """The customer pays or not, or the account does; a failed push may still be paid (quirk 6)."""
        if self.code is None or (code == "0" and self.code == "1037"):
            self.turned_around = self.code is not None
            self.code = code
            self.receipt = f"SKE{self.number:05d}AB" if code == "0" else None


@dataclass
class Sent:
    """One request of money as it left us; `order` is what it asked for, carried out or not."""

    order: Order
    fate: Fate
    answered: bool = False
    # The requests whose answers had been given when this one left.
    after: list["Sent"] = field(default_factory=list)

    @property
    def ids_are_known(self) -> bool:
        return self.answered and self.fate is Fate.ACCEPTED


@dataclass
class Question:
    """A status inquiry that Safaricom took and will answer, or not."""

    number: int
    path: str
    about: str
    answered: bool = False

    @property
    def conversation(self) -> str:
        return f"AG_question_{self.number}"


class Safaricom(httpx2.AsyncBaseTransport):
    """`fate` is that of the next request; with `hangs` its answer waits until `let_go`."""

    def __init__(self) -> None:
        self.fate = Fate.ACCEPTED
        self.hangs = False
        self.sent: list[Sent] = []
        self.orders: list[Order] = []
        self.questions: list[Question] = []
        self.hanging = asyncio.Event()
        self.held: list[asyncio.Event] = []
        self._tokens = 0
        self._number = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if path == "/oauth/v1/generate":
            self._tokens += 1
            return httpx2.Response(
                200, json={"access_token": f"token-of-the-app-{self._tokens:04d}", "expires_in": "3599"}
            )
        if path == "/_sim/certificate":
            return httpx2.Response(200, content=sandbox_certificate())
        fate, self.fate = self.fate, Fate.ACCEPTED
        hangs, self.hangs = self.hangs, False
        body = json.loads(request.content)
        if path not in _OPERATIONS:
            answer = self._about_prompt(body["CheckoutRequestID"], fate)
            await self._hang(hangs)
            return _given(answer, fate)
        operation = _OPERATIONS[path]
        where = (body.get("CallBackURL") or body["ResultURL"]).removeprefix(URL_OF_OURS)
        if operation == "status":
            answer = self._asked(where, body, fate)
            await self._hang(hangs)
            return _given(answer, fate)
        order = self._order(operation, where, body, fate)
        sent = Sent(order, fate, after=[each for each in self.sent if each.answered])
        self.sent.append(sent)
        answer = self._carried_out(order, fate)
        await self._hang(hangs)
        sent.answered = True
        return _given(answer, fate)

    async def _hang(self, hangs: bool) -> None:
        if hangs:
            gate = asyncio.Event()
            self.held.append(gate)
            self.hanging.set()
            await gate.wait()

    def _asked(self, where: str, body: dict[str, Any], fate: Fate) -> dict[str, Any]:
        self._number += 1
        question = Question(self._number, where, body.get("OriginalConversationID") or body["TransactionID"])
        if fate.carries_out:
            self.questions.append(question)
        return _acknowledged(f"originator-{question.number}", question.conversation)

    def _order(self, operation: str, where: str, body: dict[str, Any], fate: Fate) -> Order:
        self._number += 1
        given_back = self.of_receipt(body.get("TransactionID"))
        return Order(
            self._number,
            operation,
            where,
            phone=given_back.phone if given_back else body.get("PhoneNumber") or body["PartyB"],
            shillings=int(body["Amount"]),
            fate=fate,
            originator=body.get("OriginatorConversationID") or f"originator-{self._number}",
            reverses=body.get("TransactionID"),
        )

    def _carried_out(self, order: Order, fate: Fate) -> dict[str, Any]:
        if order.operation == "b2c" and any(each.originator == order.originator for each in self.orders):
            return _error("500.002.1001", "Duplicate OriginatorConversationID.")
        if fate.carries_out:
            self.orders.append(order)
        if order.operation == "stk_push":
            return {"MerchantRequestID": order.merchant, "CheckoutRequestID": order.checkout, "ResponseCode": "0"}
        return _acknowledged(order.originator, order.conversation)

    def _about_prompt(self, checkout: str, fate: Fate) -> dict[str, Any]:
        order = next((each for each in self.orders if each.checkout == checkout), None)
        if order is None or order.operation != "stk_push" or fate is Fate.REFUSED:
            return _error("500.001.1001", "The transaction does not Exist")
        return {
            "ResponseCode": "0",
            "MerchantRequestID": order.merchant,
            "CheckoutRequestID": checkout,
            "ResultCode": order.code or "4999",
            "ResultDesc": "prose",
        }

    def of_receipt(self, receipt: str | None) -> Order | None:
        return next((each for each in self.orders if receipt and each.receipt == receipt), None)

    def movement(self, about: str) -> Order | None:
        """What a status inquiry by this id is about."""
        known = (each for each in self.orders if about in {each.originator, each.conversation, each.receipt})
        return next(known, None)


URL_OF_OURS = "http://127.0.0.1:8"


def _acknowledged(originator: str, conversation: str) -> dict[str, Any]:
    return {"OriginatorConversationID": originator, "ConversationID": conversation, "ResponseCode": "0"}


def _error(code: str, message: str) -> dict[str, Any]:
    return {"requestId": "1-1-1", "errorCode": code, "errorMessage": message}


def _given(answer: dict[str, Any], fate: Fate) -> httpx2.Response:
    """The answer as the fate has it."""
    match fate:
        case Fate.ACCEPTED:
            return httpx2.Response(500 if "errorCode" in answer else 200, json=answer)
        case Fate.REFUSED:
            if "errorCode" in answer:
                return httpx2.Response(500, json=answer)
            return httpx2.Response(400, json=_error("400.002.02", "Bad Request - Invalid Amount"))
        case Fate.STALE_TOKEN | Fate.LIE_ABOUT_TOKEN:
            return httpx2.Response(404, json=_error("404.001.03", "Invalid Access Token"))
        case Fate.TOO_FAST | Fate.LIE:
            fault = {"faultstring": "Spike arrest", "detail": {"errorcode": "policies.ratelimit.SpikeArrestViolation"}}
            return httpx2.Response(429, json={"fault": fault})
        case Fate.NO_CONNECTION:
            raise httpx2.ConnectError("refused")
        case Fate.LOST_BEFORE | Fate.LOST_AFTER:
            raise httpx2.ReadError("lost")
        case Fate.ERROR_BEFORE | Fate.ERROR_AFTER:
            return httpx2.Response(500, json=_error("500.003.1001", "Internal Server Error"))
        case Fate.PAGE_AFTER:
            return httpx2.Response(403, html="<html>Incapsula incident</html>")
