"""The page of keys: which one takes the place of which, and what to do about one that others have seen."""

import re
from datetime import timedelta

import pytest

from mpesa_mcp.identity.api_keys import rotate_key
from mpesa_mcp.identity.exposed_keys import Place, flag_exposed_key
from tests.api.people import OPERATOR
from tests.isolation.factories import make_key

from .office import Office, signed_in

pytestmark = pytest.mark.anyio


async def cards_of(office: Office) -> dict[str, str]:
    """What the page says of each key, by what is shown of it."""
    async with signed_in(office, "org_admin") as client:
        shown = (await client.get("/keys")).text
    cards = [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", card)) for card in re.split(r"<li[^>]*>", shown)]
    return {found.group(): card for card in cards if (found := re.search(r"\w+(?=…)", card))}


async def test_of_a_key_that_was_rotated_the_page_says_which_one_takes_its_place(office: Office) -> None:
    core = office.platform.core
    old = await make_key(core, office.people.organization_id, "my assistant")
    new = await rotate_key(
        core.store,
        core.keyring,
        core.clock,
        organization_id=office.people.organization_id,
        key_id=old.record.key_id,
        overlap=timedelta(hours=24),
        actor=OPERATOR,
    )
    cards = await cards_of(office)
    of_old, of_new = cards[old.record.prefix], cards[new.record.prefix]
    assert f"Replaced by {new.record.prefix}…" in of_old
    assert ("in use" in of_old, "in use" in of_new) == (False, True)
    assert f"In the place of {old.record.prefix}…" in of_new


async def test_of_a_key_that_others_can_read_the_page_says_what_to_do(office: Office) -> None:
    core = office.platform.core
    key = await make_key(core, office.people.organization_id, "seen assistant")
    await flag_exposed_key(core.store, core.keyring, core.clock, key.key.reveal(), place=Place.ADDRESS)
    card = (await cards_of(office))[key.record.prefix]
    assert "seen where others can read it" in card
    assert f"POST /api/v1/api-keys/{key.record.key_id}/rotate" in card
