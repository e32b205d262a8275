"""How an accepted payment goes on: when it is decided, and what its owner is told before, then and how often."""

from collections.abc import Awaitable
from typing import Protocol

from mpesa_mcp.simulator.accounts import Kind
from mpesa_mcp.simulator.outcomes import Before, Decision, Outcome, Reply
from mpesa_mcp.simulator.payments import Payment
from mpesa_mcp.simulator.schedule import pause
from mpesa_mcp.simulator.simulation import Simulation
from mpesa_mcp.simulator.wire import DROPPED, FIREWALL_PAGE, Answer, spike_arrest

INSUFFICIENT = "1"
# A slow query pretends not to know for this many base delays, and for two answers at least.
SLOW_QUERY_DELAYS = 10


class Telling(Protocol):
    """Posts to the owner of a payment, in the words of its operation."""

    def result(self) -> Awaitable[None]: ...

    def forgery(self) -> Awaitable[None]: ...

    def timeout_echo(self) -> Awaitable[None]: ...

    def timeout_envelope(self) -> Awaitable[None]: ...


def refusal(simulation: Simulation, operation: str, phone: str, outcome: Outcome) -> Answer | None:
    """The answer to a call that is not accepted at all, or None."""
    match outcome.reply:
        case Reply.FIREWALL:
            return FIREWALL_PAGE
        case Reply.SPIKE_ARREST:
            return spike_arrest() if simulation.arrest_once(operation, phone) else None
        case Reply.LOCKED:
            text = "Unable to lock subscriber, a transaction is already in process for the current subscriber"
            return simulation.error(500, "500.001.1001", text)
        case Reply.ACCEPTED | Reply.ERROR | Reply.DROPPED:
            return None


async def begin(
    simulation: Simulation, payment: Payment, outcome: Outcome, telling: Telling, *, accepted: Answer, failed: Answer
) -> Answer:
    """Sets an accepted payment going and gives the answer of the HTTP call: `accepted`, `failed` or none."""
    if outcome.before_reply:
        decide(simulation, payment, outcome)
        await telling.result()
    else:
        simulation.schedule.start(lambda: live(simulation, payment, outcome, telling))
    match outcome.reply:
        case Reply.ERROR:
            return failed
        case Reply.DROPPED:
            return DROPPED
        case Reply.ACCEPTED | Reply.SPIKE_ARREST | Reply.FIREWALL | Reply.LOCKED:
            return accepted


async def live(simulation: Simulation, payment: Payment, outcome: Outcome, telling: Telling) -> None:
    """From acceptance to the last callback."""
    if outcome.decision in {Decision.NEVER, Decision.ASKS_A_PERSON}:
        return
    await pause(simulation.delay_seconds)
    if outcome.before is not Before.NOTHING:
        await tell_before(simulation, payment, outcome, telling)
        await pause(0 if outcome.before is Before.FORGERY else simulation.delay_seconds)
    decide(simulation, payment, outcome)
    for _ in range(outcome.copies):
        await telling.result()
    if outcome.slow_query:
        await pause(SLOW_QUERY_DELAYS * simulation.delay_seconds)
        payment.query_is_slow = False


async def tell_before(simulation: Simulation, payment: Payment, outcome: Outcome, telling: Telling) -> None:
    match outcome.before:
        case Before.NOTHING:
            return
        case Before.FAILURE:
            simulation.fail(payment, outcome.code)
            await telling.result()
        case Before.FORGERY:
            await telling.forgery()
        case Before.TIMEOUT_ECHO:
            await telling.timeout_echo()
        case Before.TIMEOUT_ENVELOPE:
            await telling.timeout_envelope()


def decide(simulation: Simulation, payment: Payment, outcome: Outcome) -> None:
    payment.query_is_slow = outcome.slow_query
    if outcome.decision is Decision.FAILS:
        simulation.fail(payment, outcome.code)
    elif payment.kind is not Kind.STK and not simulation.ledger.can_pay(payment.shortcode, payment.amount):
        simulation.fail(payment, INSUFFICIENT)
    else:
        simulation.succeed(payment)
