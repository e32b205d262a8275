"""Rules about money, and the decision of them about one payment. Pure: no clock, no database.

A rule belongs to a scope: the whole organization, a role, one API key or one tool. All rules whose scope a payment
falls into must allow it, and the strictest answer wins. Every limit is inclusive: exactly at it is allowed, and exactly
at a threshold nobody is asked. Hours, days and months are Nairobi's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import product
from typing import NamedTuple

from mpesa_mcp.policy.windows import Window
from mpesa_mcp.values import EAT, Kes

ORGANIZATION = "organization"
# As much as a payment's `reason` holds.
_MAX_SAID = 300


class Hours(NamedTuple):
    """A part of the day, in minutes after midnight: from `start` until just before `end`, over midnight if need be."""

    start: int
    end: int

    def include(self, minute: int) -> bool:
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def __str__(self) -> str:
        return "-".join(f"{minute // 60:02d}:{minute % 60:02d}" for minute in self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one scope may do; None is no limit. The name of a field is also the code of a reason it gives."""

    per_payment: Kes | None = None
    per_hour: Kes | None = None
    per_day: Kes | None = None
    per_month: Kes | None = None
    payments_per_hour: int | None = None
    payments_per_day: int | None = None
    payments_per_month: int | None = None
    per_recipient_per_day: Kes | None = None
    payments_per_recipient_per_day: int | None = None
    first_payment: Kes | None = None
    """The most that a recipient who was never paid before may be paid."""
    cool_off_hours: int | None = None
    """How long after that first payment the same recipient gets nothing more."""
    allowed_recipients: frozenset[str] | None = None
    """Twelve digits each; nobody else is paid."""
    denied_recipients: frozenset[str] = frozenset()
    hours: Hours | None = None
    days: frozenset[int] | None = None
    """Monday is 0."""
    largest_batch: int | None = None
    """The most rows of one batch. Judged where a batch is made: a single payment has no rows."""
    approval_above: Kes | None = None
    second_approval_above: Kes | None = None
    confirm_in_chat_above: Kes | None = None

    @property
    def asks_about_the_past(self) -> bool:
        """Whether it must be known when the recipient was paid for the first time."""
        return self.first_payment is not None or self.cool_off_hours is not None


# What holds for an organization that has set no rule of its own.
DEFAULT_RULE = Rule(approval_above=Kes.from_shillings(10_000), per_day=Kes.from_shillings(100_000))
NO_RULE = Rule()


class Place(NamedTuple):
    """What a counter counts: a scope's payments of the present window; to one recipient, or ('') to all."""

    scope: str
    window: Window
    recipient: str


class Used(NamedTuple):
    """What is counted there: payments that moved money, or may still."""

    cents: int
    payments: int


class Bounds(NamedTuple):
    """The most that may be counted at a place."""

    cents: int | None
    payments: int | None


