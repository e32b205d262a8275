"""What the rules say of a batch, and its rows in the spending counters.

Rows are judged in their order, each after those before it; whether people must approve is asked of the whole, so that
nothing is split to stay below a threshold.

The judging reads a moment and works with no transaction open; the transaction that stores the batch makes sure that the
rules are still those, and reserves by statements that keep to the limits (docs/decisions/0016).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import anyio.to_thread
from sqlalchemy import ColumnElement, func, or_
from sqlmodel import col, select

from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.batches.rows import Row, RowProblem
from mpesa_mcp.payments.batches.states import RowState
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.recipients import first_paid
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.policy.counters import count_again, reserve_many, used_so_far
from mpesa_mcp.policy.rule_book import rules_of
from mpesa_mcp.policy.rules import NO_RULE, Asked, Decision, Place, Rule, Used, bounds, holding, refusal
from mpesa_mcp.policy.windows import Window
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, Kes, Msisdn

# Recipients that one statement asks about.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Judgement:
    """The rules it was judged by, the scopes it is counted in, and the rows that they do not allow.

    `recipients` are those of whom the rules ask since when they are known; `first_paid` is the answer.
    """

    environment: Environment
    scopes: Sequence[str]
    rules: Mapping[str, Rule]
    recipients: Collection[str]
    first_paid: Mapping[str, datetime]
    problems: Sequence[RowProblem] = field(default_factory=tuple)

    @property
    def largest_batch(self) -> int | None:
        """The most rows of one batch, by the strictest rule."""
        return min((rule.largest_batch for rule in self.rules.values() if rule.largest_batch is not None), default=None)

    def approval(self, total: Kes, at: datetime) -> Decision:
        """Whether people must approve a batch of this total, and how many."""
        return holding(self.rules, Asked(amount=total, recipient="", at=at))

    def refusal(self, count: int) -> str | None:
        """Why a batch of so many rows is not paid at all, in a sentence."""
        if self.largest_batch is not None and count > self.largest_batch:
            return f"The rules allow at most {self.largest_batch:,} payments in one batch."
        return f"Line {self.problems[0].line}: {self.problems[0].message}" if self.problems else None

    async def still_holds(self, session: OrganizationSession) -> bool:
        """Whether the rules and the known recipients are still those; the caller has the organization alone."""
        if await rules_of(session, self.scopes) != self.rules:
            return False
        return await first_paid(session, self.environment, self.recipients) == self.first_paid


async def judge(
    core: Core,
    organization_id: str,
    rows: Sequence[Row],
    *,
    environment: Environment,
    scopes: Sequence[str],
    at: datetime,
) -> Judgement:
    """What the rules of these scopes say of the rows, after all that is counted at this moment."""
    async with core.store.reading(organization_id) as session:
        rules = await rules_of(session, scopes)
        used = await _used(session, environment, rules, rows, at)
        asks = any(rule.asks_about_the_past for rule in rules.values())
        recipients = {row.phone.digits for row in rows} if asks else set[str]()
        known = await first_paid(session, environment, recipients)
    problems = await anyio.to_thread.run_sync(_judged, rules, rows, used, known, at)
    return Judgement(environment, scopes, rules, recipients, known, problems)


async def judge_again(session: OrganizationSession, batch: Batch) -> Judgement:
    """What the rules in force now say of what of a batch has not left, and is counted already.

    Its own part is left out. As of the moment it was asked for, whose periods it is counted in; what was asked for
    later does not matter to it. The caller holds the organization.
    """
    environment, at = Environment(batch.environment), batch.created_at
    rules = await rules_of(session, batch.reserved_in)
    queued = select(Payment.id).where(Payment.batch_id == batch.id, Payment.status == PaymentStatus.QUEUED)
    has_not_left = or_(col(BatchLine.state) == RowState.WAITING, col(BatchLine.payment_id).in_(queued))
    lines = select(BatchLine).where(col(BatchLine.batch_id) == batch.id, has_not_left).order_by(col(BatchLine.line))
    rows = [
        Row(line.line, Msisdn(line.phone), Kes(line.amount_cents), line.reference, line.remarks)
        for line in await session.all(lines)
    ]
    used = await _used(session, environment, rules, rows, at)
    asks = any(rule.asks_about_the_past for rule in rules.values())
    recipients = {row.phone.digits for row in rows} if asks else set[str]()
    known = await first_paid(session, environment, recipients, until=at, but_for=batch.id)
    problems = await anyio.to_thread.run_sync(_judged, rules, rows, _without(rows, used), known, at)
    return Judgement(environment, batch.reserved_in, rules, recipients, known, problems)


async def take(session: OrganizationSession, judgement: Judgement, batch: Batch, at: datetime) -> bool:
    """Reserves what waits and was asked for `at` this moment, as one of the last things of a transaction.

    False when somebody was faster.
    """
    return await _count(session, batch, at, scopes=judgement.scopes, rules=judgement.rules, sign=1)


async def give_back_waiting(session: OrganizationSession, batch: Batch) -> None:
    """Gives back what is reserved for the rows that wait."""
    moments = select(BatchLine.asked_at).where(*_waiting(batch)).distinct()
    for at in await session.all(moments):
        await _count(session, batch, at, scopes=batch.reserved_in, rules={}, sign=-1)


def give_back(session: OrganizationSession, batch: Batch, lines: Iterable[BatchLine]) -> None:
    """Gives back what is reserved for these rows, with the commit."""
    for line in lines:
        count_again(
            session,
            environment=Environment(batch.environment),
            scopes=batch.reserved_in,
            paid={line.phone: Used(-line.amount_cents, -1)},
            at=line.asked_at,
        )


async def _count(
    session: OrganizationSession,
    batch: Batch,
    at: datetime,
    *,
    scopes: Sequence[str],
    rules: Mapping[str, Rule],
    sign: int,
) -> bool:
    asked = (*_waiting(batch), col(BatchLine.asked_at) == at)
    cents, payments = func.sum(BatchLine.amount_cents), func.count(col(BatchLine.line))
    summed = select(func.count(col(BatchLine.phone).distinct())).add_columns(cents, payments).where(*asked)
    [(recipients, total_cents, count)] = await session.rows(summed)
    by_recipient = (
        select(col(BatchLine.phone).label("recipient"))
        .add_columns((sign * cents).label("amount_cents"), (sign * payments).label("payments"))
        .where(*asked)
        .group_by(col(BatchLine.phone))
    )
    return await reserve_many(
        session,
        environment=Environment(batch.environment),
        scopes=scopes,
        rules=rules,
        rows=by_recipient,
        recipients=recipients,
        total=Used(sign * int(total_cents or 0), sign * count),
        at=at,
    )


def _waiting(batch: Batch) -> tuple[ColumnElement[bool], ...]:
    return (col(BatchLine.batch_id) == batch.id, col(BatchLine.state) == RowState.WAITING)


def _judged(
    rules: Mapping[str, Rule],
    rows: Sequence[Row],
    used: dict[Place, Used],
    known: Mapping[str, datetime],
    at: datetime,
) -> list[RowProblem]:
    """One row after the other; what is allowed counts for those that follow."""
    if all(_limits_sums_alone(rule) for rule in rules.values()) and _fits(rules, rows, used):
        return []
    problems: list[RowProblem] = []
    first = dict(known)
    for number, row in enumerate(rows):
        phone = row.phone.digits
        asked = Asked(amount=row.amount, recipient=phone, at=at, first_paid_at=first.get(phone))
        if declined := refusal(rules, asked, used):
            reason = declined.reasons[0]
            said = declined.said or reason.sentence
            if number > len(problems) and any(each.resets_at for each in declined.reasons):
                said += " The rows before it are counted."
            problems.append(RowProblem(row.line, "amount", reason.code, said, is_limit=True))
            continue
        first.setdefault(phone, at)
        for scope in rules:
            for place in (*(Place(scope, window, "") for window in Window), Place(scope, Window.DAY, phone)):
                so_far = used.get(place, Used(0, 0))
                used[place] = Used(so_far.cents + row.amount.cents, so_far.payments + 1)
    return problems


def _without(rows: Sequence[Row], used: Mapping[Place, Used]) -> dict[Place, Used]:
    """What is counted without these rows."""
    cents, payments = Counter[str](), Counter[str]()
    for row in rows:
        for recipient in ("", row.phone.digits):
            cents[recipient] += row.amount.cents
            payments[recipient] += 1
    return {
        place: Used(sums.cents - cents[place.recipient], sums.payments - payments[place.recipient])
        for place, sums in used.items()
    }


def _limits_sums_alone(rule: Rule) -> bool:
    """Whether it says nothing of a single row."""
    limited = replace(
        rule,
        per_hour=None,
        per_day=None,
        per_month=None,
        payments_per_hour=None,
        payments_per_day=None,
        payments_per_month=None,
        largest_batch=None,
        approval_above=None,
        second_approval_above=None,
        confirm_in_chat_above=None,
    )
    return limited == NO_RULE


def _fits(rules: Mapping[str, Rule], rows: Sequence[Row], used: Mapping[Place, Used]) -> bool:
    """Whether all rows together stay within every sum: then each does."""
    cents = sum(row.amount.cents for row in rows)
    for scope, rule in rules.items():
        for window in Window:
            most, so_far = bounds(rule, window, of_recipient=False), used.get(Place(scope, window, ""), Used(0, 0))
            if most.cents is not None and so_far.cents + cents > most.cents:
                return False
            if most.payments is not None and so_far.payments + len(rows) > most.payments:
                return False
    return True


async def _used(
    session: OrganizationSession,
    environment: Environment,
    rules: Mapping[str, Rule],
    rows: Sequence[Row],
    at: datetime,
) -> dict[Place, Used]:
    asks_by_recipient = any(
        rule.per_recipient_per_day is not None or rule.payments_per_recipient_per_day is not None
        for rule in rules.values()
    )
    recipients = sorted({row.phone.digits for row in rows}) if asks_by_recipient else []
    used: dict[Place, Used] = {}
    for start in range(0, max(len(recipients), 1), _AT_ONCE):
        part = recipients[start : start + _AT_ONCE]
        used |= await used_so_far(session, environment=environment, scopes=rules, recipients=part, at=at)
    return used
