"""One platform per module: a simulator, the server, the worker, an organization and its key."""

from collections.abc import AsyncIterator, Callable

import pytest

from mpesa_mcp.app.local import LocalPlatform, local_platform
from tests.rates import ask_without_limit

from .factories import answers, prepared, started, variables


@pytest.fixture(scope="module")
async def platform() -> AsyncIterator[LocalPlatform]:
    async with local_platform(delay_ms=30) as opened:
        await ask_without_limit(opened.core, opened.organization.organization_id)
        yield opened


@pytest.fixture(scope="package")
async def simulator(held_port: Callable[[], int]) -> AsyncIterator[str]:
    port = held_port()
    words = ("simulator", "--port", str(port), "--delay-ms", "30")
    async with started(variables(), *words, says="Daraja simulator"):
        url = f"http://127.0.0.1:{port}"
        await answers(url)
        yield url


@pytest.fixture(scope="package")
async def desktop(
    simulator: str, held_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The variables of a desktop process with an organization of its own."""
    return await prepared(tmp_path_factory.mktemp("desktop") / "data", simulator, callback_port=held_port())