# A rule says nothing of what one recipient gets in an hour or in a month.
_NO_BOUNDS = Bounds(None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A payment as rules see it. `first_paid_at` is when the recipient's first payment was asked for, if any was.

    `confirmed`: the user has said yes to it in the chat.
    """

    amount: Kes
    recipient: str
    at: datetime
    first_paid_at: datetime | None = None
    confirmed: bool = False


class Outcome(StrEnum):
    ALLOW = "allow"
    NEEDS_APPROVAL = "needs_approval"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why not simply allowed. `code` is the field of the rule, `scope` whose rule; `sentence` says it to a person.

    `left` or `payments_left` is what could still be paid, for a limit; `resets_at` when it is whole again.
    """

    code: str
    scope: str
    sentence: str
    left: Kes | None = None
    payments_left: int | None = None
    resets_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`approvers` is how many people must approve; more than 0 only when the outcome is needs_approval.

    Of several `reasons` the first is the one that lasts longest: whoever waits for that has waited for all.
    """

    outcome: Outcome
    reasons: tuple[Reason, ...] = ()
    approvers: int = 0

    @property
    def said(self) -> str | None:
        """The sentences of the reasons, as many as a payment's reason holds."""
        said = ""
        for reason in self.reasons:
            longer = f"{said} {reason.sentence}".strip()
            if len(longer) > _MAX_SAID:
                break
            said = longer
        return said or None


def decide(rules: Mapping[str, Rule], asked: Asked, used: Mapping[Place, Used]) -> Decision:
    """What the rules, by scope, say of a payment; a place that is not in `used` has counted nothing."""
    return refusal(rules, asked, used) or holding(rules, asked)


def refusal(rules: Mapping[str, Rule], asked: Asked, used: Mapping[Place, Used]) -> Decision | None:
    """That they decline it; None when they do not."""
    refused = tuple(
        reason
        for scope, rule in rules.items()
        for reason in (*_refusals(scope, rule, asked), *_exceeded(scope, rule, asked, used))
    )
    if not refused:
        return None
    return Decision(outcome=Outcome.DECLINED, reasons=tuple(sorted(refused, key=_how_lasting)))


def holding(rules: Mapping[str, Rule], asked: Asked) -> Decision:
    """Whether people must approve it, and how many, whatever the limits say."""
    held = tuple(reason for scope, rule in rules.items() for reason in _held(scope, rule, asked))
    if not held:
        return Decision(outcome=Outcome.ALLOW)
    two = any(reason.code == "second_approval_above" for reason in held)
    return Decision(
        outcome=Outcome.NEEDS_APPROVAL,
        reasons=tuple(sorted(held, key=lambda reason: reason.code != "second_approval_above")),
        approvers=2 if two else 1,
    )


def wants_confirmation(rules: Mapping[str, Rule], amount: Kes) -> bool:
    """Whether the user is to be asked in the chat before such a payment is stored."""
    return any(_is_above(amount, rule.confirm_in_chat_above) for rule in rules.values())


def bounds(rule: Rule, window: Window, *, of_recipient: bool) -> Bounds:
    """The limits that a rule sets to what is counted in one window, of one recipient or of all."""
    match window:
        case Window.HOUR:
            return _NO_BOUNDS if of_recipient else Bounds(_cents(rule.per_hour), rule.payments_per_hour)
        case Window.DAY if of_recipient:
            return Bounds(_cents(rule.per_recipient_per_day), rule.payments_per_recipient_per_day)
        case Window.DAY:
            return Bounds(_cents(rule.per_day), rule.payments_per_day)
        case Window.MONTH:
            return _NO_BOUNDS if of_recipient else Bounds(_cents(rule.per_month), rule.payments_per_month)


def whose(scope: str) -> str:
    """How a sentence begins that names the rule of a scope."""
    kind, _, name = scope.partition(":")
    match kind:
        case "role":
            return f"The rule for the role {name}"
        case "key":
            return "The rule for this API key"
        case "tool":
            return f"The rule for {name}"
        case _:
            return "The organization's rule"


def money(amount: Kes) -> str:
    """As sentences write it: KES 12,000.00."""
    return f"KES {amount.cents // 100:,}.{amount.cents % 100:02d}"


def payments(count: int) -> str:
    """As sentences write it: 1 payment, 1,500 payments."""
    return f"{count:,} payment{'' if count == 1 else 's'}"


def _refusals(scope: str, rule: Rule, asked: Asked) -> Iterator[Reason]:
    """What it is refused for whatever was spent before."""
    local = asked.at.astimezone(EAT)
    if rule.per_payment is not None and asked.amount > rule.per_payment:
        sentence = f"allows at most {money(rule.per_payment)} a payment."
        yield _reason(scope, "per_payment", sentence, left=rule.per_payment)
    if asked.recipient in rule.denied_recipients:
        yield _reason(scope, "denied_recipients", "forbids payments to this number.", left=Kes(0))
    if rule.allowed_recipients is not None and asked.recipient not in rule.allowed_recipients:
        sentence = "allows payments to the numbers on its list only; this is none of them."
        yield _reason(scope, "allowed_recipients", sentence, left=Kes(0))
    if rule.days is not None and local.weekday() not in rule.days:
        yield _reason(scope, "days", f"allows no payments on a {local:%A} (Nairobi).", left=Kes(0))
    if rule.hours is not None and not rule.hours.include(local.hour * 60 + local.minute):
        yield _reason(scope, "hours", f"allows payments at {rule.hours} Nairobi time only.", left=Kes(0))
    if asked.first_paid_at is None:
        if rule.first_payment is not None and asked.amount > rule.first_payment:
            sentence = f"allows at most {money(rule.first_payment)} as the first payment to a recipient."
            yield _reason(scope, "first_payment", sentence, left=rule.first_payment)
    elif rule.cool_off_hours is not None:
        over = asked.first_paid_at + timedelta(hours=rule.cool_off_hours)
        if asked.at < over:
            sentence = f"allows nothing more to a new recipient until {_written(over)}."
            yield _reason(scope, "cool_off_hours", sentence, left=Kes(0), resets_at=over)


def _exceeded(scope: str, rule: Rule, asked: Asked, used: Mapping[Place, Used]) -> Iterator[Reason]:
    """Which limits of what is paid in a window it would go above."""
    for recipient, window in product(("", asked.recipient), Window):
        most = bounds(rule, window, of_recipient=recipient != "")
        so_far = used.get(Place(scope, window, recipient), Used(0, 0))
        is_too_much = most.cents is not None and so_far.cents + asked.amount.cents > most.cents
        are_too_many = most.payments is not None and so_far.payments + 1 > most.payments
        if not (is_too_much or are_too_many):
            continue
        resets_at = window.end(asked.at)
        name, one = (f"per_recipient_per_{window}", "one recipient ") if recipient else (f"per_{window}", "")
        until = f"until {_written(resets_at)}"
        if most.cents is not None and is_too_much:
            left = Kes(max(most.cents - so_far.cents, 0))
            sentence = f"allows {one}{money(Kes(most.cents))} {window.each}; {money(left)} of it is left {until}."
            yield _reason(scope, name, sentence, left=left, resets_at=resets_at)
        if most.payments is not None and are_too_many:
            sentence = f"allows {one}{payments(most.payments)} {window.each}; none is left {until}."
            yield _reason(scope, f"payments_{name}", sentence, payments_left=0, resets_at=resets_at)


def _how_lasting(reason: Reason) -> tuple[int, float]:
    """Sorts what never passes by itself before what passes late, and that before what passes soon."""
    if reason.resets_at is not None:
        return 1, -reason.resets_at.timestamp()
    return (2 if reason.code in {"hours", "days"} else 0), 0


def _held(scope: str, rule: Rule, asked: Asked) -> Iterator[Reason]:
    """Whether a person must approve it, or two; and whether one must because nobody has confirmed it in the chat."""
    two, one, in_chat = rule.second_approval_above, rule.approval_above, rule.confirm_in_chat_above
    if two is not None and asked.amount > two:
        yield _reason(scope, "second_approval_above", f"asks two people to approve what is above {money(two)}.")
    elif one is not None and asked.amount > one:
        yield _reason(scope, "approval_above", f"asks a person to approve what is above {money(one)}.")
    if in_chat is not None and asked.amount > in_chat and not asked.confirmed:
        sentence = f"has the user confirm in the chat what is above {money(in_chat)}, or a person approve it."
        yield _reason(scope, "confirm_in_chat_above", sentence)


def _reason(
    scope: str,
    code: str,
    sentence: str,
    *,
    left: Kes | None = None,
    payments_left: int | None = None,
    resets_at: datetime | None = None,
) -> Reason:
    said = f"{whose(scope)} {sentence}"
    return Reason(code=code, scope=scope, sentence=said, left=left, payments_left=payments_left, resets_at=resets_at)


def _written(moment: datetime) -> str:
    return f"{moment.astimezone(EAT):%Y-%m-%d %H:%M} in Nairobi"


def _is_above(amount: Kes, threshold: Kes | None) -> bool:
    return threshold is not None and amount > threshold


def _cents(amount: Kes | None) -> int | None:
    return None if amount is None else amount.cents
