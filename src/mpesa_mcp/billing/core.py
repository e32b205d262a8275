"""What every process keeps of billing, and the one question all calls are asked: may this one be made now?"""

from dataclasses import dataclass, replace

from mpesa_mcp.billing.rates import RateLimited, RateLimiter
from mpesa_mcp.billing.refusals import Refusals
from mpesa_mcp.billing.states import Act, act_of
from mpesa_mcp.billing.terms import Terms, TermsBook
from mpesa_mcp.identity.principal import Principal


@dataclass(frozen=True, slots=True)
class Billing:
    """The terms it remembers, the calls it counts against the rate limits, and those they refused.

    Closed before the store is.
    """

    terms: TermsBook
    limiter: RateLimiter
    refusals: Refusals

    async def admit(self, principal: Principal, act: Act) -> Terms:
        """Counts a request against the rate limits; gives the terms it is made under.

        Raises RateLimited, LimiterUnavailable, StoreUnavailable; then nothing was done.
        """
        terms = await self.terms.terms(principal.organization_id)
        await self.limiter.admit(
            organization_id=principal.organization_id,
            actor=principal.actor,
            terms=_counted(principal, terms),
            act=act,
        )
        return terms

    async def admit_call(self, principal: Principal, tool: str) -> Terms:
        """`admit` for a call of a tool. One above the limits is noted among the refusals, and raises RateLimited."""
        try:
            return await self.admit(principal, act_of(tool))
        except RateLimited:
            self.refusals.note(principal.organization_id, principal.actor, tool)
            raise

    async def refuses_call(self, principal: Principal, tool: str) -> bool:
        """Whether the limits refuse a call of a tool now. If so, it is noted as `admit_call` would; else nothing is
        counted, and whoever makes the call asks `admit_call`. Raises StoreUnavailable."""
        terms = await self.terms.terms(principal.organization_id)
        if await self.limiter.has_room(
            organization_id=principal.organization_id, actor=principal.actor, terms=_counted(principal, terms)
        ):
            return False
        self.refusals.note(principal.organization_id, principal.actor, tool)
        return True

    async def close(self) -> None:
        await self.refusals.close()
        await self.limiter.close()


def _counted(principal: Principal, terms: Terms) -> Terms:
    """A person has the limit of one key, and is never shut out by what keys have used up: they revoke and freeze."""
    return replace(terms, calls_per_second=None) if principal.is_person else terms
