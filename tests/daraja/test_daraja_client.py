"""The client sends once, repeats only a question whose token was refused, and says no more than the answer proves."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from mpesa_mcp.daraja.client import DarajaClient, DarajaUnreachable, Decided, FetchedToken, KeysRefused, Nothing
from mpesa_mcp.daraja.conclusions import Accepted, NotSent, Refused, TokenRefused, Unknown
from mpesa_mcp.daraja.credential import Certificates
from mpesa_mcp.daraja.operations import (
    B2cPayment,
    BalanceInquiry,
    DarajaApp,
    Initiator,
    Purpose,
    Reversal,
    StatusInquiry,
    StkPush,
    StkQuery,
)
from mpesa_mcp.daraja.transport import create_http_client
from mpesa_mcp.values import Environment, FrozenClock, Kes, Msisdn, Secret, ShortcodeType

pytestmark = pytest.mark.anyio

APP = DarajaApp(Environment.SANDBOX, "https://sandbox.safaricom.co.ke", "s3cret-key", Secret("s3cret-secret"))
PRODUCTION = DarajaApp(Environment.PRODUCTION, "https://api.safaricom.co.ke", "s3cret-key", Secret("s3cret-secret"))
CHECKOUT = "ws_CO_15012026101530123700000012"
PUSH = StkPush(
    shortcode="174379",
    party_b="174379",
    shortcode_type=ShortcodeType.PAYBILL,
    passkey=Secret("s3cret-passkey"),
    phone=Msisdn("254700000012"),
    amount=Kes.from_shillings(10),
    reference="INV-1",
    callback_url=Secret("https://pay.example/cb/a1/b2"),
)
QUERY = StkQuery(shortcode="174379", passkey=Secret("s3cret-passkey"), checkout_request_id=CHECKOUT)
COMMON: dict[str, Any] = {
    "shortcode": "600992",
    "initiator": Initiator("testapi", Secret("s3cret-password")),
    "remarks": "test",
    "result_url": Secret("https://pay.example/cb/a1/b2"),
    "timeout_url": Secret("https://pay.example/cb/a1/b2/timeout"),
}
QUESTION = BalanceInquiry(shortcode_type=ShortcodeType.PAYBILL, **COMMON)
PAYOUT = B2cPayment(
    originator_conversation_id="pay_01k0000000",
    purpose=Purpose.BUSINESS,
    phone=Msisdn("254700000012"),
    amount=Kes.from_shillings(10),
    **COMMON,
)
STK_ACK = {"ResponseCode": "0", "MerchantRequestID": "m-1", "CheckoutRequestID": CHECKOUT}
ACK = {"ResponseCode": "0", "ConversationID": "AG_1", "OriginatorConversationID": "pay_01k0000000"}
BAD_TOKENS = {
    "404.001.03": 404,
    "401.002.01": 401,
    "401.003.01": 401,
    "401.001": 401,
    "401": 401,
    "400.003.01": 400,
}


class TokensInMemory:
    """One token per app, forgotten only if nobody has replaced it before: what the store does between processes."""

    def __init__(self) -> None:
        self.held: dict[str, Secret] = {}

    async def current(self, app: DarajaApp, fetch: Callable[[], Awaitable[FetchedToken]]) -> Secret:
        if app.consumer_key not in self.held:
            self.held[app.consumer_key] = (await fetch()).access_token
        return self.held[app.consumer_key]

    async def forget(self, app: DarajaApp, refused: Secret) -> None:
        if self.held.get(app.consumer_key) == refused:
            del self.held[app.consumer_key]


class Daraja:
    """Gives tokens token-1, token-2, ... and answers posts as the test says, in turn; remembers what it was sent."""

    def __init__(self, *answers: httpx2.Response | Exception, oauth: list[httpx2.Response] | None = None) -> None:
        self.answers = list(answers)
        self.oauth = oauth
        self.posts: list[httpx2.Request] = []
        self.tokens_given = 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path.startswith("/oauth/"):
            assert request.headers["authorization"].startswith("Basic ")
            self.tokens_given += 1
            if self.oauth is not None:
                return self.oauth.pop(0)
            return httpx2.Response(200, json={"access_token": f"token-{self.tokens_given}", "expires_in": "3599"})
        self.posts.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def bearer(self) -> list[str]:
        return [request.headers["authorization"].removeprefix("Bearer ") for request in self.posts]


def client(daraja: Callable[[httpx2.Request], httpx2.Response], tokens: TokensInMemory | None = None) -> DarajaClient:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(daraja))
    clock = FrozenClock(datetime(2026, 1, 15, 7, 15, 30, tzinfo=UTC))
    return DarajaClient(http, tokens or TokensInMemory(), Certificates(production=None, http=http), clock)


def answer(status: int, body: object) -> httpx2.Response:
    return httpx2.Response(status, json=body)


def error(status: int, code: str, message: str = "") -> httpx2.Response:
    return answer(status, {"requestId": "1-1-1", "errorCode": code, "errorMessage": message})


async def test_a_prompt_goes_out_once_with_its_headers() -> None:
    daraja = Daraja(answer(200, STK_ACK))
    assert await client(daraja).stk_push(APP, PUSH) == Accepted("m-1", CHECKOUT, None, None)
    (sent,) = daraja.posts
    assert str(sent.url) == "https://sandbox.safaricom.co.ke/mpesa/stkpush/v1/processrequest"
    assert sent.headers["content-type"] == "application/json"
    assert json.loads(sent.content)["Timestamp"] == "20260115101530"


async def test_every_initiator_request_carries_an_encrypted_password() -> None:
    daraja = Daraja(*[answer(200, ACK) for _ in range(4)])
    daraja_client = client(daraja)
    reversal = Reversal(receipt="SG632NMUAB", amount=Kes.from_shillings(10), **COMMON)
    status = StatusInquiry(shortcode_type=ShortcodeType.PAYBILL, receipt="SG632NMUAB", **COMMON)
    concluded = [
        await daraja_client.b2c(APP, PAYOUT),
        await daraja_client.reversal(APP, reversal),
        await daraja_client.balance(APP, QUESTION),
        await daraja_client.transaction_status(APP, status),
    ]
    assert concluded == [Accepted(None, None, "pay_01k0000000", "AG_1")] * 4
    assert [request.url.path for request in daraja.posts] == [
        "/mpesa/b2c/v3/paymentrequest",
        "/mpesa/reversal/v1/request",
        "/mpesa/accountbalance/v1/query",
        "/mpesa/transactionstatus/v1/query",
    ]
    for request in daraja.posts:
        assert len(json.loads(request.content)["SecurityCredential"]) == 344
        assert b"s3cret-password" not in request.content
    assert daraja.tokens_given == 1


@pytest.mark.parametrize("code", BAD_TOKENS)
async def test_what_moves_money_goes_out_once_and_the_next_fetches_another_token(code: str) -> None:
    daraja = Daraja(error(BAD_TOKENS[code], code, "Invalid Access Token"), answer(200, ACK))
    daraja_client = client(daraja)
    assert await daraja_client.b2c(APP, PAYOUT) == TokenRefused(code)
    assert daraja.tokens_given == 1
    assert isinstance(await daraja_client.b2c(APP, PAYOUT), Accepted)
    assert daraja.bearer() == ["token-1", "token-2"]


@pytest.mark.parametrize("code", BAD_TOKENS)
async def test_a_question_is_repeated_once_when_its_token_was_refused(code: str) -> None:
    daraja = Daraja(error(BAD_TOKENS[code], code, "Invalid Access Token"), answer(200, ACK))
    assert isinstance(await client(daraja).balance(APP, QUESTION), Accepted)
    assert daraja.bearer() == ["token-1", "token-2"]
    assert daraja.posts[0].content == daraja.posts[1].content


@pytest.mark.parametrize("code", BAD_TOKENS)
async def test_a_second_refusal_is_the_apps_product_and_final(code: str) -> None:
    refusal = (BAD_TOKENS[code], code, "Invalid Access Token")
    daraja = Daraja(error(*refusal), error(*refusal))
    concluded = await client(daraja).balance(APP, QUESTION)
    assert concluded == TokenRefused(code).of_a_fresh_token
    assert len(daraja.posts) == 2
    assert daraja.tokens_given == 2


async def test_a_token_somebody_else_replaced_is_taken_without_fetching() -> None:
    tokens = TokensInMemory()
    tokens.held[APP.consumer_key] = Secret("stale")

    def refuse_while_another_process_refreshes(request: httpx2.Request) -> httpx2.Response:
        if request.headers["authorization"] == "Bearer stale":
            tokens.held[APP.consumer_key] = Secret("fresh")
            return error(404, "404.001.03")
        assert request.headers["authorization"] == "Bearer fresh"
        return answer(200, ACK)

    assert isinstance(await client(refuse_while_another_process_refreshes, tokens).balance(APP, QUESTION), Accepted)


async def test_what_follows_a_refused_token_is_concluded_like_any_answer() -> None:
    lost = Daraja(error(404, "404.001.03"), httpx2.ReadError("lost"))
    assert isinstance(await client(lost).balance(APP, QUESTION), Unknown)
    unreached = Daraja(error(404, "404.001.03"), httpx2.ConnectError("down"))
    assert isinstance(await client(unreached).balance(APP, QUESTION), NotSent)


@pytest.mark.parametrize(
    ("failure", "conclusion"),
    [
        (httpx2.ConnectError("x"), NotSent),
        (httpx2.ConnectTimeout("x"), NotSent),
        (httpx2.PoolTimeout("x"), NotSent),
        (httpx2.WriteError("x"), Unknown),
        (httpx2.WriteTimeout("x"), Unknown),
        (httpx2.ReadError("x"), Unknown),
        (httpx2.ReadTimeout("x"), Unknown),
        (httpx2.RemoteProtocolError("x"), Unknown),
        (httpx2.LocalProtocolError("x"), Unknown),
        (httpx2.DecodingError("x"), Unknown),
    ],
)
async def test_only_a_missing_connection_proves_that_nothing_was_sent(failure: Exception, conclusion: type) -> None:
    daraja = Daraja(failure)
    assert type(await client(daraja).stk_push(APP, PUSH)) is conclusion
    assert len(daraja.posts) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    daraja = Daraja(httpx2.Response(status, headers={"location": "https://elsewhere.test/"}))
    assert isinstance(await client(daraja).b2c(APP, PAYOUT), Unknown)
    assert len(daraja.posts) == 1


async def test_an_endless_answer_is_not_read_to_its_end() -> None:
    concluded = await client(Daraja(httpx2.Response(200, content=b" " * 70_000))).b2c(APP, PAYOUT)
    assert concluded == Unknown("too_large", concluded.reason)  # type: ignore[union-attr]


async def test_daraja_may_ask_for_patience() -> None:
    concluded = await client(Daraja(httpx2.Response(429, headers={"retry-after": "3"}))).b2c(APP, PAYOUT)
    assert isinstance(concluded, NotSent)
    assert concluded.retry_after_seconds == 3


@pytest.mark.parametrize("body", [b"", b'{"errorCode":"400.008.01","errorMessage":"Invalid Authentication passed"}'])
async def test_wrong_keys_refuse_a_payment_because_waiting_will_not_heal_them(body: bytes) -> None:
    daraja = Daraja(oauth=[httpx2.Response(400, content=body), httpx2.Response(400, content=body)])
    concluded = await client(daraja).b2c(APP, PAYOUT)
    assert isinstance(concluded, Refused)
    assert concluded.code == "keys_refused"
    assert daraja.posts == []
    with pytest.raises(KeysRefused):
        await client(daraja).fetch_token(APP)


@pytest.mark.parametrize(
    "oauth",
    [
        httpx2.Response(503, content=b"<html>"),
        httpx2.Response(200, content=b"<html>"),
        httpx2.Response(500, content=b""),
        httpx2.Response(429, content=b""),
        httpx2.Response(302, headers={"location": "https://elsewhere.test/"}),
        httpx2.Response(200, json={"access_token": "token-long-enough", "expires_in": "soon"}),
        httpx2.Response(200, json={"access_token": "token-long-enough", "expires_in": 0}),
        httpx2.Response(200, json={"access_token": "new\r\nline: header", "expires_in": 3599}),
        httpx2.Response(200, json={"access_token": "", "expires_in": 3599}),
        httpx2.Response(200, json={"expires_in": 3599}),
    ],
)
async def test_without_a_token_nothing_is_sent(oauth: httpx2.Response) -> None:
    daraja = Daraja(oauth=[oauth])
    assert isinstance(await client(daraja).stk_push(APP, PUSH), NotSent)
    assert daraja.posts == []
    with pytest.raises(DarajaUnreachable):
        await client(Daraja(oauth=[oauth])).fetch_token(APP)


async def test_production_without_its_certificate_sends_nothing() -> None:
    daraja = Daraja()
    concluded = await client(daraja).b2c(PRODUCTION, PAYOUT)
    assert isinstance(concluded, Refused)
    assert concluded.code == "certificate_missing"
    assert daraja.tokens_given == 0


async def test_a_query_answers_about_the_prompt_asked_for() -> None:
    decided = answer(200, {"ResponseCode": "0", "CheckoutRequestID": CHECKOUT, "ResultCode": "0"})
    assert await client(Daraja(decided)).stk_query(APP, QUERY) == Decided("0", None, CHECKOUT)
    other = answer(200, {"ResponseCode": "0", "CheckoutRequestID": "ws_CO_2", "ResultCode": "0"})
    assert isinstance(await client(Daraja(other)).stk_query(APP, QUERY), Nothing)
    assert isinstance(await client(Daraja(httpx2.ReadTimeout("x"))).stk_query(APP, QUERY), Nothing)


async def test_a_call_leaves_one_log_line_without_secrets_phones_or_ids() -> None:
    daraja = Daraja(error(401, "401.002.01", "Invalid Access Token - token-1"), answer(200, STK_ACK))
    with capture_logs() as logs:
        await client(daraja).stk_push(APP, PUSH)
        await client(daraja).stk_push(APP, PUSH)
    calls = [line for line in logs if line["operation"] == "stk_push"]
    common = {"event": "daraja_call", "log_level": "info", "operation": "stk_push", "environment": "sandbox", "ms": 0}
    assert calls == [
        common | {"status": 401, "conclusion": "TokenRefused", "code": "401.002.01"},
        common | {"status": 200, "conclusion": "Accepted", "code": None},
    ]
    for forbidden in ("s3cret", "token-", "700000012", "/cb/", "m-1"):
        assert forbidden not in repr(logs)


async def test_no_cookie_of_one_organization_reaches_another() -> None:
    http = create_http_client()
    assert http.follow_redirects is False
    assert http.trust_env is False
    http.cookies.extract_cookies(
        httpx2.Response(
            200,
            headers={"set-cookie": "visid=1; Path=/"},
            request=httpx2.Request("GET", "https://sandbox.safaricom.co.ke/"),
        )
    )
    assert len(http.cookies) == 0
    await http.aclose()
