"""The master key and the keys it wraps.

The master key comes from the environment or a file only its owner can read; in development the file is made once.
It seals other keys and nothing else, so that rotating it re-wraps a few rows. Platform keys (API-key hashing,
Daraja tokens) are random, kept wrapped in the store, the same in every process.
"""

import base64
import binascii
import os
from pathlib import Path

from sqlalchemy import select
from sqlmodel import Field, col

from mpesa_mcp.errors import InputError
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.tables import PlatformTable, insert_if_absent
from mpesa_mcp.values.ids import random_bytes
from mpesa_mcp.values.sealing import KEY_BYTES, SealingKey

API_KEY_HASHING = "api_key_hashing"
DARAJA_TOKENS = "daraja_tokens"


class PlatformKey(PlatformTable, table=True):
    """A random key of the installation, wrapped by the master key."""

    __tablename__ = "platform_keys"

    name: str = Field(primary_key=True, max_length=40)
    wrapped: bytes


class MasterKeyMissing(InputError):
    """There is no usable master key, so no secret can be sealed or opened."""

    code = "master_key"


class Keyring:
    """Opens the keys of this process; each is unwrapped once and kept in memory only."""

    def __init__(self, store: Store, master: SealingKey) -> None:
        self._store = store
        self.master = master
        self._opened: dict[str, SealingKey] = {}

    async def platform_key(self, name: str) -> SealingKey:
        """The platform key of this name, made at its first use by whichever process comes first."""
        if name not in self._opened:
            self._opened[name] = await self._open_or_make(name)
        return self._opened[name]

    async def _open_or_make(self, name: str) -> SealingKey:
        async with self._store.platform() as session:
            stored = select(PlatformKey).where(col(PlatformKey.name) == name)
            row = (await session.execute(stored)).scalars().first()
            if row is None:
                wrapped = self.master.wrap(SealingKey.generate(), "platform", name)
                dialect = session.get_bind().dialect.name
                await session.execute(insert_if_absent(dialect, PlatformKey, name=name, wrapped=wrapped))
                # Read again: another process may have been first, and then its key is the one.
                row = (await session.execute(stored)).scalars().one()
            return self.master.unwrap(row.wrapped, "platform", name)


def load_master_key(settings: Settings) -> SealingKey:
    """The master key as the settings say. Raises MasterKeyMissing with what to do."""
    if settings.master_key is not None:
        return SealingKey(_decoded(settings.master_key.get_secret_value(), "MPESA_MCP_MASTER_KEY"))
    if settings.master_key_file is not None:
        return _from_file(settings.master_key_file)
    if settings.is_production:
        raise MasterKeyMissing(
            "Set MPESA_MCP_MASTER_KEY or MPESA_MCP_MASTER_KEY_FILE: 32 random bytes as base64 "
            "(for example from: openssl rand -base64 32)."
        )
    path = settings.data_dir / "master.key"
    _make_once(path)
    return _from_file(path)


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


def _from_file(path: Path) -> SealingKey:
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        raise MasterKeyMissing("The master key file (MPESA_MCP_MASTER_KEY_FILE) cannot be read.") from None
    if mode & 0o077:
        raise MasterKeyMissing("The master key file can be read by others. Run: chmod 600 on it.")
    return SealingKey(_decoded(text.strip(), "The master key file"))


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
