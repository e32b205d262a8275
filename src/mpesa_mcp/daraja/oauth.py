"""The access token of an app: asking for one, and what the answer proves (daraja/api.md §1).

Each new token kills the one before, so tokens are shared and kept elsewhere; this only fetches.
"""

import base64
import re
from dataclasses import dataclass
from typing import Final

from mpesa_mcp.daraja.bodies import Malformed, code_at, read_object
from mpesa_mcp.daraja.conclusions import NotSent, Operation, Refused, conclude, error_in
from mpesa_mcp.daraja.operations import DarajaApp
from mpesa_mcp.daraja.transport import Reply
from mpesa_mcp.errors import Advice, ProviderError
from mpesa_mcp.values import Secret

TOKEN_PATH: Final = "/oauth/v1/generate?grant_type=client_credentials"  # noqa: S105 -- a path

_TOKEN = re.compile(r"[!-~]{1,2048}")
_MAX_LIFE_SECONDS: Final = 24 * 60 * 60


@dataclass(frozen=True, slots=True)
class FetchedToken:
    """A fresh access token, good for about an hour."""

    access_token: Secret
    expires_in_seconds: int


class KeysRefused(ProviderError):
    """Safaricom refused the consumer key and secret; waiting will not heal that."""

    code = "keys_refused"
    advice = Advice.ASK_A_PERSON

    def __init__(self) -> None:
        super().__init__(
            "Safaricom refused the consumer key and secret of this app. "
            "A person must correct the credentials; nothing was submitted."
        )


class DarajaUnreachable(ProviderError):
    """Safaricom gave no usable answer to a question that moves nothing. `cause` is a short code of ours or theirs."""

    code = "daraja_unreachable"
    advice = Advice.WAIT

    def __init__(self, cause: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__("Safaricom could not be reached or gave no usable answer; nothing was submitted.")
        self.cause = cause
        self.retry_after_seconds = retry_after_seconds


def authorization(app: DarajaApp) -> str:
    """The Basic header. As good as the secret itself: never logged (daraja/security.md §2)."""
    pair = f"{app.consumer_key}:{app.consumer_secret.reveal()}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def read_token(reply: Reply) -> FetchedToken:
    """Raises KeysRefused or DarajaUnreachable."""
    if reply.status in {400, 401} and not reply.body.strip():
        raise KeysRefused  # wrong keys may be answered by an empty 400 (quirk 55)
    if not 200 <= reply.status < 300:
        raise _refusal(reply)
    try:
        body = read_object(reply.body)
        token = body.get("access_token")
        life = int(code_at(body, "expires_in"))  # a string or a number (quirk 52)
    except (Malformed, ValueError) as unreadable:
        # A web page with status 200, for one (quirk 55).
        raise DarajaUnreachable("unreadable") from unreadable
    if not isinstance(token, str) or not _TOKEN.fullmatch(token) or not 0 < life <= _MAX_LIFE_SECONDS:
        raise DarajaUnreachable("unreadable")
    return FetchedToken(Secret(str(token)), life)


def _refusal(reply: Reply) -> ProviderError:
    try:
        error = error_in(read_object(reply.body))
    except Malformed:
        error = None
    if error is not None and error.code in {"400.008.01", "400.008.02"}:
        return KeysRefused()
    match conclude(
        reply.status, reply.content_type, reply.body, operation=Operation.OAUTH, retry_after=reply.retry_after
    ):
        case Refused(code=code):
            return DarajaUnreachable(code)
        case NotSent(code=code, retry_after_seconds=seconds):
            return DarajaUnreachable(code, retry_after_seconds=seconds)
        case other:
            return DarajaUnreachable(getattr(other, "code", "unreadable"))
