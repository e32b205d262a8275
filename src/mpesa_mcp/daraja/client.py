"""The Daraja client: sends a typed request once and says what the answer proves.

It holds no state about payments, opens no transaction, and never sends what moves money a second time: that the gateway
refused the access token is said, and whoever sends again, under another, writes that down as another attempt. A
question goes out once more by itself.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Final, Protocol

import httpx2
import structlog

from mpesa_mcp.daraja.circuits import Turn
from mpesa_mcp.daraja.conclusions import (
    TOO_LATE,
    Accepted,
    Conclusion,
    Held,
    NotSent,
    Operation,
    Refused,
    Unknown,
    conclude,
    refuses_token,
)
from mpesa_mcp.daraja.credential import CertificateMissing, Certificates, PasswordUnusable, security_credential
from mpesa_mcp.daraja.gate import Gate
from mpesa_mcp.daraja.oauth import TOKEN_PATH, DarajaUnreachable, FetchedToken, KeysRefused, authorization, read_token
from mpesa_mcp.daraja.operations import (
    B2cPayment,
    BalanceInquiry,
    Body,
    DarajaApp,
    Reversal,
    StatusInquiry,
    StkPush,
    StkQuery,
)
from mpesa_mcp.daraja.stk_answers import (
    Decided,
    NotAsked,
    Nothing,
    StillPending,
    StkQueryAnswer,
    read_stk_answer,
)
from mpesa_mcp.daraja.transport import DEADLINE_SECONDS, Reply, create_http_client, exchange
from mpesa_mcp.daraja.trouble import NO_ANSWER, trouble_in
from mpesa_mcp.errors import ProviderError
from mpesa_mcp.store.unavailable import StoreUnavailable
from mpesa_mcp.values import Clock, Environment, Secret

__all__ = [
    "AccessTokenSource",
    "DarajaClient",
    "DarajaUnreachable",
    "Decided",
    "FetchedToken",
    "Held",
    "KeysRefused",
    "NotAsked",
    "Nothing",
    "StillPending",
    "StkQueryAnswer",
    "Turn",
    "create_http_client",
]

Fetch = Callable[[], Awaitable[FetchedToken]]

log: Final = structlog.get_logger(__name__)

_NO_STORE: Final = NotSent(StoreUnavailable.code, "The access token could not be read; nothing was sent.", None)
# What kept these from leaving says nothing about Daraja.
_OF_OUR_OWN: Final = (TOO_LATE, _NO_STORE)


class AccessTokenSource(Protocol):
    """Where an app's shared token is kept: in the store, or in memory while keys are only being checked."""

    async def current(self, app: DarajaApp, fetch: Fetch) -> Secret:
        """The token in use; calls `fetch` when there is none that is still good. Passes on what `fetch` raises."""
        ...

    async def forget(self, app: DarajaApp, refused: Secret) -> None:
        """Gives this token to nobody any more, unless another has taken its place already."""
        ...


