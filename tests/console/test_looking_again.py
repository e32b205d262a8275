"""A page that looks again by itself takes nothing from whoever is at it: what is typed, and where the keyboard is."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from mpesa_mcp.app.local import local_platform
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.payments.approving import decline
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import Role

from .chromium import EXECUTABLE, PHONE, SMALLEST, focused, looking, picture, running_browser, sign_in
from .office import Office, add_payments, hold_payment, open_office

if EXECUTABLE is None:
    pytest.skip("There is no Chromium on this machine: apt-get install chromium", allow_module_level=True)

pytestmark = [pytest.mark.anyio, pytest.mark.sqlite]


@pytest.fixture(scope="module")
async def office() -> AsyncIterator[Office]:
    async with local_platform(worker=False, delay_ms=10) as platform:
        yield await open_office(platform)


@pytest.fixture(scope="module")
async def browser(office: Office) -> AsyncIterator[Browser]:
    async with running_browser() as started:
        yield started


async def change(office: Office, payment_id: str, **values: object) -> None:
    """Something comes of a payment, as far as its page can tell."""
    core = office.platform.core
    async with core.store.session(office.people.organization_id) as session:
        payment = await session.lock(Payment, payment_id)
        assert payment is not None
        payment.updated_at = core.clock.now()
        for name, value in values.items():
            setattr(payment, name, value)


async def open_page(page: Page, office: Office, path: str, caller: str = "org_admin") -> None:
    await page.goto(f"/console{path}")
    await sign_in(page, office, caller)
    await expect(page.get_by_role("heading", level=1)).not_to_have_text("Sign in")


async def test_what_is_typed_into_the_form_of_a_payment_stays(office: Office, browser: Browser) -> None:
    queued, unknown = await add_payments(
        office, PaymentStatus.QUEUED, PaymentStatus.UNKNOWN, kind=PaymentKind.B2C, phone="254711000001"
    )
    async with looking(browser, office.url) as page:
        await open_page(page, office, f"/payments/{queued.id}", "manager")
        await picture(page, "payment-queued")
        await page.get_by_label("Why").fill("It was paid in c")
        await change(office, queued.id, remarks="Looked at again")
        await expect(page.get_by_text("Looked at again")).to_be_visible(timeout=15_000)
        await page.keyboard.type("ash")
        await expect(page.get_by_label("Why")).to_have_value("It was paid in cash")
        await page.goto(f"/console/payments/{unknown.id}")
        await page.get_by_label("has not moved").check()
        await page.get_by_label("How you found out").fill("The portal")
        await change(office, unknown.id, remarks="Looked at again, too")
        await expect(page.get_by_text("Looked at again, too")).to_be_visible(timeout=15_000)
        await expect(page.get_by_label("How you found out")).to_have_value("The portal")
        await expect(page.get_by_label("has not moved")).to_be_checked()
        # What can be done now is another thing, and what was written about the first is not taken for it.
        await change(office, unknown.id, status=PaymentStatus.SUCCEEDED)
        await expect(page.get_by_role("button", name="Decide")).to_be_hidden(timeout=15_000)


async def test_the_keyboard_stays_where_it_is_and_goes_to_the_whole_where_its_place_is_gone(
    office: Office, browser: Browser
) -> None:
    core, acme = office.platform.core, office.people.organization_id
    approvals = [await hold_payment(office.platform, acme, 20_000 + each) for each in range(3)]
    user_id = office.people.users["org_admin_on_mcp"].user_id
    jane = Actor(f"user:{user_id}", Role.ORG_ADMIN, user_id, is_person=True)

    async def decline_and_see(page: Page, which: int) -> None:
        await decline(core, acme, approvals[which], actor=jane, reason="Not this one")
        gone = page.get_by_role("link", name=f"Payout of KES 20,00{which}")
        await expect(gone).to_be_hidden(timeout=15_000)

    async with looking(browser, office.url) as page:
        await open_page(page, office, "/approvals")
        await page.get_by_role("link", name="Payout of KES 20,000").focus()
        await decline_and_see(page, 1)
        assert await focused(page) == "Payout of KES 20,000"
        await page.get_by_role("link", name="Payout of KES 20,002").focus()
        await decline_and_see(page, 2)
        await expect(page.locator("#queue")).to_be_focused()
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.closest('#queue') !== null"), "and goes on from there"
        await page.get_by_role("link", name="Payout of KES 20,000").press("Enter")
        await page.get_by_role("button", name="Approve KES 20,000").focus()
        await decline(core, acme, approvals[0], actor=jane, reason="Nor this one")
        await expect(page.get_by_role("button", name="Approve KES 20,000")).to_be_hidden(timeout=15_000)
        assert await page.evaluate("document.activeElement.closest('#approval') !== null")


async def test_one_long_word_breaks_no_page(office: Office, browser: Browser) -> None:
    acme = office.people.organization_id
    approval_id = await hold_payment(office.platform, acme, 23_000, remarks="W" * 100)
    async with looking(browser, office.url) as page:
        await open_page(page, office, "/approvals")
        await expect(page.get_by_text("W" * 100)).to_be_visible()
        for width in (PHONE, SMALLEST):
            await page.set_viewport_size({"width": width, "height": 844})
            for path in ("/approvals", f"/approvals/{approval_id}", "/payments", "/rules/organization"):
                await page.goto(f"/console{path}")
                await picture(page, f"long-word-{width}")
