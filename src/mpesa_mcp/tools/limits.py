"""The tool get_limits: which rules bind the caller, and what is left of them."""

from typing import TYPE_CHECKING, Annotated

from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mpesa_mcp.tools.caller import Me
from mpesa_mcp.tools.results import answer, eat_text, grouped, utc_text
from mpesa_mcp.values import Environment, Msisdn, Role

if TYPE_CHECKING:
    from mpesa_mcp.payments.limits import Limits, RuleLimits
    from mpesa_mcp.policy.remaining import Remaining
    from mpesa_mcp.values import Kes

_UNLIMITED = "Null: no limit."
Amount = Annotated[str | None, Field(description=f"In KES. {_UNLIMITED}")]
Number = Annotated[int | None, Field(description=_UNLIMITED)]


class WindowLimit(BaseModel):
    """What may be paid in one hour, day or month of Nairobi, and what is left of it now."""

    window: str
    limit: Amount
    left: Amount
    payments: Number
    payments_left: Number
    resets_at: str


class RuleLimit(BaseModel):
    """One rule; every rule listed must allow a payment. Exactly at a limit is allowed."""

    scope: str = Field(description="organization, or the role, API key or tool it is for.")
    windows: list[WindowLimit]
    per_payment: Amount
    per_recipient_per_day: Amount
    payments_per_recipient_per_day: Number
    first_payment: Amount = Field(description="The most that a recipient who was never paid before may get.")
    cool_off_hours: Number = Field(description="Hours after that in which the recipient gets nothing more.")
    hours: str | None
    days: list[str] | None
    allowed_recipients: list[str] | None = Field(description="Masked. Null: everybody who is not denied.")
    denied_recipients: list[str] = Field(description="Masked.")
    largest_batch: Number
    confirm_in_chat_above: Amount
    approval_above: Amount = Field(description="Above this a person must approve.")
    second_approval_above: Amount = Field(description="Above this two people must approve.")


class LimitsResult(BaseModel):
    """What the caller may do with money now."""

    environment: Environment
    currency: str
    role: Role
    stopped: str | None = Field(description="Why nothing is paid out now, whatever is left. Null: nothing stops it.")
    tools: list[str] = Field(description="The tools that move money and are open to the caller now.")
    rules: list[RuleLimit]


async def get_limits(me: Me) -> Annotated[CallToolResult, LimitsResult]:
    """Tell what this key may do with money, by which rules, and what is left of each limit now.

    Example: call it before planning several payouts, or after one was declined. It takes no arguments and changes
    nothing; only people change rules.
    """
    from mpesa_mcp.payments.limits import limits_of

    limits = await limits_of(me.core, me.principal)
    structure = LimitsResult(
        environment=limits.environment,
        currency="KES",
        role=limits.role,
        stopped=limits.stopped,
        tools=list(limits.tools),
        rules=[_rule(each) for each in limits.rules],
    )
    return answer(structure, _said(limits))


def _rule(limits: "RuleLimits") -> RuleLimit:
    rule = limits.rule
    from mpesa_mcp.policy.words import DAYS

    return RuleLimit(
        scope=limits.scope,
        windows=[_window(each) for each in limits.remaining],
        per_payment=_text(rule.per_payment),
        per_recipient_per_day=_text(rule.per_recipient_per_day),
        payments_per_recipient_per_day=rule.payments_per_recipient_per_day,
        first_payment=_text(rule.first_payment),
        cool_off_hours=rule.cool_off_hours,
        hours=str(rule.hours) if rule.hours else None,
        days=None if rule.days is None else [DAYS[day] for day in sorted(rule.days)],
        allowed_recipients=None if rule.allowed_recipients is None else _masked(rule.allowed_recipients),
        denied_recipients=_masked(rule.denied_recipients),
        largest_batch=rule.largest_batch,
        confirm_in_chat_above=_text(rule.confirm_in_chat_above),
        approval_above=_text(rule.approval_above),
        second_approval_above=_text(rule.second_approval_above),
    )


def _window(left: "Remaining") -> WindowLimit:
    return WindowLimit(
        window=left.window,
        limit=_text(left.limit),
        left=_text(left.left),
        payments=left.payments,
        payments_left=left.payments_left,
        resets_at=utc_text(left.resets_at),
    )


def _text(amount: "Kes | None") -> str | None:
    return None if amount is None else str(amount)


def _masked(phones: frozenset[str]) -> list[str]:
    return sorted(Msisdn(phone).masked for phone in phones)


def _said(limits: "Limits") -> str:
    """The same in sentences: the windows and thresholds; the rest is in the structure."""
    from mpesa_mcp.policy.rules import money, payments, whose

    may = ", ".join(limits.tools) or "no tool that moves money"
    lines = [limits.stopped] if limits.stopped else []
    lines.append(f"Open to you in {limits.environment}: {may}.")
    for each in limits.rules:
        rule, said = each.rule, []
        for left in each.remaining:
            if left.limit is not None and left.left is not None:
                amounts = f"KES {grouped(str(left.left))} of KES {grouped(str(left.limit))}"
                said.append(f"{amounts} {left.window.each} is left until {eat_text(left.resets_at)}")
            if left.payments is not None:
                are = "is" if left.payments_left == 1 else "are"
                said.append(f"{left.payments_left} of {payments(left.payments)} {left.window.each} {are} left")
        for amount, words in (
            (rule.per_payment, "at most {} a payment"),
            (rule.first_payment, "at most {} as the first payment to somebody"),
            (rule.confirm_in_chat_above, "the user confirms in the chat above {}"),
            (rule.approval_above, "a person approves above {}"),
            (rule.second_approval_above, "two people approve above {}"),
        ):
            if amount is not None:
                said.append(words.format(money(amount)))
        if rule.largest_batch is not None:
            said.append(f"at most {payments(rule.largest_batch)} a batch")
        lines.append(f"{whose(each.scope)}: {'; '.join(said) or 'see its fields'}.")
    return "\n".join(lines)
