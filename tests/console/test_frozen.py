"""A freeze is what every page of the organization begins with."""

import re

import pytest

from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.identity.standing import freeze
from mpesa_mcp.payments.standing import unfreeze
from mpesa_mcp.values import Role
from tests.api.people import OPERATOR

from .office import Office, signed_in
from .permissions import PAGES

pytestmark = pytest.mark.anyio


async def test_while_an_organization_is_frozen_every_page_says_so_and_who_has_asked_to_lift_it(
    office: Office,
) -> None:
    core, acme = office.platform.core, office.people.organization_id
    jane = office.people.users["org_admin"]
    pages = [
        re.sub(r"\{(\w+)\}", lambda found: office.own[found.group(1)], path)
        for (method, path), shown_to in PAGES.items()
        if method == "GET" and "org_admin" in shown_to and path != "/" and "result.csv" not in path
    ]
    assert len(pages) >= 9
    async with signed_in(office, "org_admin") as client, signed_in(office, "super_admin") as platform:
        assert "no reversal is sent" not in (await client.get("/payments")).text
        await freeze(core.store, core.clock, organization_id=acme, actor=OPERATOR)
        try:
            for path in pages:
                assert "no payout and no reversal is sent" in (await client.get(path)).text, path
            assert "Two people must lift it" in (await client.get("/payments")).text
            assert "no reversal is sent" not in (await platform.get("/organizations")).text
            await unfreeze(
                core, organization_id=acme, actor=Actor(f"user:{jane.user_id}", Role.ORG_ADMIN, jane.user_id)
            )
            assert f"Lifting the freeze was asked for by {jane.email}" in (await client.get("/payments")).text
        finally:
            await unfreeze(core, organization_id=acme, actor=OPERATOR)
            other = office.people.users["org_admin_on_mcp"].user_id
            await unfreeze(core, organization_id=acme, actor=Actor(f"user:{other}", Role.ORG_ADMIN, other))
        assert "no reversal is sent" not in (await client.get("/payments")).text
