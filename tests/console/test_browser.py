"""The console in a real Chromium: on a phone, by keyboard alone, in the dark. Pictures are kept in test-output/."""

import re
from collections.abc import AsyncIterator

import httpx2
import pytest
from playwright.async_api import Browser, Page, expect

from mpesa_mcp.app.local import local_platform
from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.invitations import invite, link_to
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.policy.models import SpendRule
from mpesa_mcp.values import Role
from tests.api.people import OPERATOR, PASSWORD
from tests.clients import call, connected
from tests.isolation.factories import make_key

from .chromium import DESK, EXECUTABLE, focused, looking, picture, running_browser, sign_in
from .office import Office, add_batch, add_payments, hold_payment, open_office

if EXECUTABLE is None:
    pytest.skip("There is no Chromium on this machine: apt-get install chromium", allow_module_level=True)

pytestmark = [pytest.mark.anyio, pytest.mark.sqlite]


@pytest.fixture(scope="module")
async def office() -> AsyncIterator[Office]:
    async with local_platform(delay_ms=10) as platform:
        opened = await open_office(platform)
        # As if it had been so before there were two org_admins, who must agree to it.
        rule = SpendRule(
            organization_id=opened.people.organization_id,
            scope="organization",
            rule={"approval_above": 10_000, "per_day": 1_000_000},
            changed_at=platform.core.clock.now(),
            changed_by=OPERATOR.name,
        )
        async with platform.core.store.session(opened.people.organization_id) as session:
            session.add(rule)
        yield opened


@pytest.fixture(scope="module")
async def browser(office: Office) -> AsyncIterator[Browser]:
    async with running_browser() as started:
        yield started


async def tab_to(page: Page, what: str) -> None:
    for _ in range(40):
        await page.keyboard.press("Tab")
        if (await focused(page)).startswith(what):
            return
    raise AssertionError(f"the keyboard does not reach: {what}")


async def test_a_payout_that_an_assistant_asked_for_is_approved_on_a_phone_from_its_link(
    office: Office, browser: Browser
) -> None:
    key = await make_key(office.platform.core, office.people.organization_id, "Jane's assistant")
    async with connected(office.url, key.key.reveal()) as assistant, looking(browser, office.url) as page:
        payout = {"phone": "0712345678", "amount": 25_000, "remarks": "Rent of November", "idempotency_key": "rent-11"}
        held = await call(assistant, "b2c_payment", **payout, wait_seconds=0)
        assert held["status"] == "awaiting_approval"
        await page.goto(held["approval"]["url"])
        await picture(page, "sign-in")
        await sign_in(page, office, "org_admin")
        await expect(page.get_by_role("heading", name="Payout to 0712 345 678")).to_be_visible()
        for said in ("key “Jane's assistant”", "mcp", "Rent of November", "This would be the first payment"):
            await expect(page.get_by_role("main")).to_contain_text(said)
        await picture(page, "approval")
        await page.get_by_role("button", name="Approve KES 25,000").click()
        # What was done is said where it is seen and heard, and the keyboard is there.
        await expect(page.get_by_role("status").filter(has_text="You approved this")).to_be_focused()
        await expect(page.locator("#outcome")).to_contain_text("succeeded")
        await picture(page, "approval-given")
        paid = await call(assistant, "get_payment", id=held["payment_id"])
        await expect(page.locator("#outcome")).to_contain_text(paid["receipt"])
        await page.get_by_role("link", name="Its whole history").click()
        await expect(page.get_by_role("listitem").filter(has_text="Approved by a person")).to_be_visible()
        await expect(page.get_by_role("main")).to_contain_text("org_admin@acme.example approved it")
        await picture(page, "payment")


