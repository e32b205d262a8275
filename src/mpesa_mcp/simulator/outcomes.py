"""What happens to a payment: the last two digits of the customer's phone decide (the table in docs/simulator.md).

Pure: it names behaviours, the operations carry them out.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Reply(StrEnum):
    """How the HTTP call of the payment is answered."""

    ACCEPTED = "accepted"
    ERROR = "error"  # accepted, but the answer is HTTP 500
    DROPPED = "dropped"  # accepted, but the connection closes without an answer
    FIREWALL = "firewall"  # not accepted: an HTML page
    SPIKE_ARREST = "spike_arrest"  # not accepted the first time, then like ACCEPTED
    LOCKED = "locked"  # not accepted: the subscriber cannot be locked


class Decision(StrEnum):
    """Whether and how the payment comes to an end."""

    SUCCEEDS = "succeeds"
    FAILS = "fails"
    NEVER = "never"
    ASKS_A_PERSON = "asks_a_person"


class Before(StrEnum):
    """What the owner is told before the true result."""

    NOTHING = "nothing"
    FAILURE = "failure"  # a real failure, overruled later
    FORGERY = "forgery"  # somebody else's callback with a wrong amount
    TIMEOUT_ECHO = "timeout_echo"  # QueueTimeOutURL gets the request back
    TIMEOUT_ENVELOPE = "timeout_envelope"  # QueueTimeOutURL gets a Result


@dataclass(frozen=True, slots=True)
class Outcome:
    """`code` is the ResultCode of a failure (final, or the first one of FAILURE); `copies` counts true callbacks."""

    decision: Decision = Decision.SUCCEEDS
    code: str = "0"
    reply: Reply = Reply.ACCEPTED
    copies: int = 1
    before: Before = Before.NOTHING
    before_reply: bool = False
    slow_query: bool = False


SUCCESS = Outcome()
LOST = Outcome(copies=0)


def failure(code: str, *, copies: int = 1) -> Outcome:
    return Outcome(decision=Decision.FAILS, code=code, copies=copies)


_COMMON = {
    84: LOST,
    86: Outcome(copies=3),
    87: Outcome(before_reply=True),
    89: Outcome(before=Before.FORGERY),
    90: Outcome(reply=Reply.ERROR),
    91: Outcome(reply=Reply.FIREWALL),
    92: Outcome(reply=Reply.DROPPED),
    95: Outcome(reply=Reply.SPIKE_ARREST),
    97: Outcome(decision=Decision.NEVER),
}

STK_OUTCOMES = _COMMON | {
    80: failure("1"),
    81: failure("1032"),
    82: failure("2001"),
    83: failure("1037"),
    85: failure("1032", copies=0),
    88: Outcome(before=Before.FAILURE, code="1037"),
    93: LOST,
    94: failure("1032", copies=0),
    96: replace(LOST, slow_query=True),
    98: Outcome(reply=Reply.LOCKED),
    99: Outcome(decision=Decision.ASKS_A_PERSON),
}

B2C_OUTCOMES = _COMMON | {
    80: failure("1"),
    81: failure("2040"),
    82: failure("2001"),
    83: failure("8"),
    85: failure("2040", copies=0),
    88: Outcome(before=Before.FAILURE, code="1"),
    93: Outcome(before=Before.TIMEOUT_ECHO),
    94: replace(failure("2040"), before=Before.TIMEOUT_ENVELOPE),
    96: LOST,
    98: failure("8006"),
    99: SUCCESS,
}


def stk_outcome(msisdn: str) -> Outcome:
    return STK_OUTCOMES.get(int(msisdn[-2:]), SUCCESS)


def b2c_outcome(msisdn: str) -> Outcome:
    return B2C_OUTCOMES.get(int(msisdn[-2:]), SUCCESS)
