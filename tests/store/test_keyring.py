"""The master key: made once, private, strong; and the platform keys it wraps, the same in every process."""

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlmodel import col

from mpesa_mcp.settings import Deployment, Settings
from mpesa_mcp.store.engine import Store, open_store
from mpesa_mcp.store.keyring import (
    API_KEY_HASHING,
    DARAJA_TOKENS,
    MARKER,
    Keyring,
    MasterKeyMissing,
    PlatformKey,
    load_master_key,
    load_master_keys,
)
from mpesa_mcp.values.sealing import SealBroken

STRONG = bytes(range(100, 132))
PROOF = "the same text"

LOAD = """
import sys
from pathlib import Path
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.keyring import load_master_key
print(load_master_key(Settings(data_dir=Path(sys.argv[1]))).digest("the same text"))
"""
DIGEST = """
import sys, anyio
from pathlib import Path
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import open_store
from mpesa_mcp.store.keyring import Keyring, load_master_key

async def main() -> None:
    store = open_store(sys.argv[2])
    settings = Settings(data_dir=Path(sys.argv[1]))
    print((await Keyring(store, load_master_key(settings)).platform_key("api_key_hashing")).digest("the same text"))
    await store.close()

anyio.run(main)
"""


def at_once(code: str, *arguments: str) -> list[str]:
    """Runs three processes together; what each printed."""
    command = [sys.executable, "-c", code, *arguments]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    printed = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], printed
    return [out.strip() for out, _ in printed]


def refusal(settings: Settings) -> str:
    with pytest.raises(MasterKeyMissing) as refused:
        load_master_key(settings)
    return refused.value.message


def test_the_key_is_made_once_in_a_private_file(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    before = os.umask(0)
    try:
        first = load_master_key(settings)
    finally:
        os.umask(before)
    path = settings.data_dir / "master.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.data_dir.stat().st_mode) == 0o700
    assert [file.name for file in settings.data_dir.iterdir()] == ["master.key"]
    assert len(base64.b64decode(path.read_text())) == 32
    assert load_master_key(settings).digest(PROOF) == first.digest(PROOF)
    assert load_master_key(Settings(data_dir=tmp_path / "other")).digest(PROOF) != first.digest(PROOF)


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    printed = at_once(LOAD, str(tmp_path / "data"))
    assert len(set(printed)) == 1
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["master.key"]
    assert load_master_key(Settings(data_dir=tmp_path / "data")).digest(PROOF) == printed[0]


def test_the_key_of_the_environment_is_read_as_base64_or_hex(tmp_path: Path) -> None:
    digests = set()
    for text in (base64.b64encode(STRONG).decode(), STRONG.hex(), STRONG.hex().upper()):
        digests.add(load_master_key(Settings(data_dir=tmp_path, master_key=SecretStr(text))).digest(PROOF))
    assert len(digests) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_file_that_only_its_owner_reads_is_taken(tmp_path: Path, mode: int) -> None:
    (path := tmp_path / "key").write_text(base64.b64encode(STRONG).decode() + "\n")
    path.chmod(mode)
    given = Settings(data_dir=tmp_path, master_key=SecretStr(STRONG.hex()))
    assert load_master_key(Settings(master_key_file=path)).digest(PROOF) == load_master_key(given).digest(PROOF)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666, 0o620, 0o601])
def test_a_key_file_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    (path := tmp_path / "key").write_text(STRONG.hex())
    path.chmod(mode)
    message = refusal(Settings(master_key_file=path))
    assert "can be read by others" in message
    assert str(tmp_path) not in message


WEAK = {
    "nothing": "",
    "a password": "correct horse battery staple",
    "too short": STRONG[:31].hex(),
    "too long": (STRONG + b"x").hex(),
    "zeros": "00" * 32,
    "a few values": "0123456789abcdef" * 4,
    "a word again and again": base64.b64encode(b"password" * 4).decode(),
}