async def test_the_keyboard_alone_is_enough_to_decline(office: Office, browser: Browser) -> None:
    await hold_payment(office.platform, office.people.organization_id, 33_333)
    async with looking(browser, office.url, width=DESK, dark=True) as page:
        await page.goto("/console/approvals")
        assert await focused(page) == "E-mail address"
        await page.keyboard.type(office.email("org_admin"))
        await tab_to(page, "Password")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Approvals")).to_be_visible()
        await picture(page, "approvals-desk-dark")
        await page.keyboard.press("Tab")
        assert await focused(page) == "Skip to the content"
        await page.keyboard.press("Enter")
        await tab_to(page, "Payout of KES 33,333")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="Payout to")).to_be_visible()
        await tab_to(page, "Why, for whoever asked")
        await page.keyboard.type("We never heard of them")
        await page.keyboard.press("Enter")
        await expect(page.locator(".lead")).to_contain_text("declined")
        await expect(page.get_by_role("main")).to_contain_text("We never heard of them")
        await picture(page, "approval-declined-desk-dark")


async def test_the_queue_shows_what_comes_by_itself(office: Office, browser: Browser) -> None:
    async with looking(browser, office.url) as page:
        await page.goto("/console/approvals")
        await sign_in(page, office, "manager")
        await expect(page.get_by_role("heading", name="Approvals")).to_be_visible()
        await hold_payment(office.platform, office.people.organization_id, 44_444)
        await expect(page.get_by_role("link", name="Payout of KES 44,444")).to_be_visible(timeout=15_000)
        await expect(page.get_by_role("status")).to_contain_text("approvals wait")
        await picture(page, "approvals")


async def test_payments_are_found_read_and_withdrawn_on_a_phone(office: Office, browser: Browser) -> None:
    await add_payments(office, *(status for status in PaymentStatus for _ in range(3)), reference="MANY")
    await add_payments(office, PaymentStatus.QUEUED, kind=PaymentKind.B2C, amount_cents=77_00, reference="WITHDRAW-ME")
    async with looking(browser, office.url) as page:
        await page.goto("/console/payments")
        await sign_in(page, office, "manager")
        await picture(page, "payments")
        await page.get_by_label("Reference").fill("MANY")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status")).to_have_text("25 payments shown")
        await page.get_by_role("link", name="Older payments").press("Enter")
        await expect(page.get_by_role("status")).to_have_text("8 payments shown")
        assert await page.evaluate("document.activeElement.id") == "results"
        await page.get_by_label("Status").select_option("queued")
        await expect(page.get_by_role("status")).to_have_text("3 payments shown")
        await page.get_by_label("Phone").fill("0712")
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_role("alert")).to_contain_text("phone must be a Kenyan mobile number")
        await picture(page, "payments-refused")
        await page.get_by_label("Phone").fill("")
        await page.get_by_label("Reference").fill("WITHDRAW-ME")
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_role("status")).to_have_text("1 payment shown")
        await expect(page).to_have_url(re.compile("status=queued.*reference=WITHDRAW-ME"))
        await page.get_by_role("link", name="Payout").click()
        await page.get_by_label("Why").fill("It was paid in cash")
        await page.get_by_role("button", name="Withdraw this payment").click()
        await expect(page.locator(".lead")).to_contain_text("expired")


async def test_a_payroll_is_approved_once_and_explained_row_by_row(office: Office, browser: Browser) -> None:
    batch_id = await add_batch(office.platform, office.people.organization_id, 40, shillings=500)
    async with httpx2.AsyncClient(base_url=office.platform.simulator_url) as simulator:
        # So that it runs for longer than the page waits before it looks again.
        slow = {"operation": "b2c", "delay_ms": 5000, "count": 3}
        assert (await simulator.post("/_sim/faults", json=slow)).is_success
    async with looking(browser, office.url) as page:
        await page.goto(f"/console/batches/{batch_id}")
        await sign_in(page, office, "org_admin")
        await expect(page.locator(".lead")).to_contain_text("awaiting approval")
        await picture(page, "batch-awaiting")
        await page.get_by_text("Cancel what is not sent").click()
        other = await page.context.new_page()
        await other.goto(f"/console/batches/{batch_id}")
        await other.get_by_role("link", name="A person decides about it").click()
        await expect(other.get_by_role("heading", name="Payroll of November")).to_be_visible()
        await picture(other, "approval-batch")
        await other.get_by_role("button", name="Approve KES 20,000").click()
        # The page that was open follows, and leaves open what somebody has opened in it.
        await expect(page.locator(".lead")).to_contain_text("running", timeout=10_000)
        await expect(page.get_by_role("button", name="Cancel it")).to_be_visible()
        await expect(page.locator(".lead")).to_contain_text("completed", timeout=40_000)
        await expect(page.get_by_text("40 payouts: 39 paid, 1 failed")).to_be_visible()
        await expect(other.locator("#outcome")).to_contain_text("completed 39 paid, 1 failed", timeout=10_000)
        totals = page.locator(".totals")
        await expect(totals).to_contain_text(re.compile(r"failed\s*1\s*KES 500"))
        await expect(totals).to_contain_text(re.compile(r"succeeded\s*39\s*KES 19,500"))
        await expect(page.get_by_role("button", name="Pause it")).to_be_hidden()
        await picture(page, "batch")
        async with page.expect_download() as download:
            await page.get_by_role("link", name="All rows as a file (CSV)").click()
        written = (await (await download.value).path()).read_text()
        assert len(written.splitlines()) == 41
        await page.get_by_role("link", name="All batches").click()
        await picture(page, "batches")


