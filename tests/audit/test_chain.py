"""The text of an entry and the hashes, which an auditor must be able to compute without this program."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.audit.chain import START, columns_of, entry_hash, link_hash, text_of

AT = datetime(2026, 11, 16, 8, 30, 0, 1500, tzinfo=UTC)


def an_entry(at: datetime = AT) -> AuditEntry:
    return AuditEntry(
        organization_id="org_a",
        id="aud_1",
        at=at,
        actor="key:key_a",
        action="payment.opened",
        subject="pay_ä",
        decision="done",
        detail={"b": 1, "a": [True, None]},
    )


def test_the_text_is_every_column_that_holds_something_sorted_and_without_spaces() -> None:
    assert text_of(columns_of(an_entry())) == (
        '{"action":"payment.opened","actor":"key:key_a","at":"2026-11-16T08:30:00.001500Z","decision":"done",'
        '"detail":{"a":[true,null],"b":1},"id":"aud_1","organization_id":"org_a","subject":"pay_\\u00e4"}'
    )


def test_a_moment_reads_the_same_whatever_its_zone() -> None:
    in_nairobi = AT.astimezone(timezone(timedelta(hours=3)))
    assert text_of(columns_of(an_entry(in_nairobi))) == text_of(columns_of(an_entry()))


def test_every_column_is_in_the_text_once_it_holds_something() -> None:
    full = an_entry()
    for column in AuditEntry.__table__.columns:  # type: ignore[attr-defined] # every table's class has it
        if getattr(full, column.name) is None:
            setattr(full, column.name, "something")
    assert set(json.loads(text_of(columns_of(full)))) == {
        column.name
        for column in AuditEntry.__table__.columns  # type: ignore[attr-defined] # as above
    }


def test_the_hashes_can_be_computed_with_nothing_but_sha_256() -> None:
    text = text_of(columns_of(an_entry()))
    first = hashlib.sha256(f"{'0' * 64}\n1\n{text}".encode()).hexdigest()
    assert entry_hash(text) == hashlib.sha256(text.encode()).hexdigest()
    assert link_hash(START, 1, text) == first
    assert link_hash(first, 2, text) == hashlib.sha256(f"{first}\n2\n{text}".encode()).hexdigest()
