"""Every error the program raises on purpose: one base, five families.

An error carries a stable code, one sentence written for the caller (a model as often as a person), and advice on
what to do next. It never carries a rejected value, a secret, SQL, a path or a provider's prose: those are logged
instead. Subclasses live beside their use and state a fact.

Translation to MCP results happens in `tools/refusals.py`, to HTTP in `api/errors.py`; nowhere else.
"""

from enum import StrEnum


class Advice(StrEnum):
    """What the caller may sensibly do next."""

    FIX_INPUT = "fix_input"
    WAIT = "wait"
    ASK_A_PERSON = "ask_a_person"
    DO_NOT_REPEAT = "do_not_repeat"


class MpesaMcpError(Exception):
    """Base of all errors meant to be read by a caller."""

    code = "internal"
    advice = Advice.ASK_A_PERSON
    http_status = 500

    def __init__(self, message: str, *, code: str | None = None, advice: Advice | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if advice is not None:
            self.advice = advice


class InputError(MpesaMcpError):
    """What the caller sent cannot be accepted; nothing was stored and nothing was sent.

    `field` names the argument; the message says what is accepted.
    """

    code = "invalid_input"
    advice = Advice.FIX_INPUT
    http_status = 422

    def __init__(
        self, message: str, *, field: str | None = None, code: str | None = None, advice: Advice | None = None
    ) -> None:
        super().__init__(message, code=code, advice=advice)
        self.field = field


class DeniedError(MpesaMcpError):
    """The caller may not do this, or the thing is not there for this caller (both read alike)."""

    code = "denied"
    advice = Advice.ASK_A_PERSON
    http_status = 403


class NotFoundError(DeniedError):
    """Not found and not yours: the same answer, to the byte."""

    code = "not_found"
    advice = Advice.FIX_INPUT
    http_status = 404

    def __init__(self, noun: str, *, known_by: str = "id", listing: str = "list what exists if unsure") -> None:
        super().__init__(f"No such {noun}. Check the {known_by}; {listing}.")


class ConflictError(MpesaMcpError):
    """The request contradicts something already stored."""

    code = "conflict"
    advice = Advice.DO_NOT_REPEAT
    http_status = 409


class ProviderError(MpesaMcpError):
    """Safaricom refused, could not be reached, or is not set up for this."""

    code = "provider"
    advice = Advice.WAIT
    http_status = 502


class InternalFault(MpesaMcpError):
    """A fault of ours or of our set-up; the log has the cause."""

    code = "internal"
    advice = Advice.WAIT
    http_status = 500
