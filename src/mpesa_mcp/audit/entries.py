"""Recording: an entry is committed together with the act it tells about, or neither is."""

from collections.abc import Mapping, Sequence
from typing import Literal

from mpesa_mcp.audit.circumstances import circumstances
from mpesa_mcp.audit.models import MAX_ADDRESS, MAX_CLIENT, MAX_TRACE_ID, TOPIC, AuditEntry, AuditUnsealed
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, new_id
from mpesa_mcp.values.text import clean_foreign_text

Decision = Literal["allowed", "refused", "done"]
Plain = str | int | bool | None | Sequence[str]


def record(
    session: OrganizationSession,
    clock: Clock,
    *,
    actor: str,
    action: str,
    subject: str,
    decision: Decision = "done",
    reasons: str | None = None,
    detail: Mapping[str, Plain] | None = None,
    before: Mapping[str, Plain] | None = None,
    after: Mapping[str, Plain] | None = None,
) -> None:
    """Adds an entry in the caller's transaction; the sealer is woken by its commit.

    `reasons` are our own words. `detail`, `before` and `after` take plain values only: a Secret is none, and would fail
    to be written. Where it came from is read from the circumstances; foreign text in them is cleaned and cut to fit: a
    client's long name must not fail the act.
    """
    came = circumstances()
    entry_id, at = new_id("aud"), clock.now()
    session.append(
        AuditEntry,
        id=entry_id,
        at=at,
        actor=actor,
        action=action,
        subject=subject,
        decision=decision,
        reasons=reasons,
        request_id=came.request_id,
        detail=_copied(detail),
        client=clean_foreign_text(came.client, limit=MAX_CLIENT),
        address=clean_foreign_text(came.address, limit=MAX_ADDRESS),
        trace_id=clean_foreign_text(came.trace_id, limit=MAX_TRACE_ID),
        before=_copied(before),
        after=_copied(after),
    )
    session.append(AuditUnsealed, at=at, entry_id=entry_id)
    session.wake_here(TOPIC)


def _copied(plain: Mapping[str, Plain] | None) -> dict[str, Plain] | None:
    return None if plain is None else dict(plain)