async def test_rules_and_keys_are_looked_after_on_a_phone(office: Office, browser: Browser) -> None:
    async with looking(browser, office.url, dark=True) as page:
        await page.goto("/console/rules")
        await sign_in(page, office, "org_admin")
        await page.get_by_text("Make a rule for somebody or something else").click()
        await page.get_by_role("link", name="users").click()
        await page.get_by_label("With one payment").fill("1,500")
        await picture(page, "rule-dark")
        await page.get_by_role("button", name="Set this rule").click()
        await expect(page.get_by_text("At most KES 1,500 with one payment.")).to_be_visible()
        await picture(page, "rules-dark")
        await page.get_by_role("link", name="Keys").click()
        first = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="assistant", exact=True)).first
        await first.get_by_text("Revoke this key").click()
        await picture(page, "keys-dark")
        await first.get_by_role("button", name="Revoke the key assistant").click()
        await expect(page.get_by_text("revoked")).to_be_visible()


async def test_an_invited_person_chooses_a_password_and_signs_in(office: Office, browser: Browser) -> None:
    core = office.platform.core
    invited = await invite(
        core.store,
        core.clock,
        organization_id=office.people.organization_id,
        email="new@acme.example",
        role=Role.USER,
        actor=OPERATOR,
        seats=seats_of,
    )
    async with looking(browser, office.url) as page:
        await page.goto("/console/invitation")
        await expect(page.locator("#answer")).to_contain_text("This link is not complete.")
        await expect(page.locator("#invitation")).to_be_hidden()
        # Pasted into the same page, the link loads nothing: only what stands behind the # is another one.
        await page.goto(link_to(core.settings, invited.token).reveal())
        await expect(page.get_by_label("You sign in as")).to_have_value("new@acme.example")
        await expect(page.locator("#organization")).to_have_text("Acme")
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_label("The same once more").fill(PASSWORD)
        await page.get_by_role("button", name="Accept the invitation").click()
        await expect(page.locator("#answer")).to_have_text("Done. You can sign in as new@acme.example.")
        await expect(page.locator("#invitation")).to_be_hidden()
        await picture(page, "invitation")


async def test_the_simulators_phone_shows_a_prompt_and_pays_it(office: Office, browser: Browser) -> None:
    key = await make_key(office.platform.core, office.people.organization_id)
    simulator = office.platform.simulator_url
    async with connected(office.url, key.key.reveal()) as assistant, looking(browser, simulator) as page:
        await page.goto("/phone/254700000099")
        await expect(page.get_by_text("No messages yet.")).to_be_visible()
        push = {"phone": "0700000099", "amount": 1500, "reference": "INV-1042"}
        asked = await call(assistant, "stk_push", **push, wait_seconds=0)
        await expect(page.get_by_role("button", name="Pay")).to_be_visible()
        await picture(page, "simulator-prompt")
        await page.get_by_role("button", name="Pay").click()
        paid = await call(assistant, "get_payment", id=asked["payment_id"], wait_seconds=20)
        assert paid["status"] == "succeeded"
        await expect(page.get_by_text(f"{paid['receipt']} Confirmed.")).to_be_visible()
        await picture(page, "simulator-paid")
