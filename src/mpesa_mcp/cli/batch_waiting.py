"""Waiting for a batch: a bar on a terminal, elsewhere a line for each change; until nothing happens by itself.

That is also when nothing has changed for some seconds, and somebody has to act first: to lift a freeze or a suspension,
or to start a worker.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from mpesa_mcp.cli.output import say
from mpesa_mcp.payments.batches.states import BatchStatus, Outcome, Totals

if TYPE_CHECKING:
    from mpesa_mcp.payments.batches.reading import BatchRecord
    from mpesa_mcp.payments.core import Core

_LOOK_SECONDS = 0.5
_BETWEEN_LINES = timedelta(seconds=5)
# Longer than a worker that was told to end and is started again stays away.
_PATIENCE = timedelta(seconds=20)


async def until_at_rest(
    core: "Core", batch: "BatchRecord", *, org: str, patience: timedelta = _PATIENCE
) -> "BatchRecord":
    """Looks again and again; at the end says what is left to a person or to time, and how to look later."""
    import anyio

    from mpesa_mcp.payments.batches.reading import batch_of

    standstill, is_silent, held_up = Standstill(patience), False, None
    with _bar(batch.count) if sys.stderr.isatty() else _log() as tell:
        while True:
            tell(batch, core.clock.now(), is_silent)
            if batch.status.is_at_rest:
                break
            is_silent = standstill.is_long(batch.totals, core.clock.now())
            if is_silent and (held_up := await _held_up(core, batch)):
                break
            await anyio.sleep(_LOOK_SECONDS)
            batch = await batch_of(core, batch.organization_id, batch.batch_id)
    if ending := held_up or _ending(batch):
        say(f"{ending} Look later: mpesa-mcp batch show --org {org} {batch.batch_id} --wait")
    return batch


@dataclass(slots=True)
class Standstill:
    """Since when nothing has become of any row."""

    patience: timedelta
    totals: Totals | None = None
    since: datetime | None = None

    def is_long(self, totals: Totals, now: datetime) -> bool:
        """Whether that is longer than one waits without asking why."""
        if self.since is None or totals != self.totals:
            self.totals, self.since = totals, now
        return now - self.since >= self.patience


async def _held_up(core: "Core", batch: "BatchRecord") -> str | None:
    """What keeps rows from moving until somebody acts; None where it is Safaricom that is waited for."""
    from mpesa_mcp.cli.doctor.workers import NO_WORKER, START_ONE
    from mpesa_mcp.identity.organizations import get_organization
    from mpesa_mcp.store.traces import living

    async with core.store.reading(batch.organization_id) as session:
        standing = (await get_organization(session)).status
    if not standing.may_pay_out and not batch.totals[Outcome.IN_PROGRESS].count:
        return f"Nothing leaves: the organization is {standing}. What waits goes on when that is lifted."
    if not any(each.works for each in await living(core.store, core.clock.now())):
        return f"{NO_WORKER} {START_ONE}."
    return None


@dataclass(slots=True)
class Changes:
    """What is worth a line: another text than the last one, not before some seconds are over."""

    said: str = ""
    at: datetime | None = None

    def is_due(self, text: str, now: datetime, *, at_last: bool) -> bool:
        """Whether to say it; `at_last` is not held back."""
        if text == self.said or (self.at is not None and now - self.at < _BETWEEN_LINES and not at_last):
            return False
        self.said, self.at = text, now
        return True


Tell = Callable[["BatchRecord", datetime, bool], None]


@contextmanager
def _log() -> Iterator[Tell]:
    changes = Changes()

    def tell(batch: "BatchRecord", now: datetime, is_silent: bool) -> None:
        text = f"{done(batch.count, batch.totals):,} of {batch.count:,}, {_counts(batch, is_silent)}"
        if changes.is_due(text, now, at_last=batch.status.is_at_rest):
            say(text)

    yield tell


@contextmanager
def _bar(count: int) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("Paying", total=count)
        yield lambda batch, _now, is_silent: progress.update(
            task, completed=done(batch.count, batch.totals), description=_counts(batch, is_silent)
        )


def done(count: int, totals: Totals) -> int:
    """Of so many rows, those with a result. An unknown one has none: Safaricom is still asked about it."""
    return count - totals.under_way - totals[Outcome.UNKNOWN].count


def counts(totals: Totals, *, is_silent: bool) -> str:
    """What has become of rows, in short; and of how many Safaricom has said nothing yet."""
    failed, unknown, sent = (
        totals[outcome].count for outcome in (Outcome.FAILED, Outcome.UNKNOWN, Outcome.IN_PROGRESS)
    )
    unanswered = f", Safaricom is asked about {sent:,}" if is_silent else f", {sent:,} sent and not answered yet"
    return f"{failed:,} failed, {unknown:,} unknown{unanswered if sent else ''}"


def _counts(batch: "BatchRecord", is_silent: bool) -> str:
    return f"{batch.status}: {counts(batch.totals, is_silent=is_silent)}"


def _ending(batch: "BatchRecord") -> str | None:
    match batch.status:
        case BatchStatus.AWAITING_APPROVAL:
            return "Nothing is paid before a person has approved it."
        case BatchStatus.PAUSED:
            return "Nothing more leaves until somebody resumes or cancels it."
        case BatchStatus.UNRESOLVED:
            return (
                f"Of {batch.totals.not_known:,} rows nobody knows yet whether they were paid; do not pay them again. "
                "Safaricom is asked about them as long as it may know."
            )
        case _:
            return None
