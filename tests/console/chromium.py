"""A real browser, the system's own, that notes whatever a page should not have done. Pictures are kept beside."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from playwright.async_api import Browser, Page, async_playwright

from tests.api.people import PASSWORD

from .office import Office

EXECUTABLE: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PICTURES: Final = Path(__file__).parents[2] / "test-output" / "console"
_FLAGS: Final = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_TROUBLE: Final = """() => {
    const all = (selector) => [...document.querySelectorAll(selector)];
    const ids = all("[id]").map((each) => each.id);
    // What lies in a line of text is read, and found by the finger all the same: so its box is as large.
    const small = all("a, button, summary, label.choice").filter((each) => {
        const part = each.matches(".whole") ? each.closest("li, tr") : each;
        return each.checkVisibility() && !each.matches(".skip") && part.getBoundingClientRect().height < 43.5;
    });
    const unnamed = all("input:not([type=hidden]), select, textarea").filter((each) => !each.labels.length);
    return [
        document.documentElement.scrollWidth > window.innerWidth && "wider than the screen",
        !document.documentElement.lang && "no language",
        all("h1").length !== 1 && "not one heading of the page",
        all("main").length !== 1 && "not one main part",
        ids.length !== new Set(ids).size && "an id twice",
        unnamed.length && "a field without a label",
        all("a, button").some((each) => !(each.ariaLabel || each.textContent).trim()) && "a button without a name",
        small.length && `too small for a finger: ${small.map((each) => each.textContent.trim())}`,
    ].filter(Boolean);
}"""
PHONE: Final = 390
SMALLEST: Final = 320
DESK: Final = 1200


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    PICTURES.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=EXECUTABLE, args=_FLAGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def looking(browser: Browser, url: str, *, width: int = PHONE, dark: bool = False) -> AsyncIterator[Page]:
    """A page without cookies. At the end nothing may have gone wrong in it, nor anything have been asked elsewhere."""
    context = await browser.new_context(
        base_url=url, viewport={"width": width, "height": 844}, color_scheme="dark" if dark else "light"
    )
    page = await context.new_page()
    wrong: list[str] = []
    # A form that is refused is an answer, whatever the browser makes of its status.
    page.on(
        "console", lambda said: wrong.append(said.text) if said.type == "error" and "422" not in said.text else None
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith(url) else wrong.append(asked.url))
    yield page
    assert wrong == []
    await context.close()


async def sign_in(page: Page, office: Office, caller: str) -> None:
    """On the page that asks for it."""
    await page.get_by_label("E-mail address").fill(office.email(caller))
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()


async def picture(page: Page, name: str) -> None:
    """Keeps what the page looks like; whoever has a small screen, or none, must find their way in it."""
    await page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
    trouble = await page.evaluate(_TROUBLE)
    assert trouble == [], f"{name}: {trouble}"


async def focused(page: Page) -> str:
    """What the keyboard is at, in the words a screen reader has for it."""
    return str(
        await page.evaluate(
            "(document.activeElement.labels?.[0]?.innerText || document.activeElement.ariaLabel "
            "|| document.activeElement.innerText || document.activeElement.tagName).trim()"
        )
    )
