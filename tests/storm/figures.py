"""The figures of a storm, as they are printed."""

from collections import Counter
from collections.abc import Iterator, Sequence

from mpesa_mcp.payments.states import PaymentKind, PaymentStatus

from .facts import Facts
from .verdicts import Broken
from .weather import Figures, Plan

_MOST_PRINTED = 40


def figures(database: str, plan: Plan, facts: Facts, counted: Figures) -> str:
    replays = sum(answer["replayed"] for answer in facts.answers)
    deliveries = Counter(
        str(each["http_status"]) if each["http_status"] else each["outcome"] for each in counted.deliveries.values()
    )
    moved = sum(len(row.movements) for row in facts.rows)
    cut_off = sum(row.is_cut_off for row in facts.rows)
    lines = {
        "database": database,
        "seed": plan.seed,
        "payments": f"{len(facts.rows):,} rows, asked for {len(facts.answers):,} times, {replays:,} replays",
        "kills": f"{counted.kills}, which cut off {cut_off} sends",
        "movements": f"{moved:,}",
        "sent and killed for": f"{counted.asked:.0f} s, {len(facts.rows) / counted.asked:.0f} payments a second",
        "at rest after": f"{counted.whole:.0f} s, {counted.leaps} leaps of the clock",
        "callbacks": ", ".join(f"{count:,} {status}" for status, count in sorted(deliveries.items())),
        "database not had in time": f"{counted.away} times by workers, {counted.refusals} times by callers",
        "warnings": ", ".join(f"{count} {event}" for event, count in sorted(counted.warnings.items())) or "none",
    }
    width = max(map(len, lines))
    return "\n".join([*(f"{name:<{width}}  {value}" for name, value in lines.items()), "", *_statuses(facts)])


def _statuses(facts: Facts) -> Iterator[str]:
    counts = Counter((row.status, row.kind) for row in facts.rows)
    kinds = list(PaymentKind)
    yield f"{'':<12}" + "".join(f"{kind:>12}" for kind in kinds)
    for status in PaymentStatus:
        if any(counts[status, kind] for kind in kinds):
            yield f"{status:<12}" + "".join(f"{counts[status, kind]:>12,}" for kind in kinds)


def complaint(broken: Sequence[Broken]) -> str:
    """Every broken promise, with what happened to the row."""
    told = [f"{len(broken)} promises broken"]
    for subject, promise, row in broken[:_MOST_PRINTED]:
        told.append(f"{subject}: not so: {promise}")
        if row is not None:
            told.append(f"  {row.kind} of {row.slug}, digits {row.digits:02d}, {row.status}, receipt {row.receipt}")
            told.extend(f"  {line}" for line in row.history)
            told.extend(f"  moved: {movement}" for movement in row.movements)
    return "\n".join(told)
