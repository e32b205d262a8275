"""What a chain is made of: the text of an entry, and the hashes. No database, so that an auditor can do it elsewhere.

The text of an entry is JSON of every column that is not NULL: keys sorted, no spaces, ASCII, moments in UTC with
microseconds ("2026-11-16T08:30:00.000000Z"). With it,

    entry_hash = SHA-256(text)
    hash       = SHA-256(hash of the link before + "\n" + sequence + "\n" + text)

in lower-case hex. The first sequence is 1, and before it comes START.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import inspect

from mpesa_mcp.audit.models import AuditEntry
from mpesa_mcp.values import sha256_hex

START = "0" * 64


def columns_of(entry: AuditEntry) -> dict[str, object]:
    """Every column of an entry that is not NULL, as plain JSON values."""
    values = {name: getattr(entry, name) for name in inspect(AuditEntry).columns.keys()}  # noqa: SIM118 - no mapping
    return {
        name: _moment(value) if isinstance(value, datetime) else value
        for name, value in values.items()
        if value is not None
    }


def text_of(columns: Mapping[str, object]) -> str:
    """The text of an entry. Raises TypeError for what no entry of ours holds."""
    return json.dumps(columns, sort_keys=True, separators=(",", ":"))


def entry_hash(text: str) -> str:
    return sha256_hex(text)


def link_hash(previous: str, sequence: int, text: str) -> str:
    """The hash of the link at `sequence`, after the link whose hash is `previous`."""
    return sha256_hex(f"{previous}\n{sequence}\n{text}")


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