class DarajaClient:
    """One client serves every organization; what belongs to one arrives as the `app` and the request.

    Each call needs a turn at the gate. Who must know before it writes something down that the call may leave asks for
    the turn first and passes it on; without one the call asks by itself, and is Held or NotAsked when there is none.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        tokens: AccessTokenSource,
        certificates: Certificates,
        clock: Clock,
        *,
        gate: Gate | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        """Without a `gate` every call may leave: for checking keys where there is no store."""
        self._http = http
        self._gate = gate
        self._tokens = tokens
        self._certificates = certificates
        self._clock = clock
        self._deadline_seconds = deadline_seconds

    @asynccontextmanager
    async def turn(self, app: DarajaApp, *, refused_before: int = 0) -> AsyncIterator[Turn | Held]:
        """Leave for one call, which may be waited for; or when to come back.

        `refused_before` is how often the same call was turned away already: after a pause others try first.
        """
        if self._gate is None:
            yield Turn()
            return
        async with self._gate.turn(app, refused_before=refused_before) as turn:
            yield turn

    async def stk_push(self, app: DarajaApp, request: StkPush, *, turn: Turn | None = None) -> Conclusion:
        """Prompts the customer. Two calls are two prompts (quirk 18)."""
        async with self._turn(app, turn) as own:
            if isinstance(own, Held):
                return own
            return await self._submit(app, request.operation, request.path, request.body(self._clock.now()), own)

    async def b2c(self, app: DarajaApp, request: B2cPayment, *, turn: Turn | None = None) -> Conclusion:
        """Pays out. Daraja refuses a second call with the same originator conversation id (quirk 26)."""
        return await self._submit_as_initiator(app, request, turn)

    async def reversal(self, app: DarajaApp, request: Reversal, *, turn: Turn | None = None) -> Conclusion:
        """Gives a received payment back. Two calls are two requests: there is no id of ours (quirk 40)."""
        return await self._submit_as_initiator(app, request, turn)

    async def balance(self, app: DarajaApp, request: BalanceInquiry, *, turn: Turn | None = None) -> Conclusion:
        """Asks for balances; moves nothing. With a bad initiator no result may ever come (quirk 9)."""
        return await self._submit_as_initiator(app, request, turn)

    async def transaction_status(
        self, app: DarajaApp, request: StatusInquiry, *, turn: Turn | None = None
    ) -> Conclusion:
        """Asks about a movement; moves nothing. The answer comes to the result address."""
        return await self._submit_as_initiator(app, request, turn)

    async def stk_query(self, app: DarajaApp, request: StkQuery, *, turn: Turn | None = None) -> StkQueryAnswer:
        """Asks what became of a prompt; moves nothing."""
        async with self._turn(app, turn) as own:
            if isinstance(own, Held):
                return NotAsked(own.reason, own.code, until=own.until)
            started = self._clock.now()
            reply = await self._send(app, request.operation, request.path, request.body(started), own)
            if isinstance(reply, Reply):
                answer = read_stk_answer(
                    reply.status,
                    reply.content_type,
                    reply.body,
                    checkout_request_id=request.checkout_request_id,
                    retry_after=reply.retry_after,
                )
            else:
                answer = Nothing(reply.reason, reply.code)
            self._log(app, request.operation, started, reply, type(answer).__name__, _code_of(answer))
            return answer

    async def fetch_token(self, app: DarajaApp) -> FetchedToken:
        """Asks Daraja for a new access token, which kills the one before. Raises KeysRefused, DarajaUnreachable."""
        started = self._clock.now()
        reply = await exchange(
            self._http,
            "GET",
            app.base_url + TOKEN_PATH,
            headers={"Authorization": authorization(app)},
            deadline_seconds=self._deadline_seconds,
        )
        try:
            if not isinstance(reply, Reply):
                raise DarajaUnreachable(reply.code)
            token = read_token(reply)
        except ProviderError as failed:
            code = failed.cause if isinstance(failed, DarajaUnreachable) else failed.code
            self._log(app, Operation.OAUTH, started, reply, type(failed).__name__, code)
            if isinstance(failed, DarajaUnreachable):
                failed.message = _told(app, failed.message)
            raise
        self._log(app, Operation.OAUTH, started, reply, "Fetched", None)
        return token

    @asynccontextmanager
    async def _turn(self, app: DarajaApp, given: Turn | None) -> AsyncIterator[Turn | Held]:
        if given is not None:
            yield given
            return
        async with self.turn(app) as own:
            yield own

    async def _submit_as_initiator(
        self, app: DarajaApp, request: B2cPayment | Reversal | BalanceInquiry | StatusInquiry, turn: Turn | None
    ) -> Conclusion:
        async with self._turn(app, turn) as own:
            if isinstance(own, Held):
                return own
            try:
                key = await self._certificates.key_for(app)
            except CertificateMissing as missing:
                return Refused(missing.code, missing.message)
            except DarajaUnreachable as unreachable:
                unsent = NotSent(unreachable.cause, _told(app, unreachable.message), None)
                own.called, own.trouble = True, trouble_in(unsent)
                return unsent
            try:
                credential = security_credential(request.initiator.password, key)
            except PasswordUnusable as unusable:
                return Refused(unusable.code, unusable.message)
            return await self._submit(app, request.operation, request.path, request.body(credential), own)

    async def _submit(self, app: DarajaApp, operation: Operation, path: str, body: Body, turn: Turn) -> Conclusion:
        started = self._clock.now()
        reply = await self._send(app, operation, path, body, turn)
        conclusion: Conclusion
        if isinstance(reply, Reply):
            conclusion = conclude(
                reply.status, reply.content_type, reply.body, operation=operation, retry_after=reply.retry_after
            )
        else:
            conclusion = reply
        self._log(app, operation, started, reply, type(conclusion).__name__, _code_of(conclusion))
        return conclusion

    async def _send(
        self, app: DarajaApp, operation: Operation, path: str, body: Body, turn: Turn
    ) -> Reply | Refused | NotSent | Unknown:
        # A call that is cut off got no answer.
        turn.called, turn.trouble = True, NO_ANSWER
        reply = await self._send_with_token(app, operation, path, body, turn)
        turn.called = not any(reply is each for each in _OF_OUR_OWN)
        turn.trouble = trouble_in(reply) if turn.called else None
        return reply

    async def _send_with_token(
        self, app: DarajaApp, operation: Operation, path: str, body: Body, turn: Turn
    ) -> Reply | Refused | NotSent | Unknown:
        """One request under the current token. If that is refused, a question is repeated under another.

        A second refusal is not the token's fault: the app lacks the product (quirk 54). It is concluded as any answer.
        """
        content = json.dumps(body).encode()
        try:
            token = await self._tokens.current(app, lambda: self.fetch_token(app))
            reply = await self._post(app, path, content, token, turn)
            if isinstance(reply, Reply) and refuses_token(reply.status, reply.body):
                if operation.moves_money:
                    with suppress(StoreUnavailable):  # what was answered counts, whatever becomes of the token
                        await self._tokens.forget(app, token)
                    return reply
                await self._tokens.forget(app, token)
                token = await self._tokens.current(app, lambda: self.fetch_token(app))
                reply = await self._post(app, path, content, token, turn)
        except StoreUnavailable:
            return _NO_STORE
        except KeysRefused as refused:
            return Refused(refused.code, refused.message)
        except DarajaUnreachable as unreachable:
            # Without a token nothing was sent; and a question that was refused for its token may be asked again.
            return NotSent(unreachable.cause, _told(app, unreachable.message), unreachable.retry_after_seconds)
        if isinstance(reply, NotSent) and reply is not TOO_LATE:  # what came of a connection
            return replace(reply, reason=_told(app, reply.reason))
        return reply

    async def _post(
        self, app: DarajaApp, path: str, content: bytes, token: Secret, turn: Turn
    ) -> Reply | NotSent | Unknown:
        if turn.leaves_by is not None and self._clock.now() > turn.leaves_by:
            return TOO_LATE
        turn.has_left = True
        return await exchange(
            self._http,
            "POST",
            app.base_url + path,
            # Without a content type Daraja complains about the first field instead (quirk 58).
            headers={"Authorization": f"Bearer {token.reveal()}", "Content-Type": "application/json"},
            content=content,
            deadline_seconds=self._deadline_seconds,
        )

    def _log(
        self,
        app: DarajaApp,
        operation: Operation,
        started_at: datetime,
        reply: object,
        conclusion: str,
        code: str | None,
    ) -> None:
        """One line per call; no ids, phones, secrets or bodies."""
        log.info(
            "daraja_call",
            operation=operation.value,
            environment=app.environment.value,
            status=reply.status if isinstance(reply, Reply) else None,
            conclusion=conclusion,
            code=code,
            ms=round((self._clock.now() - started_at).total_seconds() * 1000),
        )


def _told(app: DarajaApp, reason: str) -> str:
    """Why nothing could be sent; for the simulator, what to do about it."""
    if app.environment is Environment.SIMULATOR:
        return f"The simulator at {app.base_url} could not be reached; nothing was sent. Start: mpesa-mcp simulator."
    return reason


def _code_of(answer: Conclusion | StkQueryAnswer) -> str | None:
    match answer:
        case Decided(result_code=code):
            return code
        case Accepted() | StillPending():
            return None
        case _:
            return answer.code
