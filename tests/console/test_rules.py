"""Rules in the console: one form for one scope; a change that allows more takes a second person."""

import html
import re

import httpx2
import pytest

from mpesa_mcp.identity.api_keys import revoke_key
from mpesa_mcp.policy.models import RuleProposal
from mpesa_mcp.policy.proposals import ProposalStatus
from mpesa_mcp.values import new_id
from tests.api.people import OPERATOR
from tests.isolation.factories import make_key

from .office import Office, field, hold_payment, signed_in

pytestmark = pytest.mark.anyio


async def fill_in(client: httpx2.AsyncClient, scope: str, **fields: str) -> httpx2.Response:
    shown = await client.get(f"/rules/{scope}")
    form = {"form_token": field(shown), "seen": field(shown, "seen"), **fields}
    return await client.post(f"/rules/{scope}", data=form)


async def test_what_is_left_of_a_limit_is_beside_it(office: Office) -> None:
    await hold_payment(office.platform, office.people.organization_id, 30_000)
    async with signed_in(office, "user") as client:
        shown = re.sub(r"<[^>]+>", "", (await client.get("/rules")).text)
    # The office itself holds back KES 25,000, and has a batch of KES 300.
    assert "Left this day: KES 44,700 of KES 100,000" in shown
    assert "Change the rule" not in shown


async def test_a_stricter_rule_holds_at_once_and_a_looser_one_when_a_second_person_agrees(office: Office) -> None:
    async with signed_in(office, "org_admin") as jane, signed_in(office, "org_admin_on_mcp") as joe:
        tightened = await fill_in(jane, "role:manager", per_payment="5,000", hours="08:00-18:00", day_mon="on")
        assert (tightened.status_code, tightened.headers["location"]) == (303, "/console/rules")
        for_managers = (await jane.get("/rules")).text.partition("For managers")[2].partition("</li>\n  <li>")[0]
        assert all(said in for_managers for said in ("KES 5,000", "08:00-18:00", "mon", office.email("org_admin")))
        await fill_in(jane, "role:manager", per_payment="9000", hours="08:00-18:00", day_mon="on")
        rules = await jane.get("/rules")
        # Only the line that changes is marked, on both sides.
        proposed = rules.text.partition(f"Proposed by {office.email('org_admin')}")[2].partition("Drop it")[0]
        assert re.findall(r"<(del|ins)>([^<]*)", proposed) == [
            ("del", "At most KES 5,000 with one payment."),
            ("ins", "At most KES 9,000 with one payment."),
        ]
        assert "You proposed it. Another org_admin confirms it." in rules.text
        path = rules.text.partition(f"Proposed by {office.email('org_admin')}")[2].partition('action="/console')[2]
        path = path.partition('"')[0].rpartition("/")[0]
        alone = await jane.post(f"{path}/confirm", data={"form_token": field(rules)})
        assert (alone.status_code, "needs two people" in alone.text) == (409, True)
        agreed = await joe.post(f"{path}/confirm", data={"form_token": field(await joe.get("/rules"))})
        assert agreed.status_code == 303
        in_force = re.sub(r"<[^>]+>", "", (await jane.get("/rules")).text).partition("In force")[2]
        assert "KES 9,000" in in_force
        both = f"Proposed by {office.email('org_admin')}, confirmed by {office.email('org_admin_on_mcp')}, "
        assert both in in_force
        removed = await fill_in(joe, "role:manager", remove="1")
        assert removed.status_code == 303


async def test_a_form_that_cannot_be_read_says_which_field_and_keeps_what_was_written(office: Office) -> None:
    async with signed_in(office, "org_admin") as client:
        for written, said in (
            ({"per_day": "a lot"}, "“In a day” (The most that may leave) must be a whole number"),
            ({"hours": "all day"}, "“Only between” must be two times"),
            (
                {"denied_recipients": "0700000001\n12"},
                "Line 2 of “Never to these numbers” must be a Kenyan",
            ),
        ):
            answer = await fill_in(client, "tool:b2c_payment", **written)
            assert answer.status_code == 422
            [(field_name, value)] = written.items()
            # At the top, leading to the field, and beside it.
            assert html.unescape(answer.text).count(said) == 2
            assert f'<a href="#{field_name}">' in answer.text
            marked = re.search(r'name="(\w+)"[^>]*aria-invalid="true" aria-describedby="wrong"', answer.text)
            assert marked is not None
            assert marked.group(1) == field_name
            assert value in answer.text
        assert "single payouts" not in (await client.get("/rules")).text.partition("Make a rule for")[0]


async def test_whose_numbers_are_in_a_rule_is_for_whoever_changes_it(office: Office) -> None:
    async with signed_in(office, "org_admin") as admin, signed_in(office, "manager") as manager:
        await fill_in(admin, "role:user", denied_recipients="0712345678")
        for client, shown in ((admin, "254712345678"), (manager, "2547*****678")):
            assert f"Never to these numbers {shown}." in (await client.get("/rules")).text


async def test_a_form_that_was_left_open_does_not_undo_what_somebody_else_changed(office: Office) -> None:
    async with signed_in(office, "org_admin") as client:
        shown = await client.get("/rules/tool:reverse")
        await fill_in(client, "tool:reverse", per_day="1000")
        late = {"form_token": field(shown), "seen": field(shown, "seen"), "per_day": "900"}
        answer = await client.post("/rules/tool:reverse", data=late)
        assert answer.status_code == 409
        assert "The rule was changed while you wrote." in answer.text
        assert 'name="per_day" inputmode="numeric" maxlength="15" value="1,000"' in answer.text


async def test_what_waits_is_shown_however_much_was_decided_after_it_and_what_a_revoked_key_leaves_behind(
    office: Office,
) -> None:
    core, acme = office.platform.core, office.people.organization_id
    async with core.store.session(acme) as session:
        waiting = await session.get(RuleProposal, office.own["proposal_id"])
        assert waiting is not None
        values = waiting.model_dump() | {"status": ProposalStatus.DECLINED}
        session.add(*[RuleProposal(**values | {"id": new_id("prp")}) for _ in range(101)])
    key = await make_key(core, acme)
    async with signed_in(office, "org_admin") as client:
        await fill_in(client, f"key:{key.record.key_id}", per_payment="50")
        await revoke_key(core.store, core.clock, organization_id=acme, key_id=key.record.key_id, actor=OPERATOR)
        shown = (await client.get("/rules")).text
        assert f"/proposals/{office.own['proposal_id']}/decline" in shown
        assert "This key is revoked or expired" in shown.rpartition("<h2>")[2]
        await fill_in(client, f"key:{key.record.key_id}", remove="1")
        assert "revoked or expired" not in (await client.get("/rules")).text
