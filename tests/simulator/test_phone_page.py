"""The customers' phones, for people and for programs."""

import re

import pytest

from .conftest import Daraja

pytestmark = pytest.mark.anyio

PERSON = "254700000099"
JSON = {"Accept": "application/json"}
BROWSER = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Site": "same-origin"}


async def asked(daraja: Daraja, amount: int = 1500, **changes: object) -> str:
    return str((await daraja.push(PERSON, amount, **changes)).json()["CheckoutRequestID"])


async def page(daraja: Daraja, path: str = f"/phone/{PERSON}") -> str:
    answer = await daraja.http.get(path, headers=BROWSER)
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


async def test_the_page_asks_and_two_buttons_answer(daraja: Daraja) -> None:
    checkout = await asked(daraja)
    html = await page(daraja)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))
    assert "Pay KES 1,500 to shortcode 174379, account INV-1042?" in text
    for decision in ("pay", "cancel"):
        assert f'action="/phone/{PERSON}/{checkout}/{decision}"' in html


async def test_paying_in_a_browser_leads_back_to_the_page_which_shows_the_message(daraja: Daraja) -> None:
    checkout = await asked(daraja)
    origin = str(daraja.http.base_url).rstrip("/")
    answer = await daraja.http.post(f"/phone/{PERSON}/{checkout}/pay", headers=BROWSER | {"Origin": origin})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/phone/{PERSON}")
    html = await page(daraja)
    (movement,) = await daraja.ledger()
    assert "Pay</button>" not in html
    assert f"{movement['receipt']} Confirmed. Ksh1,500.00 paid to 174379 for account INV-1042" in html
    assert 'http-equiv="refresh"' not in html, "who reads it is not thrown back to its top"


async def test_a_program_sees_prompts_and_messages_newest_first(daraja: Daraja) -> None:
    first = await asked(daraja, 10)
    second = await asked(daraja, 20)
    phone = (await daraja.http.get(f"/phone/{PERSON}", headers=JSON)).json()
    assert phone["msisdn"] == PERSON
    assert [one["checkout_request_id"] for one in phone["prompts"]] == [second, first]
    assert phone["prompts"][0]["text"] == "Pay KES 20 to shortcode 174379, account INV-1042?"
    paid = await daraja.http.post(f"/phone/{PERSON}/{first}/pay", headers=JSON)
    assert paid.json() == {
        "checkout_request_id": first,
        "status": "paid",
        "receipt": (await daraja.ledger())[0]["receipt"],
    }
    cancelled = await daraja.http.post(f"/phone/{PERSON}/{second}/cancel", headers=JSON)
    assert (cancelled.json()["status"], cancelled.json()["receipt"]) == ("cancelled", None)
    await daraja.pay(PERSON, 700)
    await daraja.receiver.wait_for(1, "/cb/result")
    phone = (await daraja.http.get(f"/phone/{PERSON}", headers=JSON)).json()
    assert phone["prompts"] == []
    assert [one["amount"] for one in phone["messages"]] == [700, -10]
    assert "You have received Ksh700.00 from 174379" in phone["messages"][0]["text"]


async def test_a_decision_is_made_once(daraja: Daraja) -> None:
    checkout = await asked(daraja)
    await daraja.http.post(f"/phone/{PERSON}/{checkout}/cancel")
    late = await daraja.http.post(f"/phone/{PERSON}/{checkout}/pay", headers=JSON)
    assert (late.status_code, late.json()["status"]) == (409, "cancelled")
    await daraja.receiver.wait_for(1)
    assert await daraja.ledger() == []


async def test_a_reversal_is_told_to_the_customer(daraja: Daraja) -> None:
    await daraja.push("254700000001", 40)
    await daraja.receiver.wait_for(1)
    receipt = (await daraja.ledger())[0]["receipt"]
    await daraja.reverse(receipt, 40)
    await daraja.receiver.wait_for(2)
    phone = (await daraja.http.get("/phone/254700000001", headers=JSON)).json()
    assert f"Ksh40.00 from 174379 has been returned to you: reversal of {receipt}" in phone["messages"][0]["text"]


async def test_the_list_shows_every_phone_seen(daraja: Daraja) -> None:
    assert "No phone has been seen yet" in await page(daraja, "/phone")
    await asked(daraja)
    await daraja.push("254700000001")
    assert (await daraja.http.get("/phone", headers=JSON)).json() == ["254700000001", PERSON]
    html = await page(daraja, "/phone")
    assert f'href="/phone/{PERSON}"' in html
    assert "is asked to pay" in html


async def test_a_phone_not_seen_yet_is_an_empty_phone(daraja: Daraja) -> None:
    assert (await daraja.http.get("/phone/254711111111", headers=JSON)).json() == {
        "msisdn": "254711111111",
        "prompts": [],
        "messages": [],
    }
    assert (await daraja.http.get("/phone", headers=JSON)).json() == []


@pytest.mark.parametrize("path", ["/phone/0700000001", "/phone/nobody", "/phone/2547000000990"])
async def test_what_is_no_phone_number_is_not_found(daraja: Daraja, path: str) -> None:
    assert (await daraja.http.get(path, headers=JSON)).status_code == 404
    assert (await daraja.http.get(path, headers=BROWSER)).status_code == 404


async def test_a_prompt_that_is_not_there_is_not_found(daraja: Daraja) -> None:
    checkout = await asked(daraja)
    for path in (f"/phone/{PERSON}/ws_CO_1/pay", f"/phone/254700000199/{checkout}/pay"):
        assert (await daraja.http.post(path, headers=JSON)).status_code == 404
    assert await daraja.ledger() == []


async def test_what_a_business_typed_is_shown_as_text(daraja: Daraja) -> None:
    await asked(daraja, AccountReference="<b>&\"'</b>", TransactionDesc="<script>")
    html = await page(daraja)
    assert "<script>" not in html
    assert "<b>" not in html
    assert "&lt;b&gt;" in html


async def test_the_page_allows_one_script_of_its_own_and_nothing_from_elsewhere(daraja: Daraja) -> None:
    answer = await daraja.http.get(f"/phone/{PERSON}", headers=BROWSER)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'; connect-src 'self'" in policy
    assert re.findall(r"<script[^>]*>[^<]*", answer.text) == ['<script src="/phone/phone.js" defer>']
    assert (await daraja.http.get("/phone/phone.js")).headers["content-type"].startswith("text/javascript")
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"https?://|style=|onclick", answer.text)
    style = await daraja.http.get("/phone/phone.css")
    assert style.headers["content-type"].startswith("text/css")
