"""Keys where they must not be: a request with one in its address is refused, a log line with one is redacted."""

from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx2
import pytest
import structlog
from sqlmodel import col, select

from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.identity.key_text import new_text
from mpesa_mcp.logs import redact_event
from mpesa_mcp.values import Environment
from tests.clients import TLS

from .factories import key_for

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http(platform: LocalPlatform) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(verify=TLS, base_url=platform.url) as client:
        yield client


async def exposures(platform: LocalPlatform, key_id: str) -> list[AuditEntry]:
    async with platform.core.store.reading(platform.organization.organization_id) as session:
        told = select(AuditEntry).where(AuditEntry.action == "key.exposed", AuditEntry.subject == key_id)
        return list(await session.all(told.order_by(col(AuditEntry.id))))


async def test_a_request_with_a_key_in_its_address_is_refused_and_the_key_is_flagged_but_works(
    platform: LocalPlatform, http: httpx2.AsyncClient
) -> None:
    made = await key_for(platform, platform.organization.organization_id)
    key = made.key.reveal()
    anyhow = {"Authorization": f"Bearer {key}"}
    encoded = quote(key.replace("_", "%5F"))  # twice
    for method, address in (
        ("GET", f"/api/v1/payments?api_key={key}"),
        ("GET", f"/api/v1/payments?%61={quote(key.replace('m', '%6D', 1), safe='%')}"),
        ("POST", f"/mcp/{key}"),
        ("GET", f"/healthz?{encoded}"),
        ("GET", f"/cb/{key}/timeout"),
        ("DELETE", f"/nothing/here/{key}x"),
    ):
        answer = await http.request(method, address, headers=anyhow)
        assert answer.status_code == 400, address
        error = answer.json()["error"]
        assert (error["code"], error["request_id"]) == ("key_in_address", answer.headers["x-request-id"])
        assert key not in answer.text
    [told] = await exposures(platform, made.record.key_id)
    assert (told.actor, told.detail, told.address) == ("system", {"place": "address"}, "127.0.0.1")
    assert (await http.get("/api/v1/payments", headers=anyhow)).status_code == 200


async def test_what_is_no_key_is_not_refused_and_a_key_of_nobody_is_refused_like_any(
    http: httpx2.AsyncClient,
) -> None:
    key = new_text(Environment.PRODUCTION)
    assert (await http.get(f"/healthz?key={key}")).status_code == 400
    for harmless in (key[:-1], key[:-1] + ("a" if key[-1] != "a" else "b"), f"mpk_live_{'%FF' * 40}", "mpk_live_%ZZ"):
        assert (await http.get(f"/healthz?key={harmless}")).status_code == 200


async def test_a_key_that_is_about_to_be_logged_is_redacted_and_flagged(platform: LocalPlatform) -> None:
    text, field = [await key_for(platform, platform.organization.organization_id) for _ in range(2)]
    written = structlog.testing.LogCapture()
    structlog.configure(processors=[redact_event, written])
    async with open_core(platform.core.settings):
        log = structlog.get_logger("mpesa_mcp.test")
        for _ in range(3):
            log.info("somebody_said", words=f"use {text.key.reveal()}, please", nested={"api_key": field.key.reveal()})
    said = str([entry for entry in written.entries if entry["event"] == "somebody_said"])
    assert "use mpk_sim_…, please" in said
    assert text.key.reveal() not in said
    assert field.key.reveal() not in said
    for key in (text, field):
        assert [told.detail for told in await exposures(platform, key.record.key_id)] == [{"place": "log"}]
