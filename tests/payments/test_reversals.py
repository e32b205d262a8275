"""Reversals: only of what came in and succeeded here, once at a time, and what they do to the payment reversed."""

from dataclasses import replace

import anyio
import pytest

from mpesa_mcp.errors import NotFoundError
from mpesa_mcp.payments.intake import ReversalExists, open_payment
from mpesa_mcp.values import Environment
from tests.shortcodes import give_shortcode

from .factories import (
    PHONE,
    Shop,
    a_payout,
    a_principal,
    a_push,
    a_reversal,
    make_organization,
    payout_result,
    result,
    send_due,
    stk_callback,
)

pytestmark = pytest.mark.anyio

RECEIPT = "SKE0000AA1"


async def received(shop: Shop) -> str:
    """A payment that came in, with RECEIPT."""
    opened = await open_payment(shop.core, shop.principal, a_push())
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("stk_push")[-1].body["CallBackURL"], stk_callback(receipt=RECEIPT))
    assert await shop.status(opened.payment.payment_id) == "succeeded"
    return opened.payment.payment_id


async def reverse(shop: Shop, *, key: str = "reversal-1", receipt: str = RECEIPT) -> str:
    return (await open_payment(shop.core, shop.principal, a_reversal(receipt, key=key))).payment.payment_id


def reversal_result(number: int = 1, *, code: object = 0, receipt: str = "SKE0000CC1") -> dict[str, object]:
    return result(
        f"AG_reversal_{number}",
        code=code,
        receipt=receipt,
        Amount="100.00",
        OriginalTransactionID=RECEIPT,
        CreditPartyPublicName=f"{PHONE} - JANE DOE",
    )


async def test_a_reversal_takes_the_whole_amount_and_the_shortcode_of_the_payment(shop: Shop) -> None:
    payment_id = await received(shop)
    row = await shop.row(await reverse(shop))
    assert (row.reverses_payment_id, row.reverses_receipt) == (payment_id, RECEIPT)
    assert (row.amount_cents, row.phone, row.shortcode) == (100_00, PHONE, "174379")
    await send_due(shop.core)
    sent = shop.daraja.of("reversal")[0].body
    assert (sent["TransactionID"], sent["Amount"], sent["ReceiverParty"]) == (RECEIPT, "100", "174379")


async def test_the_payment_is_reversed_when_its_reversal_succeeds(shop: Shop) -> None:
    payment_id = await received(shop)
    reversal_id = await reverse(shop)
    await send_due(shop.core)
    assert await shop.status(payment_id) == "succeeded"
    await shop.call_back(shop.daraja.of("reversal")[0].body["ResultURL"], reversal_result())
    assert (await shop.status(reversal_id), await shop.status(payment_id)) == ("succeeded", "reversed")
    assert (await shop.row(payment_id)).receipt == RECEIPT
    assert (await shop.row(reversal_id)).receipt == "SKE0000CC1"
    assert (await shop.events(payment_id))[-1] == ("reversed", "reversed")
    with pytest.raises(NotFoundError):
        await reverse(shop, key="reversal-2")


async def test_a_second_reversal_is_refused_while_one_is_under_way_and_allowed_after_it_failed(shop: Shop) -> None:
    await received(shop)
    first = await reverse(shop)
    for _ in ("queued", "pending"):
        with pytest.raises(ReversalExists) as exists:
            await reverse(shop, key="reversal-2")
        assert exists.value.payment_id == first
        await send_due(shop.core)
    await shop.call_back(shop.daraja.of("reversal")[0].body["ResultURL"], reversal_result(code="R000002"))
    assert await shop.status(first) == "failed"
    second = await reverse(shop, key="reversal-2")
    assert await shop.status(second) == "queued"


async def test_the_same_reversal_asked_again_is_replayed_not_refused(shop: Shop) -> None:
    await received(shop)
    first = await reverse(shop)
    again = await open_payment(shop.core, shop.principal, a_reversal(RECEIPT))
    assert (again.payment.payment_id, again.replayed) == (first, True)


async def test_what_cannot_be_reversed_reads_like_an_unknown_receipt(shop: Shop) -> None:
    """Another organization's payment, a payout, none at all: one answer."""
    await received(shop)
    payout = await open_payment(shop.core, shop.principal, a_payout())
    await send_due(shop.core)
    await shop.call_back(shop.daraja.of("b2c")[0].body["ResultURL"], payout_result(receipt="SKE0000BB1"))
    assert await shop.status(payout.payment.payment_id) == "succeeded"
    other = await make_organization(shop.core, "globex")
    with pytest.raises(NotFoundError) as unknown:
        await reverse(shop, receipt="SKE0000ZZ9")
    for principal, receipt in [(other, RECEIPT), (shop.principal, "SKE0000BB1")]:
        with pytest.raises(NotFoundError) as refused:
            await open_payment(shop.core, principal, a_reversal(receipt))
        assert (type(refused.value), refused.value.message) == (type(unknown.value), unknown.value.message)
        assert (refused.value.code, refused.value.advice) == (unknown.value.code, unknown.value.advice)


async def test_a_receipt_of_another_environment_is_not_found(shop: Shop) -> None:
    await received(shop)
    reachable = replace(shop.core, settings=shop.core.settings.model_copy(update={"public_url": "https://pay.example"}))
    sandbox = a_principal(shop.principal.organization_id, environment=Environment.SANDBOX)
    await give_shortcode(reachable, sandbox.organization_id, environment=Environment.SANDBOX)
    with pytest.raises(NotFoundError):
        await open_payment(reachable, sandbox, a_reversal(RECEIPT))


async def test_of_twenty_callers_with_different_keys_at_once_one_gets_the_reversal(shop: Shop) -> None:
    await received(shop)
    made: list[str] = []
    refused: list[str] = []

    async def ask(number: int) -> None:
        try:
            made.append(await reverse(shop, key=f"reversal-{number}"))
        except ReversalExists as exists:
            refused.append(exists.payment_id)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(ask, number)
    assert (len(made), refused) == (1, made * 19)


async def test_twenty_callers_with_the_same_key_at_once_all_get_the_one_reversal(shop: Shop) -> None:
    """Each has looked for the key before the first has written it down."""
    await received(shop)
    made: list[str] = []

    async def ask() -> None:
        made.append(await reverse(shop))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(ask)
    assert made == made[:1] * 20
