"""The console in a real Chromium: on a phone, by keyboard alone, in the dark. Pictures are kept in test-output/."""

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from mpesa_mcp.app.local import local_platform
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from tests.api.people import PASSWORD

from .chromium import DESK, EXECUTABLE, focused, looking, picture, running_browser
from .office import Office, add_payments, open_office

if EXECUTABLE is None:
    pytest.skip("There is no Chromium on this machine: apt-get install chromium", allow_module_level=True)

pytestmark = [pytest.mark.anyio, pytest.mark.sqlite]


@pytest.fixture(scope="module")
async def office() -> AsyncIterator[Office]:
    async with local_platform(worker=False, delay_ms=10) as platform:
        opened = await open_office(platform)
        await add_payments(opened, *(status for status in PaymentStatus for _ in range(3)))
        yield opened


@pytest.fixture(scope="module")
async def browser(office: Office) -> AsyncIterator[Browser]:
    async with running_browser() as started:
        yield started


async def sign_in(page: Page, office: Office, caller: str, path: str = "/console/") -> None:
    await page.goto(path)
    await page.get_by_label("E-mail address").fill(office.email(caller))
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("navigation")).to_be_visible()


async def test_payments_are_found_read_and_withdrawn_on_a_phone(office: Office, browser: Browser) -> None:
    await add_payments(office, PaymentStatus.QUEUED, kind=PaymentKind.B2C, amount_cents=77_00, reference="WITHDRAW-ME")
    async with looking(browser, office.url) as page:
        await page.goto("/console/payments")
        await picture(page, "sign-in")
        await sign_in(page, office, "manager", "/console/payments")
        await picture(page, "payments")
        await page.get_by_label("Status").select_option("queued")
        await expect(page.get_by_role("status")).to_have_text("5 payments shown")
        await page.get_by_label("Reference").fill("WITHDRAW-ME")
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_role("status")).to_have_text("1 payment shown")
        await expect(page).to_have_url(
            f"{office.url}/console/payments?from=&to=&status=queued&kind=&phone=&reference=WITHDRAW-ME"
        )
        await page.get_by_role("link", name="Payout").click()
        await page.get_by_label("Why").fill("It was paid in cash")
        await page.get_by_role("button", name="Withdraw this payment").click()
        await expect(page.locator(".lead")).to_contain_text("expired")
        await picture(page, "payment")


async def test_the_keyboard_alone_is_enough(office: Office, browser: Browser) -> None:
    async with looking(browser, office.url, width=DESK) as page:
        await page.goto("/console/payments")
        assert await focused(page) == "E-mail address"
        await page.keyboard.type(office.email("org_admin"))
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Payments")).to_be_visible()
        await page.keyboard.press("Tab")
        assert await focused(page) == "Skip to the content"
        await picture(page, "payments-desk")
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        assert await focused(page) == "From"
        await page.get_by_role("link", name="Older payments").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_contain_text("shown")
        await expect(page).to_have_url(re.compile("cursor="))
        assert await page.evaluate("document.activeElement.id") == "results"
