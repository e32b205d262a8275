"""What an operator may give: read strictly, refused without being repeated."""

import json
from pathlib import Path

import pytest

from mpesa_mcp.credentials.given import GivenShortcode, check_given, read_document
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.errors import InputError
from mpesa_mcp.settings import Deployment, Settings
from mpesa_mcp.values import Environment, ShortcodeType

from .factories import INITIATOR, KEYS, PASSKEY, sealed


def check(
    settings: Settings,
    *,
    environment: Environment = Environment.SANDBOX,
    shortcode: str = "174379",
    kind: ShortcodeType = ShortcodeType.PAYBILL,
    till: str | None = None,
    secrets: dict[SecretField, str] | None = None,
) -> tuple[str, ...]:
    given = sealed(KEYS if secrets is None else secrets)
    return check_given(
        settings,
        GivenShortcode(environment=environment, shortcode=shortcode, type=kind, till=till, secrets=given),
    )


def test_a_document_gives_its_secrets_and_its_till() -> None:
    given = read_document(json.dumps({**KEYS, **INITIATOR, "passkey": None, "till": "5500001"}))
    assert given.secrets.keys() == {*KEYS, *INITIATOR}
    assert given.secrets[SecretField.INITIATOR_PASSWORD].reveal() == "Safaricom999!*!"
    assert given.till == "5500001"
    assert "Safaricom999" not in repr(given)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '"hunter2"',
        "null",
        '{"consumer_key": 5}',
        '{"consumer_key": ["hunter2"]}',
        '{"hunter2": "x"}',
        '{"consumer_key": "hunter2", "consumer_key": "b"}',
        '{"consumer_key": "hunter2"',
        "[" * 100_000,
    ],
)
def test_a_document_that_is_not_one_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(InputError) as refused:
        read_document(text)
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize(
    "number", ["1234", "12345678", "17437x", "", " 174379", "\uff11\uff17\uff14\uff13\uff17\uff19", "174379\n"]
)
def test_a_number_of_other_than_five_to_seven_digits_is_refused(settings: Settings, number: str) -> None:
    with pytest.raises(InputError) as shortcode:
        check(settings, shortcode=number)
    assert shortcode.value.field == "shortcode"
    with pytest.raises(InputError) as till:
        check(settings, kind=ShortcodeType.TILL, till=number)
    assert till.value.field == "till"


def test_a_till_needs_its_number_and_a_paybill_has_none(settings: Settings) -> None:
    assert check(settings, kind=ShortcodeType.TILL, till="5500001") == ()
    with pytest.raises(InputError):
        check(settings, kind=ShortcodeType.TILL)
    with pytest.raises(InputError):
        check(settings, kind=ShortcodeType.PAYBILL, till="5500001")


@pytest.mark.parametrize("absent", list(KEYS))
def test_consumer_key_and_secret_are_required(settings: Settings, absent: SecretField) -> None:
    with pytest.raises(InputError) as refused:
        check(settings, secrets={field: value for field, value in KEYS.items() if field is not absent})
    assert refused.value.field == absent


@pytest.mark.parametrize("alone", list(INITIATOR))
def test_an_initiator_is_a_name_and_a_password_or_nothing(settings: Settings, alone: SecretField) -> None:
    with pytest.raises(InputError):
        check(settings, secrets={**KEYS, alone: INITIATOR[alone]})


@pytest.mark.parametrize("bad", ["hunter2\n", " hunter2", "hun\tter2", "hünter2", "hunter2" * 40, "hunter2\u200b"])
def test_a_secret_with_what_only_a_slip_of_copying_leaves_is_refused(settings: Settings, bad: str) -> None:
    with pytest.raises(InputError) as refused:
        check(settings, secrets={**KEYS, SecretField.PASSKEY: bad})
    assert refused.value.field == SecretField.PASSKEY
    assert "hunter2" not in refused.value.message


@pytest.mark.parametrize("character", ["@", ".", "(", ")"])
def test_a_password_safaricom_advises_against_is_accepted_with_a_warning(settings: Settings, character: str) -> None:
    warned = check(settings, secrets={**KEYS, **INITIATOR, SecretField.INITIATOR_PASSWORD: f"hunter2{character}"})
    assert len(warned) == 1
    assert "hunter2" not in warned[0]
    assert check(settings, secrets={**KEYS, **INITIATOR}) == ()


def test_there_is_no_simulator_in_production(settings: Settings) -> None:
    production = settings.model_copy(update={"environment": Deployment.PRODUCTION})
    with pytest.raises(InputError) as refused:
        check(production, environment=Environment.SIMULATOR)
    assert refused.value.field == "environment"
    assert check(production, environment=Environment.SANDBOX) == ()


def test_a_production_initiator_waits_for_the_certificate(settings: Settings) -> None:
    with pytest.raises(InputError) as refused:
        check(settings, environment=Environment.PRODUCTION, secrets={**KEYS, **INITIATOR})
    assert "MPESA_MCP_DARAJA_CERTIFICATE" in refused.value.message
    assert check(settings, environment=Environment.PRODUCTION, secrets={**KEYS, **PASSKEY}) == ()
    certified = settings.model_copy(update={"daraja_certificate": Path("production.cer")})
    assert check(certified, environment=Environment.PRODUCTION, secrets={**KEYS, **INITIATOR}) == ()
