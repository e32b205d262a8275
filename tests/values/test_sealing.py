"""Sealing: opens with the same key in the same place, and otherwise not; secrets do not print."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_mcp.values import Secret
from mpesa_mcp.values.sealing import KEY_BYTES, SealBroken, SealingKey

KEY = SealingKey(bytes(range(KEY_BYTES)))
contexts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=4).map(tuple)


@given(st.binary(max_size=300), contexts)
def test_whatever_is_sealed_opens_with_the_same_key_and_context(plain: bytes, context: tuple[str, ...]) -> None:
    assert KEY.open(KEY.seal(plain, *context), *context) == plain


@given(st.binary(max_size=50), contexts, contexts)
def test_a_sealed_value_does_not_open_in_another_context(
    plain: bytes, context: tuple[str, ...], other: tuple[str, ...]
) -> None:
    sealed = KEY.seal(plain, *context)
    if context == other:
        assert KEY.open(sealed, *other) == plain
        return
    with pytest.raises(SealBroken):
        KEY.open(sealed, *other)


@given(st.binary(min_size=1, max_size=50), st.data())
def test_a_sealed_value_that_was_changed_or_cut_does_not_open(plain: bytes, data: st.DataObject) -> None:
    sealed = bytearray(KEY.seal(plain, "place"))
    position = data.draw(st.integers(0, len(sealed) - 1))
    with pytest.raises(SealBroken):
        KEY.open(bytes(sealed[:position]), "place")
    sealed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealBroken):
        KEY.open(bytes(sealed), "place")


def test_a_sealed_value_does_not_open_with_another_key() -> None:
    with pytest.raises(SealBroken):
        SealingKey.generate().open(KEY.seal(b"passkey", "place"), "place")


@pytest.mark.parametrize(
    "moved",
    [
        ("org_b", "sc_1", "passkey", "1"),
        ("org_a", "sc_2", "passkey", "1"),
        ("org_a", "sc_1", "initiator_password", "1"),
        ("org_a", "sc_1", "passkey", "2"),
        ("org_as", "c_1", "passkey", "1"),
        ("org_a", "sc_1", "passkey"),
        ("org_a", "sc_1", "passkey", "1", ""),
    ],
)
def test_a_secret_moved_to_another_row_does_not_open(moved: tuple[str, ...]) -> None:
    sealed = KEY.seal(b"passkey", "org_a", "sc_1", "passkey", "1")
    with pytest.raises(SealBroken):
        KEY.open(sealed, *moved)


def test_the_same_text_is_sealed_differently_each_time_and_never_shows() -> None:
    sealed = {KEY.seal(b"Safaricom999!*!", "place") for _ in range(50)}
    assert len(sealed) == 50
    assert not any(b"Safaricom" in one for one in sealed)


@pytest.mark.parametrize("version", [b"", b"\x00", b"\x02", b"\xff"])
def test_a_format_of_another_version_does_not_open(version: bytes) -> None:
    with pytest.raises(SealBroken):
        KEY.open(version + KEY.seal(b"plain", "place")[1:], "place")


def test_a_wrapped_key_opens_what_the_key_sealed() -> None:
    inner = SealingKey.generate()
    unwrapped = KEY.unwrap(KEY.wrap(inner, "data_key", "org_a"), "data_key", "org_a")
    assert unwrapped.open(inner.seal(b"plain")) == b"plain"
    with pytest.raises(SealBroken):
        KEY.unwrap(KEY.wrap(inner, "data_key", "org_a"), "data_key", "org_b")


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_no_key(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        SealingKey(bytes(length))


def test_a_digest_tells_equal_texts_to_the_keys_holder_only() -> None:
    assert KEY.digest("mpk_sim_x") == KEY.digest("mpk_sim_x")
    assert KEY.digest("mpk_sim_x") != KEY.digest("mpk_sim_y")
    assert KEY.digest("mpk_sim_x") != SealingKey.generate().digest("mpk_sim_x")


def test_a_broken_seal_says_what_to_check_and_nothing_of_the_value() -> None:
    with pytest.raises(SealBroken) as broken:
        KEY.open(b"\x01" + b"not sealed by us at all.....", "org_a")
    assert "master key" in broken.value.message
    assert "org_a" not in broken.value.message


def test_secrets_and_keys_do_not_print_themselves() -> None:
    secret, raw = Secret("Safaricom999!*!"), bytes(range(KEY_BYTES))
    for printed in (str(secret), repr(secret), f"{secret}", f"{secret!r:>20}", repr({"password": secret}), repr(KEY)):
        assert "Safaricom999" not in printed
        assert raw.hex() not in printed
        assert repr(raw)[2:-1] not in printed
    assert secret.reveal() == "Safaricom999!*!"
    assert secret == Secret("Safaricom999!*!")
