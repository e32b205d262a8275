"""A real uvicorn server for the simulator, a real receiver for its callbacks, and a plain HTTP client as the user."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import anyio
import httpx2
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from mpesa_mcp.simulator.app import create_simulator

PAYLOADS = Path(__file__).parent.parent / "contract" / "payloads"
PASSKEY = "bfb279f9aa9bdbcf158e97dd71a467cd2e0c893059b10f78e6b72ada1ed2c919"
SHORTCODE = "174379"
DELAY_MS = 15
PATHS = {
    "stk_push": "/mpesa/stkpush/v1/processrequest",
    "stk_query": "/mpesa/stkpushquery/v1/query",
    "b2c": "/mpesa/b2c/v3/paymentrequest",
    "balance": "/mpesa/accountbalance/v1/query",
    "transaction_status": "/mpesa/transactionstatus/v1/query",
    "reversal": "/mpesa/reversal/v1/request",
}


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text())


@asynccontextmanager
async def served(app: ASGIApp, *, http: Literal["auto", "h11", "httptools"] = "auto") -> AsyncIterator[str]:
    """The base URL of an application that uvicorn serves in this event loop."""
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it every answer takes 40 ms longer.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        # Connections wait in the backlog until uvicorn accepts them, so nobody has to wait for its start.
        listener.listen()
        server = uvicorn.Server(uvicorn.Config(app, http=http, log_config=None, log_level="warning", lifespan="on"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


@dataclass
class Callback:
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass
class Receiver:
    """Takes whatever is posted to it, in order, since it was last told to forget."""

    origin: str = ""
    status: int = 200
    received: list[Callback] = field(default_factory=list)
    _life: int = 0
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def base_url(self) -> str:
        """Another one after each `forget`: what was on its way before it is not taken for what comes after it."""
        return f"{self.origin}/{self._life}"

    async def take(self, request: Request) -> Response:
        body = json.loads(await request.body())
        if request.path_params["life"] == self._life:
            self.received.append(Callback(f"/{request.path_params['path']}", request.headers, body))
            self._more.set()
        return JSONResponse({"ResultCode": 0, "ResultDesc": "Accepted"}, self.status)

    def forget(self) -> None:
        self._life += 1
        self.received.clear()
        self.status = 200

    async def wait_for(self, count: int, path: str = "") -> list[Callback]:
        """The first `count` callbacks (of that path), as soon as they are there; five seconds at most."""
        with anyio.fail_after(5):
            while len(found := [one for one in self.received if not path or one.path == path]) < count:
                self._more.clear()
                await self._more.wait()
        return found[:count]


class Daraja:
    """What a program of a Daraja user does, by hand."""

    def __init__(self, http: httpx2.AsyncClient, receiver: Receiver) -> None:
        self.http = http
        self.receiver = receiver
        self.token = ""
        self._public_key: rsa.RSAPublicKey | None = None
        self._payouts = 0

    async def sign_in(self, key: str = "consumer-key", secret: str = "consumer-secret") -> httpx2.Response:
        answer = await self.http.get(
            "/oauth/v1/generate", params={"grant_type": "client_credentials"}, auth=httpx2.BasicAuth(key, secret)
        )
        if answer.status_code == 200:
            self.token = answer.json()["access_token"]
        return answer

    async def call(self, operation: str, body: Mapping[str, object]) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return await self.http.post(PATHS[operation], json=body, headers=headers)

    async def push(self, phone: str, amount: object = 100, **changes: object) -> httpx2.Response:
        return await self.call("stk_push", self.push_body(phone, amount) | changes)

    def push_body(self, phone: str, amount: object = 100) -> dict[str, object]:
        return self.password() | {
            "TransactionType": "CustomerPayBillOnline",
            "Amount": amount,
            "PartyA": phone,
            "PartyB": SHORTCODE,
            "PhoneNumber": phone,
            "CallBackURL": f"{self.receiver.base_url}/cb/stk",
            "AccountReference": "INV-1042",
            "TransactionDesc": "Invoice 1042",
        }

    def password(self, shortcode: str = SHORTCODE) -> dict[str, object]:
        timestamp = "20260115101530"
        password = base64.b64encode(f"{shortcode}{PASSKEY}{timestamp}".encode()).decode()
        return {"BusinessShortCode": shortcode, "Password": password, "Timestamp": timestamp}

    async def query(self, checkout_request_id: str, **changes: object) -> httpx2.Response:
        body = self.password() | {"CheckoutRequestID": checkout_request_id} | changes
        return await self.call("stk_query", body)

    async def settled(self, checkout_request_id: str) -> str:
        """The final ResultCode of a push, asked for until it is there."""
        with anyio.fail_after(5):
            while True:
                answer = (await self.query(checkout_request_id)).json()
                if answer.get("ResultCode", "4999") != "4999":
                    return str(answer["ResultCode"])
                await anyio.sleep(0.01)

    async def pay(self, phone: str, amount: object = 500, **changes: object) -> httpx2.Response:
        return await self.call("b2c", await self.pay_body(phone, amount) | changes)

    async def pay_body(self, phone: str, amount: object = 500) -> dict[str, object]:
        self._payouts += 1
        return {
            "OriginatorConversationID": f"payout-{self._payouts}",
            "InitiatorName": "testapi",
            "CommandID": "BusinessPayment",
            "Amount": amount,
            "PartyA": SHORTCODE,
            "PartyB": phone,
            **await self._asynchronous(),
        }

    async def balance(self, **changes: object) -> httpx2.Response:
        body = {"Initiator": "testapi", "CommandID": "AccountBalance", "PartyA": SHORTCODE, "IdentifierType": "4"}
        return await self.call("balance", body | await self._asynchronous() | changes)

    async def status(self, **changes: object) -> httpx2.Response:
        body = {"Initiator": "testapi", "CommandID": "TransactionStatusQuery", "PartyA": SHORTCODE}
        asked = body | {"IdentifierType": "4", "Occasion": "OK"} | await self._asynchronous("/cb/status")
        return await self.call("transaction_status", asked | changes)

    async def reverse(self, receipt: str, amount: object, **changes: object) -> httpx2.Response:
        body = {
            "Initiator": "testapi",
            "CommandID": "TransactionReversal",
            "TransactionID": receipt,
            "Amount": amount,
            "ReceiverParty": SHORTCODE,
            "RecieverIdentifierType": "11",
        }
        return await self.call("reversal", body | await self._asynchronous() | changes)

    async def _asynchronous(self, result_path: str = "/cb/result") -> dict[str, object]:
        return {
            "SecurityCredential": await self.credential(),
            "Remarks": "Supplier",
            "ResultURL": f"{self.receiver.base_url}{result_path}",
            "QueueTimeOutURL": f"{self.receiver.base_url}/cb/timeout",
        }

    async def credential(self, password: str = "Safaricom999!*!") -> str:
        if self._public_key is None:
            pem = await self.http.get("/_sim/certificate")
            key = x509.load_pem_x509_certificate(pem.content).public_key()
            assert isinstance(key, rsa.RSAPublicKey)
            self._public_key = key
        return base64.b64encode(self._public_key.encrypt(password.encode(), padding.PKCS1v15())).decode()

    async def ledger(self) -> list[dict[str, Any]]:
        movements: list[dict[str, Any]] = (await self.http.get("/_sim/ledger")).json()
        return movements

    async def utility(self) -> int:
        """The balance of Utility in shillings, as Daraja tells it."""
        before = len(self.receiver.received)
        await self.balance(ResultURL=f"{self.receiver.base_url}/cb/balance")
        await self.receiver.wait_for(before + 1)
        balances = await self.receiver.wait_for(1, "/cb/balance")
        self.receiver.received.remove(balances[0])
        accounts = parameters(balances[0].body)["AccountBalance"].split("&")
        by_name = {account.split("|")[0]: account.split("|")[2] for account in accounts}
        return int(by_name["Utility Account"].removesuffix(".00"))

    async def status_of(self, **ids: object) -> str:
        """TransactionStatus, or the ResultCode where there is none."""
        already = sum(one.path == "/cb/status" for one in self.receiver.received)
        await self.status(**ids)
        body = (await self.receiver.wait_for(already + 1, "/cb/status"))[-1].body
        found = parameters(body) if body["Result"]["ResultCode"] == 0 else {}
        return str(found.get("TransactionStatus", body["Result"]["ResultCode"]))


def parameters(body: Any) -> dict[str, Any]:
    items = body["Result"]["ResultParameters"]["ResultParameter"]
    return {item["Key"]: item.get("Value") for item in items}


def items(body: Any) -> dict[str, Any]:
    return {item["Name"]: item.get("Value") for item in body["Body"]["stkCallback"]["CallbackMetadata"]["Item"]}


@asynccontextmanager
async def simulated(app: Starlette) -> AsyncIterator[Daraja]:
    """A signed-in user of this simulator, with a receiver for its callbacks."""
    receiver = Receiver()
    taking = Starlette(routes=[Route("/{life:int}/{path:path}", receiver.take, methods=["POST"])])
    async with served(taking) as receiver.origin, served(app) as url, httpx2.AsyncClient(base_url=url) as http:
        daraja = Daraja(http, receiver)
        await daraja.sign_in()
        yield daraja


@pytest.fixture(scope="session")
async def long_running() -> AsyncIterator[Daraja]:
    async with simulated(create_simulator(delay_ms=DELAY_MS)) as user:
        yield user


@pytest.fixture
async def daraja(long_running: Daraja) -> Daraja:
    """A simulator as if just started: reset, because starting one for every test takes longer than the tests."""
    await long_running.http.post("/_sim/reset")
    long_running.receiver.forget()
    await long_running.sign_in()
    return long_running
