"""What rules say of a payment, and the payment in the spending counters, from being asked for until nothing can move.

Reserved in the transaction that stores it, also while a person is to approve it. Given back when its status becomes
one in which nothing moved, and counted again should such an end be disputed: a counter says at all times what the
payments say, until its period is so long over that it is forgotten.
"""

from dataclasses import dataclass
from datetime import datetime

from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.recipients import first_paid
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus, first_status
from mpesa_mcp.policy.counters import count_again, reserve, used_so_far
from mpesa_mcp.policy.rule_book import rules_of
from mpesa_mcp.policy.rules import Asked, Decision, Outcome, Rule, Used, decide
from mpesa_mcp.policy.scopes import scopes_of
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Kes

EVENT_OF = {
    Outcome.ALLOW: PaymentEvent.ALLOWED,
    Outcome.NEEDS_APPROVAL: PaymentEvent.NEEDS_APPROVAL,
    Outcome.DECLINED: PaymentEvent.REFUSED_BY_POLICY,
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the rules in force said of a new payment, and in which scopes it is counted."""

    decision: Decision
    rules: dict[str, Rule]
    counted_in: tuple[str, ...]

    @property
    def event(self) -> PaymentEvent:
        return EVENT_OF[self.decision.outcome]


async def judge(
    session: OrganizationSession, principal: Principal, tool: str, payment: Payment, *, confirmed: bool
) -> Judgement:
    """What the rules say of a payment that is about to be stored. The caller holds the organization."""
    scopes = scopes_of(actor=principal.actor, role=principal.role, tool=tool)
    rules = await rules_of(session, scopes)
    # Payouts are counted everywhere, so that a new rule finds what was spent; collections where there is a rule.
    counted_in = scopes if PaymentKind(payment.kind).pays_out else tuple(rules)
    if not rules:
        return Judgement(decide({}, _asked(payment, None, confirmed=confirmed), {}), rules, counted_in)
    first_paid_at = None
    if any(rule.asks_about_the_past for rule in rules.values()):
        await session.take_turn(f"recipient/{payment.phone}")
        known = await first_paid(session, Environment(payment.environment), [payment.phone])
        first_paid_at = known.get(payment.phone)
    used = await used_so_far(
        session,
        environment=Environment(payment.environment),
        scopes=rules,
        recipients=[payment.phone],
        at=payment.created_at,
    )
    return Judgement(decide(rules, _asked(payment, first_paid_at, confirmed=confirmed), used), rules, counted_in)


async def judge_again(session: OrganizationSession, payment: Payment) -> Decision:
    """What the rules in force now say of a payment that waits and is counted already: its own part is left out.

    As of the moment it was asked for, whose periods it is counted in; what was asked for later does not matter to it.
    A person looks at it, so nobody need confirm it in the chat. The caller holds the organization.
    """
    rules = await rules_of(session, payment.reserved_in)
    used = await used_so_far(
        session,
        environment=Environment(payment.environment),
        scopes=rules,
        recipients=[payment.phone],
        at=payment.created_at,
    )
    others = {place: Used(sums.cents - payment.amount_cents, sums.payments - 1) for place, sums in used.items()}
    first_paid_at = None
    if any(rule.asks_about_the_past for rule in rules.values()):
        environment, at = Environment(payment.environment), payment.created_at
        known = await first_paid(session, environment, [payment.phone], until=at, but_for=payment.id)
        first_paid_at = known.get(payment.phone)
    return decide(rules, _asked(payment, first_paid_at, confirmed=True), others)


def begin(payment: Payment, judgement: Judgement) -> None:
    """Gives the new row the status that the rules give it, and what belongs to that."""
    decision, now = judgement.decision, payment.created_at
    payment.status = first_status(judgement.event)
    payment.reason = decision.said
    match decision.outcome:
        case Outcome.ALLOW:
            payment.queued_at = payment.next_action_at = now
        case Outcome.NEEDS_APPROVAL:
            pass  # due when its approval expires: `held.hold_for_approval`
        case Outcome.DECLINED:
            payment.settled_at = now
            payment.result_code = decision.reasons[0].code
    if decision.outcome is not Outcome.DECLINED:
        payment.reserved_in = list(judgement.counted_in)


async def take(session: OrganizationSession, judgement: Judgement, payment: Payment) -> bool:
    """Reserves what the payment needs, as the last thing of its transaction; False when somebody was faster."""
    if not payment.reserved_in:
        return True
    return await reserve(
        session,
        environment=Environment(payment.environment),
        scopes=payment.reserved_in,
        rules=judgement.rules,
        paid={payment.phone: Used(payment.amount_cents, 1)},
        at=payment.created_at,
    )


def follow(session: OrganizationSession, payment: Payment, before: PaymentStatus, after: PaymentStatus) -> None:
    """Gives back what was reserved, or counts it again, when a change of status says so; with its commit."""
    if before.nothing_moved == after.nothing_moved or not payment.reserved_in:
        return
    sign = -1 if after.nothing_moved else 1
    count_again(
        session,
        environment=Environment(payment.environment),
        scopes=payment.reserved_in,
        paid={payment.phone: Used(sign * payment.amount_cents, sign)},
        at=payment.created_at,
    )


def _asked(payment: Payment, first_paid_at: datetime | None, *, confirmed: bool) -> Asked:
    return Asked(
        amount=Kes(payment.amount_cents),
        recipient=payment.phone,
        at=payment.created_at,
        first_paid_at=first_paid_at,
        confirmed=confirmed,
    )
