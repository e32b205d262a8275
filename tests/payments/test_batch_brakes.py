"""Refusals for reasons of ours concern every row: a batch stops before more than a few are wasted on them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from mpesa_mcp.app.local import SANDBOX_SECRETS
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.daraja.conclusions import TOKEN_REFUSALS
from mpesa_mcp.daraja.credential import sandbox_certificate
from mpesa_mcp.payments.batches.brakes import IN_A_ROW
from mpesa_mcp.payments.batches.control import resume_batch
from mpesa_mcp.payments.batches.reading import BatchRecord, find_batch
from mpesa_mcp.payments.batches.states import BatchStatus
from mpesa_mcp.payments.states import PaymentStatus
from mpesa_mcp.values import Environment, FrozenClock, Secret
from tests.daraja.test_daraja_credential import certificate
from tests.shortcodes import give_shortcode

from .factories import Shop, a_principal, open_shop, send_due
from .fake_daraja import error
from .test_batches import a_batch, control, end, feed, payments, rows, state, submitted

pytestmark = pytest.mark.anyio

ROWS = 30


async def worked(shop: Shop, clock: FrozenClock) -> None:
    """Everything has been sent that may be, also what is sent a second time after a while."""
    for _ in range(20):
        clock.advance(timedelta(seconds=10))
        await send_due(shop.core)


async def stopped(shop: Shop, batch: BatchRecord) -> str:
    """Why the batch was paused, after so many rows failed; all others wait."""
    assert await state(shop, batch) == (BatchStatus.PAUSED, {"failed": IN_A_ROW, "waiting": ROWS - IN_A_ROW})
    reason = (await find_batch(shop.core, shop.principal, batch.batch_id)).reason
    assert reason is not None
    return reason


@pytest.mark.parametrize("code", sorted(TOKEN_REFUSALS))
async def test_an_app_without_the_product_stops_a_batch_after_five_rows_and_ten_calls(
    shop: Shop, clock: FrozenClock, code: str
) -> None:
    """Each row is sent again with a fresh token before it fails: until then it is one of the few under way."""
    shop.daraja.order("b2c", 401, error(code, "Invalid Access Token"), times=2 * ROWS)
    batch = await submitted(shop, a_batch(rows(ROWS)))
    await feed(shop)
    await worked(shop, clock)
    assert "lacks the product" in await stopped(shop, batch)
    assert len(shop.daraja.of("b2c")) == 2 * IN_A_ROW


async def test_rows_whose_token_was_refused_while_a_batch_was_paused_leave_first_and_keep_no_other_back(
    shop: Shop, clock: FrozenClock
) -> None:
    shop.daraja.order("b2c", 401, error("401.003.01", "Invalid Access Token"), times=2 * IN_A_ROW)
    batch = await submitted(shop, a_batch(rows(ROWS)))
    await feed(shop)
    await worked(shop, clock)
    await stopped(shop, batch)
    shop.daraja.order("b2c", 401, error("401.003.01", "Invalid Access Token"))
    await control(shop, resume_batch, batch)
    await worked(shop, clock)
    under_way = [payment for payment in await payments(shop) if payment.status == PaymentStatus.PENDING]
    assert len(under_way) == IN_A_ROW
    await end(shop, under_way[0], "0")
    await worked(shop, clock)
    assert await state(shop, batch) == (
        BatchStatus.RUNNING,
        {"failed": IN_A_ROW, "succeeded": 1, "in_progress": ROWS - IN_A_ROW - 1},
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("5", "least balance"),
        ("11", "not active"),
        ("13", "paying account"),
        ("20", "initiator"),
        ("2006", "rules of the paying account"),
        ("2028", "product"),
    ],
)
async def test_results_that_would_be_those_of_every_row_stop_a_batch(
    shop: Shop, clock: FrozenClock, code: str, said: str
) -> None:
    batch = await submitted(shop, a_batch(rows(ROWS)))
    await feed(shop)
    await worked(shop, clock)
    for payment in await payments(shop):
        if payment.status == PaymentStatus.PENDING:
            await end(shop, payment, code)
    await worked(shop, clock)
    assert said in await stopped(shop, batch)
    assert len(shop.daraja.of("b2c")) == IN_A_ROW


async def test_consumer_keys_that_safaricom_refuses_stop_a_batch(shop: Shop, clock: FrozenClock) -> None:
    shop.daraja.order("token", 400, error("400.008.01", "Invalid Authentication passed"), times=ROWS)
    batch = await submitted(shop, a_batch(rows(ROWS)))
    await feed(shop)
    await worked(shop, clock)
    assert "consumer key" in await stopped(shop, batch)
    assert shop.daraja.of("b2c") == []


async def test_a_shortcode_whose_initiator_is_gone_stops_a_batch(shop: Shop, clock: FrozenClock) -> None:
    batch = await submitted(shop, a_batch(rows(ROWS)))
    await feed(shop)
    gone = {SecretField.INITIATOR_NAME, SecretField.INITIATOR_PASSWORD}
    left = {field: value for field, value in SANDBOX_SECRETS.items() if field not in gone}
    await give_shortcode(shop.core, shop.principal.organization_id, secrets=left)
    await worked(shop, clock)
    assert "credentials" in await stopped(shop, batch)
    assert shop.daraja.of("b2c") == []


@pytest.mark.parametrize("said", ["certificate", "password"])
async def test_a_certificate_that_is_missing_or_too_small_for_the_password_stops_a_batch(
    database: Mapping[str, Any], acme: str, clock: FrozenClock, tmp_path: Path, said: str
) -> None:
    """As after a move to another machine: when the credentials were given, there was one."""
    good, small = tmp_path / "production.cer", tmp_path / "small.cer"
    good.write_bytes(sandbox_certificate())
    too_small = rsa.generate_private_key(65537, 1024)  # noqa: S505 -- it is to be of no use
    small.write_bytes(certificate(too_small, Encoding.DER))
    secrets = SANDBOX_SECRETS | {SecretField.INITIATOR_PASSWORD: Secret("x" * 200)}
    async with open_shop(database, clock, organization_id=acme, daraja_certificate=good) as before:
        await give_shortcode(before.core, acme, environment=Environment.PRODUCTION, secrets=secrets)
    now = {"daraja_certificate": small if said == "password" else None, "public_url": "https://pay.example.com"}
    async with open_shop(database, clock, organization_id=acme, **now) as opened:
        shop = replace(opened, principal=a_principal(acme, environment=Environment.PRODUCTION))
        batch = await submitted(shop, a_batch(rows(ROWS)))
        await feed(shop)
        await worked(shop, clock)
        assert said in await stopped(shop, batch)