@pytest.mark.parametrize("text", WEAK.values(), ids=WEAK.keys())
@pytest.mark.parametrize("place", ["environment", "file"])
def test_a_weak_key_is_refused_and_not_repeated(tmp_path: Path, text: str, place: str) -> None:
    (path := tmp_path / "key").write_text(text)
    path.chmod(0o600)
    settings = Settings(master_key=SecretStr(text)) if place == "environment" else Settings(master_key_file=path)
    message = refusal(settings)
    assert "32 random bytes" in message
    assert not text or text not in message


def test_a_key_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(Settings(master_key_file=tmp_path / "none"))
    (path := tmp_path / "key").write_bytes(b"\xff\xfe" * 16)
    path.chmod(0o600)
    assert "cannot be read" in refusal(Settings(master_key_file=path))


def test_the_previous_key_is_the_second_line_of_the_file_or_a_variable_of_its_own(tmp_path: Path) -> None:
    newest, previous = STRONG.hex(), bytes(range(50, 82)).hex()
    (path := tmp_path / "key").write_text(f"{newest}\n{previous}\n")
    path.chmod(0o600)
    by_file = load_master_keys(Settings(master_key_file=path))
    by_name = load_master_keys(Settings(master_key=SecretStr(newest), master_key_previous=SecretStr(previous)))
    assert by_file.ids == by_name.ids
    assert len(set(by_file.ids)) == 2
    path.write_text(f"{newest}\n{previous}\n{newest}")
    assert "second line" in refusal(Settings(master_key_file=path))
    assert "MASTER_KEY_PREVIOUS" in refusal(Settings(master_key=SecretStr(newest), master_key_previous=SecretStr("x")))


def test_production_makes_no_key_of_its_own(tmp_path: Path) -> None:
    message = refusal(Settings(data_dir=tmp_path / "data", environment=Deployment.PRODUCTION))
    assert "MPESA_MCP_MASTER_KEY" in message
    assert "MPESA_MCP_MASTER_KEY_FILE" in message
    assert not (tmp_path / "data").exists()


@pytest.mark.anyio
async def test_a_platform_key_is_made_once_and_kept_wrapped(store: Store, settings: Settings) -> None:
    master = load_master_key(settings)
    key = await Keyring(store, master).platform_key(API_KEY_HASHING)
    again = await Keyring(store, master).platform_key(API_KEY_HASHING)
    other = await Keyring(store, master).platform_key(DARAJA_TOKENS)
    assert key.digest(PROOF) == again.digest(PROOF)
    assert key.digest(PROOF) != other.digest(PROOF)
    async with store.platform_reading() as session:
        rows = (await session.execute(select(PlatformKey))).scalars().all()
    assert {row.name for row in rows} == {API_KEY_HASHING, DARAJA_TOKENS, MARKER}
    assert all(len(row.wrapped) > 32 and key._key not in row.wrapped for row in rows)


@pytest.mark.anyio
async def test_a_platform_key_opens_with_its_master_key_and_under_its_name_only(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    master = load_master_key(settings)
    await Keyring(store, master).platform_key(API_KEY_HASHING)
    with pytest.raises(SealBroken):
        await Keyring(store, load_master_key(Settings(data_dir=tmp_path / "new"))).platform_key(API_KEY_HASHING)
    async with store.platform() as session:
        hashing = select(PlatformKey).where(col(PlatformKey.name) == API_KEY_HASHING)
        row = (await session.execute(hashing)).scalars().one()
        session.add(PlatformKey(name=DARAJA_TOKENS, wrapped=row.wrapped))
    with pytest.raises(SealBroken):
        await Keyring(store, master).platform_key(DARAJA_TOKENS)


@pytest.mark.anyio
async def test_a_platform_key_is_the_same_in_every_process(store: Store, settings: Settings) -> None:
    directory = str(settings.data_dir)
    printed = await anyio.to_thread.run_sync(at_once, DIGEST, directory, settings.effective_database_url)
    assert len(set(printed)) == 1
    second = open_store(settings.effective_database_url)
    key = await Keyring(second, load_master_key(Settings(data_dir=settings.data_dir))).platform_key(API_KEY_HASHING)
    await second.close()
    assert key.digest(PROOF) == printed[0]
