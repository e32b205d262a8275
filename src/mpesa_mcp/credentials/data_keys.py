"""The data keys of an organization: random, wrapped by the master key, made at the first secret.

The master key seals these and nothing else of an organization, so rotating it re-wraps a row, not every secret.
"""

from dataclasses import dataclass

from sqlmodel import col, select

from mpesa_mcp.credentials.models import DataKey
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock
from mpesa_mcp.values.sealing import SealBroken, SealingKey


@dataclass(frozen=True, slots=True)
class OpenDataKey:
    """A data key ready to seal; what it seals names its version."""

    version: int
    key: SealingKey


async def newest_data_key(
    session: OrganizationSession, keyring: Keyring, wrapping: SealingKey, clock: Clock
) -> OpenDataKey:
    """The key to seal with, made when there is none yet and then wrapped with this master key. Raises SealBroken."""
    newest = select(DataKey).order_by(col(DataKey.version).desc())
    if (row := await session.first(newest)) is None:
        wrapped = wrapping.wrap(SealingKey.generate(), *context_of(session.organization_id, 1))
        # Two first secrets at once: the one row that is there afterwards is everybody's key.
        await session.insert_if_absent(DataKey, version=1, wrapped=wrapped, created_at=clock.now())
        row = await session.first(newest)
        assert row is not None
    return OpenDataKey(row.version, keyring.unwrap(row.wrapped, *context_of(session.organization_id, row.version)))


async def data_keys(session: OrganizationSession, keyring: Keyring) -> dict[int, SealingKey]:
    """Every data key of the organization by version. Raises SealBroken."""
    return {
        row.version: keyring.unwrap(row.wrapped, *context_of(session.organization_id, row.version))
        for row in await session.all(select(DataKey))
    }


def key_of_version(keys: dict[int, SealingKey], version: int) -> SealingKey:
    """Raises SealBroken when the row that wrapped it is gone."""
    if version not in keys:
        raise SealBroken
    return keys[version]


def context_of(organization_id: str, version: int) -> tuple[str, ...]:
    """What a data key is bound to by its wrapping."""
    return "data_key", organization_id, str(version)
