"""What things are called on a page: events, statuses, callers, in a person's words."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mpesa_mcp.payments.batches.reading import BatchRecord
from mpesa_mcp.payments.batches.states import BatchStatus, Outcome
from mpesa_mcp.payments.states import PaymentEvent, PaymentKind, PaymentStatus
from mpesa_mcp.values import Kes, Msisdn, Role

KINDS: Final = {
    PaymentKind.STK_PUSH: "Collection",
    PaymentKind.B2C: "Payout",
    PaymentKind.REVERSAL: "Reversal",
}
# What a status means for whoever looks at it.
STATUSES: Final = {
    PaymentStatus.AWAITING_APPROVAL: "Nothing has been sent. A person decides first.",
    PaymentStatus.QUEUED: "It waits to be sent.",
    PaymentStatus.SENDING: "It is being sent to Safaricom.",
    PaymentStatus.PENDING: "Safaricom took it and has not said yet what became of it.",
    PaymentStatus.UNKNOWN: "Nobody knows yet whether money moved. Safaricom is asked, or a person decides.",
    PaymentStatus.SUCCEEDED: "The money has moved.",
    PaymentStatus.FAILED: "No money has moved, and none will.",
    PaymentStatus.DECLINED: "It was declined. No money has moved, and none will.",
    PaymentStatus.EXPIRED: "It was not sent in time, or was withdrawn.",
    PaymentStatus.DISPUTED: "Safaricom said both that it succeeded and that it did not. A person decides.",
    PaymentStatus.REVERSED: "The money has moved, and has been given back.",
}
_EVENTS: Final = {
    PaymentEvent.ALLOWED: "Asked for, and allowed",
    PaymentEvent.NEEDS_APPROVAL: "Asked for, and held for a person",
    PaymentEvent.REFUSED_BY_POLICY: "Asked for, and refused by a rule",
    PaymentEvent.APPROVED: "Approved by a person",
    PaymentEvent.DECLINED: "Declined by a person",
    PaymentEvent.APPROVAL_EXPIRED: "Nobody decided in time",
    PaymentEvent.APPROVAL_VOID: "It was not what people were asked about any more",
    PaymentEvent.ATTEMPT_COMMITTED: "Sent to Safaricom",
    PaymentEvent.WITHDRAWN: "Withdrawn by a person",
    PaymentEvent.TOO_OLD: "Waited too long to be sent",
    PaymentEvent.ACCEPTED: "Safaricom took it",
    PaymentEvent.REFUSED: "Safaricom refused it",
    PaymentEvent.UNCLEAR: "The answer was not clear",
    PaymentEvent.NOT_SENT: "Could not be sent; tried again later",
    PaymentEvent.NOT_SENT_FOR_GOOD: "Could not be sent, and is given up",
    PaymentEvent.LEASE_RAN_OUT: "The process that sent it did not come back",
    PaymentEvent.SILENT: "Safaricom stayed silent",
    PaymentEvent.SUCCESS: "Safaricom says that it succeeded",
    PaymentEvent.FAILURE: "Safaricom says that it failed",
    PaymentEvent.REVERSED: "Given back by a reversal",
    PaymentEvent.CONTRADICTION: "Two answers contradict each other",
    PaymentEvent.RESOLVED_SUCCEEDED: "A person decided that it succeeded",
    PaymentEvent.RESOLVED_FAILED: "A person decided that it failed",
    "callback_malformed": "A callback could not be read",
    "callback_mismatch": "A callback did not fit this payment",
    "callback_unconfirmed": "A callback that nothing of ours has confirmed yet",
    "not_answerable": "Safaricom cannot be asked about it",
    "receipt_adopted": "Its receipt became known",
    "receipt_taken": "A callback named a receipt that another payment has",
    "status_mismatch": "Safaricom's answer did not fit this payment",
}
_PAGES: Final = (
    ("/console/approvals", "Approvals", Role.USER),
    ("/console/payments", "Payments", Role.USER),
    ("/console/batches", "Batches", Role.USER),
    ("/console/rules", "Rules", Role.USER),
    ("/console/keys", "Keys", Role.ORG_ADMIN),
)
_SOURCES: Final = {
    "callback": "Safaricom's callback",
    "question": "our question to Safaricom",
    "reply": "Safaricom's reply",
    "timeout": "Safaricom's time-out notice",
    "clock": "the clock",
    "dispatch": "this server",
    "intake": "this server",
    "approval": "this server",
    "batch": "this server",
    "reversal": "the reversal",
    "person": "a person",
}
# What became of the rows of a batch, as a sentence counts them.
_CAME_TO: Final = {
    "paid": (Outcome.SUCCEEDED,),
    "failed": (Outcome.FAILED,),
    "not certain": (Outcome.UNKNOWN, Outcome.DISPUTED),
    "cancelled": (Outcome.CANCELLED,),
    "under way": (Outcome.IN_PROGRESS,),
    "waiting": (Outcome.WAITING,),
}
# What somebody did to a batch, told to them; by the word of the audit.
DONE_TO_A_BATCH: Final = {
    "paused": "You paused it: what has not left waits until somebody lets it go on.",
    "resumed": "You let it go on.",
    "cancelled": "You cancelled what was not sent. What was sent is settled as ever.",
    "retried": "You had failed rows paid again:",
}


# The fields of a rule, in the order and under the headings of the form: label, unit, and what a value says.
RULES: Final = {
    "Approval by a person": {
        "approval_above": ("One approval above", "KES", "Payouts above {} need one approval."),
        "second_approval_above": ("Two approvals above", "KES", "Payouts above {} need two approvals."),
        "confirm_in_chat_above": ("The chat asks, too, above", "KES", "Above {} the chat asks first, too."),
    },
    "The most that may leave": {
        "per_payment": ("With one payment", "KES", "At most {} with one payment."),
        "per_hour": ("In an hour", "KES", "At most {} in an hour."),
        "per_day": ("In a day", "KES", "At most {} in a day."),
        "per_month": ("In a month", "KES", "At most {} in a month."),
    },
    "How many payments": {
        "payments_per_hour": ("In an hour", "", "At most {} payments in an hour."),
        "payments_per_day": ("In a day", "", "At most {} payments in a day."),
        "payments_per_month": ("In a month", "", "At most {} payments in a month."),
        "largest_batch": ("In one batch", "", "At most {} payments in one batch."),
    },
    "To one recipient": {
        "per_recipient_per_day": ("The most in a day", "KES", "At most {} in a day to one recipient."),
        "payments_per_recipient_per_day": ("Payments in a day", "", "At most {} payments in a day to one recipient."),
        "first_payment": (
            "With the first payment",
            "KES",
            "At most {} with a first payment to a recipient.",
        ),
        "cool_off_hours": ("Then nothing more for", "hours", "Nothing more to a new recipient for {} after that."),
    },
}
RULES_TOO: Final = {
    "hours": "Only between",
    "days": "Only on",
    "allowed_recipients": "Only to these numbers",
    "denied_recipients": "Never to these numbers",
}
_SCOPES: Final = {
    "organization": "the whole organization",
    "role:org_admin": "org_admins",
    "role:manager": "managers",
    "role:user": "users",
    "tool:b2c_payment": "single payouts",
    "tool:bulk_payment": "bulk payouts",
    "tool:reverse": "reversals",
    "tool:stk_push": "collections",
}


def rule_field(name: str) -> str:
    """What the form calls a field of a rule; in which part of it, where that is not plain."""
    for group, fields in RULES.items():
        if name in fields:
            return f"“{fields[name][0]}” ({group})"
    return f"“{RULES_TOO[name]}”"


def limits(rule: Mapping[str, Any]) -> Sequence[str]:
    """What a rule says, a sentence for each field."""
    said = [
        sentence.format(f"{unit} {rule[name]:,}" if unit == "KES" else f"{rule[name]:,} {unit}".strip())
        for fields in RULES.values()
        for name, (_, unit, sentence) in fields.items()
        if name in rule
    ]
    for name, label in RULES_TOO.items():
        if name in rule:
            said.append(f"{label} {rule[name] if name == 'hours' else ', '.join(rule[name])}.")
    return said or ["No limit."]


def scope(text: str, names: Mapping[str, str] | None = None) -> str:
    """Whom a rule is for."""
    return _SCOPES.get(text) or (names or {}).get(text) or ("one key" if text.startswith("key:") else text)


def pages(role: Role) -> Sequence[tuple[str, str]]:
    """Path and name of each page in the menu of somebody with this role."""
    if role is Role.SUPER_ADMIN:
        return [("/console/organizations", "Organizations")]
    return [(path, name) for path, name, least in _PAGES if role.at_least(least)]


def caller(actor: str, name: str) -> str:
    """Who did something: a program by its key, a person by the address."""
    kind, _, rest = actor.partition(":")
    if name == actor and rest:
        return f"{kind} {rest}"
    return f"key “{name}”" if kind == "key" else name


def event(name: str) -> str:
    return _EVENTS.get(name, word(name).capitalize())


def source(name: str) -> str:
    return _SOURCES.get(name, word(name))


def word(name: str) -> str:
    """A status or another machine's word, as it is written in a sentence."""
    return name.replace("_", " ")


def phone(number: Msisdn) -> str:
    """A whole number as Kenyans write it, for whoever may see it: 0712 345 678."""
    national = "0" + number.digits[3:]
    return f"{national[:4]} {national[4:7]} {national[7:]}"


def payouts(count: int) -> str:
    return f"{count:,} {'payout' if count == 1 else 'payouts'}"


def left_out(count: int) -> str:
    """Of a batch, how many rows of its file were rejected."""
    return f"{rows(count)} of the file left out"


def rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


def came_to(batch: BatchRecord) -> str:
    """What its rows have come to: 2 paid, 1 failed. What was left out of the file is not among them."""
    counts = {name: sum(batch.totals[each].count for each in outcomes) for name, outcomes in _CAME_TO.items()}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count or name == "paid")


def done_to_batch(action: str, detail: Mapping[str, Any] | None) -> str:
    """What an entry of the audit about a batch says to whoever did it."""
    said = DONE_TO_A_BATCH[action.removeprefix("batch.")]
    if detail is None or "payments" not in detail:
        return said
    left_out = detail.get("paid_meanwhile", 0)
    but = f" {rows(left_out)} left out: whoever is to be paid has got the same amount since." if left_out else ""
    return f"{said} {rows(detail['payments'])}.{but}"


def look(batch: BatchRecord) -> str:
    """The status whose colour that of a batch has: completed is good only where every row was paid."""
    if batch.status is not BatchStatus.COMPLETED:
        return batch.status
    paid = batch.totals[Outcome.SUCCEEDED].count
    if paid == batch.count:
        return PaymentStatus.SUCCEEDED
    return PaymentStatus.PENDING if paid else PaymentStatus.FAILED


def approvals(count: int) -> str:
    return f"{count} {'approval' if count == 1 else 'approvals'}"


def waiting(count: int) -> str:
    """How many approvals wait."""
    return f"{count} {'approval waits' if count == 1 else 'approvals wait'}"


def cents(amount: int) -> Kes:
    return Kes(amount)
