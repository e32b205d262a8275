"""The master key and the keys it wraps.

The master key comes from the environment or a file only its owner can read; in development the file is made once.
It seals other keys and nothing else, so that rotating it re-wraps a few rows. Platform keys (API-key hashing,
Daraja tokens, request states of MCP) are random, kept wrapped in the store, the same in every process.

A process may hold two master keys, the newest and the previous one: it opens with either. What it wraps anew it wraps
with the one that also opens MARKER, a row that only a rotation changes: as long as nobody has rotated, processes that
know nothing of the newest key can open everything.
"""

import asyncio
import base64
import binascii
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field, col

from mpesa_mcp.errors import InputError
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tables import PlatformTable, insert_if_absent
from mpesa_mcp.values.ids import random_bytes
from mpesa_mcp.values.sealing import KEY_BYTES, SealBroken, SealingKey

API_KEY_HASHING = "api_key_hashing"
DARAJA_TOKENS = "daraja_tokens"
MCP_REQUEST_STATES = "mcp_request_states"
MARKER: Final = "master_key"
_ID_CHARACTERS: Final = 16


class PlatformKey(PlatformTable, table=True):
    """A random key of the installation, wrapped by the master key."""

    __tablename__ = "platform_keys"

    name: str = Field(primary_key=True, max_length=40)
    wrapped: bytes


class MasterKeyMissing(InputError):
    """There is no usable master key, so no secret can be sealed or opened."""

    code = "master_key"


@dataclass(frozen=True, slots=True)
class MasterKeys:
    """The master keys of a process, the newest first. An id tells keys apart and says nothing of the key."""

    newest: SealingKey
    previous: SealingKey | None = None

    @property
    def all(self) -> tuple[SealingKey, ...]:
        return (self.newest,) if self.previous is None else (self.newest, self.previous)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(key.digest("the id of a master key")[:_ID_CHARACTERS] for key in self.all)

    def that_opens(self, wrapped: bytes, *context: str) -> SealingKey | None:
        """Which of them a key was wrapped with."""
        for key in self.all:
            try:
                key.unwrap(wrapped, *context)
            except SealBroken:
                continue
            return key
        return None


class Keyring:
    """Opens the keys of this process; each platform key is unwrapped once and kept in memory only."""

    def __init__(
        self,
        store: Store,
        master: SealingKey,
        *,
        previous: SealingKey | None = None,
        read: Callable[[], MasterKeys] | None = None,
    ) -> None:
        """`read` gives the master keys as they are set now: a key file may have changed since."""
        self._store = store
        self._read = read
        self.keys = MasterKeys(master, previous)
        self._opened: dict[str, SealingKey] = {}
        self._opening = asyncio.Lock()

    def read_again(self) -> None:
        """Takes up what the key file says now. One that cannot be read changes nothing: it may be being written."""
        if self._read is not None:
            try:
                self.keys = self._read()
            except MasterKeyMissing:
                return

    def unwrap(self, wrapped: bytes, *context: str) -> SealingKey:
        """A key that one of the master keys wrapped. Raises SealBroken."""
        return self._that_opens(wrapped, *context).unwrap(wrapped, *context)

    async def wrapping_key(self) -> SealingKey:
        """The master key to wrap something new with. Raises SealBroken when this process has not got it."""
        async with self._store.platform_reading() as session:
            row = (await session.execute(_stored(MARKER))).scalars().first()
        if row is not None:
            return self._that_wrapped(row)
        async with self._store.platform() as session:
            return await self._hold_wrapping_key(session)

    async def platform_key(self, name: str) -> SealingKey:
        """The platform key of this name, made at its first use by whichever process comes first."""
        if name not in self._opened:
            async with self._opening:  # one asks the database, and those who come meanwhile wait for what it says
                if name not in self._opened:
                    self._opened[name] = await self._open_or_make(name)
        return self._opened[name]

    async def _open_or_make(self, name: str) -> SealingKey:
        async with self._store.platform_reading() as session:
            row = (await session.execute(_stored(name))).scalars().first()
        if row is None:
            async with self._store.platform() as session:
                wrapping = await self._hold_wrapping_key(session)
                wrapped = wrapping.wrap(SealingKey.generate(), "platform", name)
                # Read again: another process may have been first, and then its key is the one.
                row = await _insert_or_find(session, name, wrapped)
        return self.unwrap(row.wrapped, "platform", name)

    async def _hold_wrapping_key(self, session: AsyncSession) -> SealingKey:
        """As `wrapping_key`; until this transaction ends a rotation waits, and then sees what was made meanwhile."""
        row = (await session.execute(_stored(MARKER).with_for_update(read=True))).scalars().first()
        if row is None:
            # What is there already was wrapped with the previous key, if there is one.
            oldest = self.keys.all[-1]
            row = await _insert_or_find(session, MARKER, oldest.wrap(SealingKey.generate(), "platform", MARKER))
        return self._that_wrapped(row)

    def _that_wrapped(self, marker: PlatformKey) -> SealingKey:
        return self._that_opens(marker.wrapped, "platform", MARKER)

    def _that_opens(self, wrapped: bytes, *context: str) -> SealingKey:
        key = self.keys.that_opens(wrapped, *context)
        if key is None:
            self.read_again()
            key = self.keys.that_opens(wrapped, *context)
        if key is None:
            raise SealBroken
        return key


