"""The vault: a sealed secret opens in its own place and nowhere else."""

from typing import TypedDict

import pytest

from mpesa_mcp.credentials.vault import SecretField, open_secret, seal_secret
from mpesa_mcp.values.sealing import SealBroken, SealingKey


class Place(TypedDict):
    organization_id: str
    shortcode_id: str
    field: SecretField
    key_version: int


HERE: Place = {
    "organization_id": "org_a",
    "shortcode_id": "sc_a",
    "field": SecretField.PASSKEY,
    "key_version": 1,
}
KEY = SealingKey.generate()


def test_a_sealed_secret_opens_where_it_was_sealed() -> None:
    sealed = seal_secret(KEY, "the passkey", **HERE)
    assert b"passkey" not in sealed
    assert open_secret(KEY, sealed, **HERE).reveal() == "the passkey"


@pytest.mark.parametrize(
    "elsewhere",
    [
        {**HERE, "organization_id": "org_b"},
        {**HERE, "shortcode_id": "sc_b"},
        {**HERE, "field": SecretField.CONSUMER_SECRET},
        {**HERE, "key_version": 2},
        {**HERE, "organization_id": "org_as", "shortcode_id": "c_a"},
    ],
)
def test_a_sealed_secret_copied_elsewhere_does_not_open(elsewhere: Place) -> None:
    sealed = seal_secret(KEY, "the passkey", **HERE)
    with pytest.raises(SealBroken):
        open_secret(KEY, sealed, **elsewhere)


def test_another_key_or_a_changed_byte_does_not_open() -> None:
    sealed = seal_secret(KEY, "the passkey", **HERE)
    with pytest.raises(SealBroken):
        open_secret(SealingKey.generate(), sealed, **HERE)
    for position in range(len(sealed)):
        changed = sealed[:position] + bytes([sealed[position] ^ 1]) + sealed[position + 1 :]
        with pytest.raises(SealBroken):
            open_secret(KEY, changed, **HERE)


def test_the_same_secret_is_sealed_differently_each_time() -> None:
    assert seal_secret(KEY, "the passkey", **HERE) != seal_secret(KEY, "the passkey", **HERE)
