"""Terms: what an organization agreed to, what that lets it do now, and the sentence for what it does not.

Read in a transaction by whoever decides there (`agreement_of`), and remembered for a few seconds by `TermsBook`, so
that a call costs no read of its own. What is remembered is forgotten at the commit that changes it: at once in that
process, within the time of a wake-up in others, after REMEMBERED in any case.
"""

from asyncio import Event
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mpesa_mcp.billing.models import RateLimit, Subscription
from mpesa_mcp.billing.plans import SELF_HOSTED, PlanRecord, plan_of
from mpesa_mcp.billing.states import SubscriptionStatus, act_of, status_at
from mpesa_mcp.errors import Advice, DeniedError
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import EAT, Clock

REMEMBERED: Final = timedelta(seconds=5)
# Organizations remembered at once; the one not seen for longest goes first.
_MOST: Final = 10_000
_PUT_RIGHT = "Ask a person to put it right with the operator of this platform"


class NotSubscribed(DeniedError):
    """The subscription does not allow this now, or the plan never does. Nothing was stored and nothing was sent."""

    code = "not_subscribed"
    advice = Advice.ASK_A_PERSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What an organization agreed to. `status` is as stored; `status_at` says what it comes to at a moment."""

    plan: PlanRecord = SELF_HOSTED
    status: SubscriptionStatus = SubscriptionStatus.ACTIVE
    trial_ends_at: datetime | None = None

    def status_at(self, now: datetime) -> SubscriptionStatus:
        return status_at(self.status, self.trial_ends_at, now)

    def refusal(self, tool: str, now: datetime, *, so: str = "Nothing was sent.") -> NotSubscribed | None:
        """Why this tool may not be called now, what that means (`so`), and what to do about it; None when it may."""
        if self.plan.tools is not None and tool not in self.plan.tools:
            return NotSubscribed(
                f"The organization's plan, {self.plan.slug}, does not include {tool}. {so} Ask a person to choose "
                "a plan that does.",
                code="not_in_plan",
            )
        if self.status_at(now).allows(act_of(tool)):
            return None
        return NotSubscribed(f"{self._why(now)} {so} {_PUT_RIGHT}.", code=self._code(now))

    def require(self, tool: str, now: datetime, *, so: str = "Nothing was sent.") -> None:
        """Raises NotSubscribed."""
        if refusal := self.refusal(tool, now, so=so):
            raise refusal

    def _code(self, now: datetime) -> str:
        ended = self.status is SubscriptionStatus.TRIAL
        return "trial_ended" if ended else f"subscription_{self.status_at(now)}"

    def _why(self, now: datetime) -> str:
        goes_on = "Collecting and reading go on; paying out and reversing do not."
        match self.status_at(now):
            case SubscriptionStatus.PAST_DUE if self.status is SubscriptionStatus.TRIAL:
                assert self.trial_ends_at is not None  # or it would not have ended
                day = self.trial_ends_at.astimezone(EAT).date()
                return f"The trial of the organization's subscription ended on {day}. {goes_on}"
            case SubscriptionStatus.PAST_DUE:
                return f"The organization's subscription is past due. {goes_on}"
            case SubscriptionStatus.SUSPENDED:
                return "The organization's subscription is suspended: it can be read, and nothing collected or paid."
            case SubscriptionStatus.CANCELLED:
                return "The organization's subscription is cancelled: it can be read, and nothing collected or paid."
            case _:
                raise AssertionError("nothing is refused then")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The agreement and the rate limits in force: the plan's, unless somebody set others. None is no limit."""

    agreement: Agreement
    calls_per_second: int | None
    key_calls_per_second: int | None


async def agreement_of(session: OrganizationSession) -> Agreement:
    """What the session's organization agreed to; `self-hosted` when it subscribed to nothing."""
    row = await session.get(Subscription, session.organization_id)
    if row is None:
        return Agreement()
    return Agreement(
        plan=plan_of(row.plan, row), status=SubscriptionStatus(row.status), trial_ends_at=row.trial_ends_at
    )


async def seats_of(session: OrganizationSession) -> int | None:
    """How many people the session's organization may have; the SeatLimit for `identity.seats`."""
    return (await agreement_of(session)).plan.seats


async def terms_of(session: OrganizationSession) -> Terms:
    """The agreement of the session's organization, and its rate limits."""
    agreement = await agreement_of(session)
    plan = agreement.plan
    own = await session.get(RateLimit, session.organization_id)
    calls, key_calls = (own.calls_per_second, own.key_calls_per_second) if own else (None, None)
    return Terms(
        agreement=agreement,
        calls_per_second=plan.calls_per_second if calls is None else calls,
        key_calls_per_second=plan.key_calls_per_second if key_calls is None else key_calls,
    )


def terms_topic(organization_id: str) -> str:
    """What is woken when the organization's terms change: whoever remembers them forgets them."""
    return f"terms:{organization_id}"


@dataclass(frozen=True, slots=True)
class _Remembered:
    terms: Terms
    until: datetime
    changed: Event


class TermsBook:
    """The terms of organizations that call, remembered. One a process."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()

    async def terms(self, organization_id: str) -> Terms:
        known = self._remembered.get(organization_id)
        if known is not None and self._clock.now() < known.until and not known.changed.is_set():
            self._remembered.move_to_end(organization_id)
            return known.terms
        # Taken before the rows are read: a change that commits in between is not missed.
        changed = self._store.wakeups.token(terms_topic(organization_id))
        async with self._store.reading(organization_id) as session:
            found = await terms_of(session)
        self._remembered[organization_id] = _Remembered(found, self._clock.now() + REMEMBERED, changed)
        self._remembered.move_to_end(organization_id)
        if len(self._remembered) > _MOST:
            gone, _ = self._remembered.popitem(last=False)
            self._store.wakeups.forget(terms_topic(gone))
        return found
