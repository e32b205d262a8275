"""Workers: whether one lives, and whether work lies undone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from mpesa_mcp.cli.doctor.findings import Finding, Status
from mpesa_mcp.store.crossings import DueTable, next_due
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.traces import living

NO_WORKER: Final = "No worker was seen within 45 seconds: nothing is sent, no callback is applied."
START_ONE: Final = "Run: mpesa-mcp serve, or mpesa-mcp worker"
# Longer than any lease: what is due for so long was taken by nobody, or is taken again and again in vain.
_UNDONE_AFTER: Final = timedelta(minutes=5)
_ALWAYS: Final = datetime(2000, 1, 1, tzinfo=UTC)


async def workers(store: Store, now: datetime) -> Sequence[Finding]:
    """By the traces that processes leave, and by the oldest row that is due in each queue."""
    working = [each for each in await living(store, now) if each.works]
    findings = []
    if working:
        seen = max(each.seen_at for each in working)
        places = ", ".join(each.place for each in working)
        ago = max(0, round((now - seen).total_seconds()))
        findings.append(Finding("worker", Status.OK, f"Working: {places}; seen {ago} s ago."))
    else:
        findings.append(Finding("worker", Status.WARNING, NO_WORKER, START_ONE))
    for queue in DueTable:
        due_at = await next_due(store, queue, after=_ALWAYS)
        if due_at is not None and due_at < now - _UNDONE_AFTER:
            minutes = round((now - due_at).total_seconds() / 60)
            said = f"There are {queue.value} that have been due for {minutes} minutes."
            fix = "Look for work_failed and claim_failed in the worker's log, then restart it." if working else None
            findings.append(Finding(f"undone_{queue.value}", Status.WARNING, said, fix or START_ONE))
    return findings
