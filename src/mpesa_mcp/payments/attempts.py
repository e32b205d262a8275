"""One attempt: one call to Daraja, written down before it is made, with the secret path its result will come to."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import anyio
from sqlalchemy import ColumnElement
from sqlalchemy.sql.elements import SQLCoreOperations
from sqlmodel import col, select

from mpesa_mcp.credentials.shortcodes import ShortcodeUnavailable
from mpesa_mcp.daraja.circuits import Turn
from mpesa_mcp.daraja.conclusions import TOO_LATE, Conclusion, NotSent, Operation, Unknown
from mpesa_mcp.errors import MpesaMcpError, NotFoundError
from mpesa_mcp.identity.organizations import get_organization
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import UNAPPLIED, Attempt, Callback, Payment
from mpesa_mcp.payments.schedule import CALL_DEADLINE_SECONDS, SEND_LEASE
from mpesa_mcp.store.engine import StoreUnavailable
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Secret, new_id, random_hex, sha256_hex

# 128 random bits in each path; hex cannot spell a word that Safaricom refuses.
_TOKEN_BITS = 128
# Five minutes of trying.
_WRITES = 300
_WRITE_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """An attempt in the database, and the addresses Daraja is given for its result. Only the token's hash is kept."""

    attempt_id: str
    made_at: datetime
    result_url: Secret

    @property
    def timeout_url(self) -> Secret:
        return Secret(self.result_url.reveal() + "/timeout")


def is_called_back(payment_id: str | SQLCoreOperations[str]) -> ColumnElement[bool]:
    """Whether a callback about an earlier send is there that the payment knows nothing of: it may have been paid."""
    # The payment may be that of the statement around this one.
    sent = select(Attempt.id).where(Attempt.payment_id == payment_id).correlate(Payment)
    return select(Callback.id).where(col(Callback.attempt_id).in_(sent), col(Callback.status).in_(UNAPPLIED)).exists()


async def has_unread_callback(session: OrganizationSession, payment_id: str) -> bool:
    """`is_called_back`, asked at once. Nothing ends as "nothing moved" while this is so."""
    return (
        await session.first(select(Payment.id).where(Payment.id == payment_id, is_called_back(payment_id))) is not None
    )


async def add_attempt(
    core: Core,
    session: OrganizationSession,
    *,
    operation: Operation,
    environment: Environment,
    payment_id: str | None = None,
    inquiry_id: str | None = None,
    callback_id: str | None = None,
) -> NewAttempt:
    """Adds the attempt in the caller's transaction; the call may be made only after that is committed.

    `callback_id` is the organization's, for whoever knows it already.
    """
    now = core.clock.now()
    token = random_hex(_TOKEN_BITS)
    if callback_id is None:
        callback_id = (await get_organization(session)).callback_id
    attempt_id = new_id("att")
    session.append(
        Attempt,
        id=attempt_id,
        payment_id=payment_id,
        inquiry_id=inquiry_id,
        operation=operation,
        callback_token_sha256=sha256_hex(token),
        sent_at=now,
        in_flight_until=now + SEND_LEASE,
        replied_at=None,
        reply=None,
        reply_code=None,
        merchant_request_id=None,
        checkout_request_id=None,
        conversation_id=None,
        originator_conversation_id=None,
    )
    return NewAttempt(attempt_id, now, core.callback_url(environment, callback_id, token))


async def within_deadline(call: Awaitable[Conclusion], turn: Turn) -> Conclusion:
    """Waits for a call to Daraja, but not past the lease. One that is cut off is unknown, if its request had left."""
    with anyio.move_on_after(CALL_DEADLINE_SECONDS):
        return await call
    if not turn.has_left:  # it waited for an access token, or for a certificate
        return TOO_LATE
    return Unknown("timeout", "Safaricom did not answer in time, so it is not known whether this was carried out.")


async def written_down(write: Callable[[], Awaitable[None]]) -> None:
    """Runs `write` again and again while the database is away: what Daraja answered is known nowhere else.

    The ids of a reply that came after the lease still help the questions; only a process that ends loses them.
    """
    for _ in range(_WRITES):
        try:
            await write()
        except StoreUnavailable:
            await anyio.sleep(_WRITE_AGAIN_SECONDS)
        else:
            return
    await write()


def not_prepared(problem: MpesaMcpError) -> NotSent:
    """What a call comes to that could not even be put together: credentials missing or not to be opened."""
    if isinstance(problem, NotFoundError):
        reason = "The shortcode this was to go through has been removed, so nothing was sent. Ask a person."
        return NotSent(ShortcodeUnavailable.code, reason, None)
    return NotSent(problem.code, problem.message, None)
