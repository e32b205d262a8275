"""Who did something, in words: for a person who must judge what was asked for, and by whom."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mpesa_mcp.audit.reading import EntryFilter, list_entries
from mpesa_mcp.console import words
from mpesa_mcp.console.visits import Visit
from mpesa_mcp.identity.named import names_of
from mpesa_mcp.payments.records import HistoryLine


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asked, and what the program that asked calls itself."""

    name: str
    client: str | None


async def callers(visit: Visit, actors: Iterable[str]) -> Mapping[str, str]:
    """What people call these actors of the organization."""
    async with visit.core.store.reading(visit.organization_id) as session:
        names = await names_of(session, actors)
    return {actor: words.caller(actor, name) for actor, name in names.items()}


async def who_asked(visit: Visit, actor: str, subject: str) -> Asking:
    """By whom, and through which program, `subject` was asked for."""
    names = await callers(visit, [actor])
    told = await list_entries(
        visit.core.store, visit.organization_id, EntryFilter(actor=actor, subject=subject), limit=200
    )
    return Asking(names[actor], next((entry.client for entry in reversed(told.entries) if entry.client), None))


async def who_decided(visit: Visit, payment_id: str, history: Sequence[HistoryLine]) -> Sequence[str | None]:
    """Of each line of a payment's history: the person behind it, where one was."""
    if not any(line.source == "person" for line in history):
        return [None for _ in history]
    about = EntryFilter(subject=payment_id)
    told = (await list_entries(visit.core.store, visit.organization_id, about, limit=200)).entries
    names = await callers(visit, {entry.actor for entry in told})

    def of(line: HistoryLine) -> str | None:
        # Both are written in one transaction; the same may be decided twice, after a dispute.
        same = [each for each in told if each.action == f"payment.{line.after}" and each.reasons == line.note]
        nearest = min(same, key=lambda entry: abs(entry.at - line.at), default=None)
        return names[nearest.actor] if nearest else None

    return [of(line) if line.source == "person" else None for line in history]