def open_keyring(store: Store, settings: Settings) -> Keyring:
    """The keyring of a process. Raises MasterKeyMissing."""
    keys = load_master_keys(settings)
    return Keyring(store, keys.newest, previous=keys.previous, read=lambda: load_master_keys(settings))


def load_master_key(settings: Settings) -> SealingKey:
    """The newest master key. Raises MasterKeyMissing with what to do."""
    return load_master_keys(settings).newest


def load_master_keys(settings: Settings) -> MasterKeys:
    """The master keys as the settings say. Raises MasterKeyMissing with what to do."""
    if settings.master_key is not None:
        keys = MasterKeys(SealingKey(_decoded(settings.master_key.get_secret_value(), "MPESA_MCP_MASTER_KEY")))
    else:
        keys = _from_file(_key_file(settings))
    if settings.master_key_previous is None:
        return keys
    text = settings.master_key_previous.get_secret_value()
    return MasterKeys(keys.newest, SealingKey(_decoded(text, "MPESA_MCP_MASTER_KEY_PREVIOUS")))


def _stored(name: str) -> Select[PlatformKey]:
    return select(PlatformKey).where(col(PlatformKey.name) == name)


async def _insert_or_find(session: AsyncSession, name: str, wrapped: bytes) -> PlatformKey:
    dialect = session.get_bind().dialect.name
    await session.execute(insert_if_absent(dialect, PlatformKey, name=name, wrapped=wrapped))
    return (await session.execute(_stored(name))).scalars().one()


def _key_file(settings: Settings) -> Path:
    if settings.master_key_file is not None:
        return settings.master_key_file
    if settings.is_production:
        raise MasterKeyMissing(
            "Set MPESA_MCP_MASTER_KEY or MPESA_MCP_MASTER_KEY_FILE: 32 random bytes as base64 "
            "(for example from: openssl rand -base64 32)."
        )
    path = settings.data_dir / "master.key"
    _make_once(path)
    return path


def _make_once(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(random_bytes(KEY_BYTES)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        # A link, not a rename: two processes that start together agree on the first one's key.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _from_file(path: Path) -> MasterKeys:
    """The newest key is on the first line; while it is being rotated, the previous one is on the second."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        raise MasterKeyMissing("The master key file (MPESA_MCP_MASTER_KEY_FILE) cannot be read.") from None
    if mode & 0o077:
        raise MasterKeyMissing("The master key file can be read by others. Run: chmod 600 on it.")
    lines = text.split()
    if len(lines) > 2:
        raise MasterKeyMissing(
            "The master key file must hold 32 random bytes as base64 or hex (openssl rand -base64 32), and on a second "
            "line at most the key before."
        )
    newest, *previous = [SealingKey(_decoded(line, "The master key file")) for line in lines or [""]]
    return MasterKeys(newest, *previous)


def _decoded(text: str, source: str) -> bytes:
    for decode in (_from_hex, _from_base64):
        key = decode(text)
        if key is not None and len(key) == KEY_BYTES:
            if len(set(key)) < 12:  # 32 random bytes have fewer than 12 different values about never
                raise MasterKeyMissing(f"{source} is too weak: use 32 random bytes (openssl rand -base64 32).")
            return key
    raise MasterKeyMissing(f"{source} must be 32 random bytes as base64 or hex (openssl rand -base64 32).")


def _from_hex(text: str) -> bytes | None:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
