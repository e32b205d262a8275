"""What an answer says about Daraja itself, whatever it says about the request.

Refusals of one request (400s, a wrong passkey, a busy phone) say that Daraja works.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mpesa_mcp.daraja.conclusions import NotSent, Operation, Refused, Unknown, conclude
from mpesa_mcp.daraja.transport import Reply


class Reason(StrEnum):
    """Why calls of an app are paused; `words` completes "Safaricom ..."."""

    RATE_LIMITED = "rate_limited"
    QUOTA_USED_UP = "quota_used_up"
    NOT_CONNECTED = "not_connected"
    NO_ANSWER = "no_answer"
    WEB_PAGE = "web_page"
    SERVER_ERROR = "server_error"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS: Final = {
    Reason.RATE_LIMITED: "is limiting the rate of requests",
    Reason.QUOTA_USED_UP: "says that the request quota is used up",
    Reason.NOT_CONNECTED: "cannot be reached",
    Reason.NO_ANSWER: "does not answer in time",
    Reason.WEB_PAGE: "is hidden behind a web page, perhaps a firewall's",
    Reason.SERVER_ERROR: "answers with errors of its own",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """Daraja does not work as it should. `proven_unsent`: the request did not leave or was turned away at the door."""

    reason: Reason
    proven_unsent: bool = False
    retry_after_seconds: float | None = None


NO_ANSWER: Final = Trouble(Reason.NO_ANSWER)

_OF_CODE: Final = {
    "not_connected": Reason.NOT_CONNECTED,
    "timeout": Reason.NO_ANSWER,
    "connection_lost": Reason.NO_ANSWER,
    "html": Reason.WEB_PAGE,
    "429": Reason.RATE_LIMITED,
    "500.003.02": Reason.RATE_LIMITED,
    "500.003.03": Reason.QUOTA_USED_UP,
}
# With status 500, and yet mostly about one payment (quirks 10, 11 and 27).
_ABOUT_ONE_PAYMENT: Final = frozenset({"500.001.1001", "500.002.1001"})


def trouble_in(answer: Reply | Refused | NotSent | Unknown) -> Trouble | None:
    """None when Daraja works: also when it refuses."""
    status = 0
    if isinstance(answer, Reply):
        status = answer.status
        # Read as an answer to a question: "system is busy" is then the rate limit it most likely is.
        concluded = conclude(
            status, answer.content_type, answer.body, operation=Operation.STK_QUERY, retry_after=answer.retry_after
        )
    else:
        concluded = answer
    match concluded:
        case NotSent(code=code, retry_after_seconds=seconds):
            reason = _reason(code)
            if status == 429 and reason is Reason.SERVER_ERROR:
                reason = Reason.RATE_LIMITED
            return Trouble(reason, proven_unsent=True, retry_after_seconds=seconds)
        case Unknown(code=code) if code == "html" or not isinstance(answer, Reply):
            return Trouble(_reason(code))
        case Unknown(code=code) if status >= 500 and code not in _ABOUT_ONE_PAYMENT:
            return Trouble(_reason(code))
        case _:
            return None


def _reason(code: str) -> Reason:
    violation = code.rpartition(".")[2].lower()
    if violation == "quotaviolation":
        return Reason.QUOTA_USED_UP
    if violation == "spikearrestviolation":
        return Reason.RATE_LIMITED
    return _OF_CODE.get(code, Reason.SERVER_ERROR)
