"""Shortcodes as read: what is there, never what it is."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlmodel import col

from mpesa_mcp.credentials.models import Shortcode, ShortcodeDefault, ShortcodeSecret
from mpesa_mcp.credentials.uses import ShortcodeUse
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment, ShortcodeType


@dataclass(frozen=True, slots=True)
class ShortcodeRecord:
    """A shortcode: the names of its secrets, what it is the default for. `warnings` speak right after setting it."""

    shortcode_id: str
    environment: Environment
    shortcode: str
    type: ShortcodeType
    till: str | None
    secrets: frozenset[SecretField]
    default_for: frozenset[ShortcodeUse]
    created_at: datetime
    updated_at: datetime
    updated_by: str
    warnings: tuple[str, ...] = ()


async def shortcodes_of(
    session: OrganizationSession, *, environment: Environment | None = None, shortcode: str | None = None
) -> Sequence[ShortcodeRecord]:
    """The organization's shortcodes, oldest first, narrowed to an environment and a number where given."""
    statement = select(Shortcode).order_by(col(Shortcode.id))
    if environment is not None:
        statement = statement.where(col(Shortcode.environment) == environment)
    if shortcode is not None:
        statement = statement.where(col(Shortcode.shortcode) == shortcode)
    rows = await session.all(statement)
    present: defaultdict[str, set[SecretField]] = defaultdict(set)
    for secret in await session.rows(select(col(ShortcodeSecret.shortcode_id), col(ShortcodeSecret.field))):
        present[secret.shortcode_id].add(SecretField(secret.field))
    uses: defaultdict[str, set[ShortcodeUse]] = defaultdict(set)
    for default in await session.all(select(ShortcodeDefault)):
        uses[default.shortcode_id].add(ShortcodeUse(default.use))
    return [_record(row, frozenset(present[row.id]), frozenset(uses[row.id])) for row in rows]


def _record(row: Shortcode, secrets: frozenset[SecretField], default_for: frozenset[ShortcodeUse]) -> ShortcodeRecord:
    return ShortcodeRecord(
        shortcode_id=row.id,
        environment=Environment(row.environment),
        shortcode=row.shortcode,
        type=ShortcodeType(row.type),
        till=row.till,
        secrets=secrets,
        default_for=default_for,
        created_at=row.created_at,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )
