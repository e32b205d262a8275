"""What every process keeps of billing, and the one question all calls are asked: may this one be made now?"""

from dataclasses import dataclass, replace

from mpesa_mcp.billing.rates import RateLimiter
from mpesa_mcp.billing.refusals import Refusals
from mpesa_mcp.billing.states import Act
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
        """Counts a call against the rate limits; gives the terms it is made under.

        Raises RateLimited, LimiterUnavailable, StoreUnavailable; then nothing was done.
        """
        terms = await self.terms.terms(principal.organization_id)
        # A person has the limit of one key, and is never shut out by what keys have used up: they revoke and freeze.
        counted = replace(terms, calls_per_second=None) if principal.is_person else terms
        await self.limiter.admit(
            organization_id=principal.organization_id, actor=principal.actor, terms=counted, act=act
        )
        return terms

    async def close(self) -> None:
        await self.refusals.close()
        await self.limiter.close()
