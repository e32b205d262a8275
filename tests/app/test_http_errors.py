"""A database that is away is said over HTTP as what it is, and is forgotten when it is back."""

import sqlite3

import httpx2
import pytest

from mpesa_mcp.app.local import local_platform

pytestmark = pytest.mark.anyio


async def test_a_missing_table_is_a_503_in_our_shape_and_heals() -> None:
    async with local_platform(worker=False) as platform, httpx2.AsyncClient() as http:
        headers = {"Authorization": f"Bearer {platform.key.reveal()}"}

        async def ask() -> httpx2.Response:
            return await http.post(f"{platform.url}/mcp", headers=headers, json={})

        path = platform.core.settings.sqlite_path
        assert path is not None
        with sqlite3.connect(path) as database:
            database.execute("ALTER TABLE api_keys RENAME TO api_keys_gone")
        away = await ask()
        assert (away.status_code, away.json()["error"]["code"]) == (503, "store_unavailable")
        assert "api_keys" not in away.text
        with sqlite3.connect(path) as database:
            database.execute("ALTER TABLE api_keys_gone RENAME TO api_keys")
        assert (await ask()).status_code not in {401, 500, 503}
        database.close()
