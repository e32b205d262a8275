"""The server's application in this process, with people of every role; one for each module and database."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.web import create_web
from mpesa_mcp.payments.core import Core
from mpesa_mcp.settings import Settings

from .people import People, make_people

MASTER_KEY = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"


@pytest.fixture(scope="module")
async def core(module_database: dict[str, Any]) -> AsyncIterator[Core]:
    settings = Settings(master_key=SecretStr(MASTER_KEY), **module_database)
    async with open_core(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
async def people(core: Core) -> People:
    return await make_people(core)


@pytest.fixture(scope="module")
async def http(core: Core) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(create_web(core), raise_app_exceptions=False, client=("203.0.113.7", 4711))
    async with httpx2.AsyncClient(transport=transport, base_url=f"{core.settings.reached_at}/api/v1") as client:
        yield client
