"""Whether the user is to be asked in the chat before a payout, and about what.

A confirmation comes on top of what rules say, and never in place of an approval: a model talks to the same client. It
only changes what intake does with a payment for which it is wanted: without one, a person approves it instead.
"""

from dataclasses import dataclass

from sqlmodel import select

from mpesa_mcp.billing.terms import agreement_of
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.requests import B2cRequest, PaymentRequest, ReversalRequest, StkPushRequest
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.policy.rule_book import rules_of
from mpesa_mcp.policy.rules import wants_confirmation
from mpesa_mcp.policy.scopes import scopes_of
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Kes, Msisdn


@dataclass(frozen=True, slots=True)
class Paying:
    """Whom a request would pay, and how much."""

    phone: Msisdn
    amount: Kes


async def to_be_confirmed(core: Core, principal: Principal, request: PaymentRequest) -> Paying | None:
    """What the user is to be asked about; None when nothing needs to be asked: a repeated request among that, and one
    that the subscription does not allow.

    It says the same each time until the payment is stored: a client repeats the question with its answer.
    """
    if not request.kind.pays_out or not principal.may_use(request.tool, request.least_role):
        return None
    async with core.store.reading(principal.organization_id) as session:
        known = select(Payment.id).where(Payment.idempotency_key == request.idempotency_key)
        if await session.first(known) is not None:
            return None
        if (await agreement_of(session)).refusal(request.tool, core.clock.now()) is not None:
            return None  # nobody is asked about what intake refuses
        paying = await _paying(session, principal, request)
        if paying is None:
            return None
        rules = await rules_of(session, scopes_of(actor=principal.actor, role=principal.role, tool=request.tool))
    return paying if wants_confirmation(rules, paying.amount) else None


async def _paying(session: OrganizationSession, principal: Principal, request: PaymentRequest) -> Paying | None:
    match request:
        case StkPushRequest():
            return None
        case B2cRequest():
            return Paying(request.phone, request.amount)
        case ReversalRequest():
            received = await session.first(
                select(Payment).where(
                    Payment.receipt == request.receipt,
                    Payment.kind == PaymentKind.STK_PUSH,
                    Payment.environment == principal.environment,
                )
            )
            return Paying(Msisdn(received.phone), Kes(received.amount_cents)) if received is not None else None
