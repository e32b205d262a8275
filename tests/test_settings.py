"""Settings: a wrong name or value stops the start, is named, and is never repeated."""

import re
from pathlib import Path
from typing import Any

import pytest

from mpesa_mcp.settings import (
    FORBIDDEN_WORDS,
    PREFIX,
    Deployment,
    Settings,
    SettingsError,
    forbidden_word,
    is_loopback,
    is_private,
    load_settings,
)

TABLE = Path(__file__).parents[1] / "docs" / "settings.md"
DEFAULTS = Settings()


def load(**variables: str) -> Settings:
    return load_settings({PREFIX + name: value for name, value in variables.items()})


def refusal(**variables: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(**variables)
    return refused.value.message


def documented() -> dict[str, tuple[str, str]]:
    """(meaning, default) of each row of the table."""
    rows = re.findall(r"^\| `MPESA_MCP_(\w+)` \| (.+) \| (.+) \|$", TABLE.read_text(), re.MULTILINE)
    assert len(rows) == len({name for name, _, _ in rows}), "a setting is documented twice"
    return {name: (meaning, default) for name, meaning, default in rows}


def test_the_table_names_every_setting_and_no_other() -> None:
    assert list(documented()) == [field.upper() for field in Settings.model_fields]


@pytest.mark.parametrize("name", documented())
def test_the_table_says_each_default_and_one_sentence(name: str) -> None:
    meaning, default = documented()[name]
    assert meaning.endswith(".")
    assert meaning.count(". ") == 0
    value = getattr(DEFAULTS, name.lower())
    if isinstance(value, bool | int | float | Deployment):
        assert default.strip("`") == str(value).lower()
    elif name == "DATA_DIR":
        assert Path(default.strip("`")).expanduser() == value
    elif value:
        assert default.strip("`") == str(value)
    else:
        assert not default.startswith("`") or name in {"DATABASE_OWNER_URL", "BASE_URL", "MASTER_KEY_FILE"}


GOOD: dict[str, tuple[str, Any]] = {
    "DATA_DIR": ("/srv/payments", Path("/srv/payments")),
    "DATABASE_URL": ("sqlite+aiosqlite:////srv/p.db", "sqlite+aiosqlite:////srv/p.db"),
    "DATABASE_OWNER_URL": ("sqlite+aiosqlite:////srv/o.db", "sqlite+aiosqlite:////srv/o.db"),
    "BASE_URL": ("https://pay.example", "https://pay.example"),
    "ALLOWED_HOSTS": ("pay.example, pay2.example", "pay.example, pay2.example"),
    "PUBLIC_URL": ("https://hooks.example", "https://hooks.example"),
    "MASTER_KEY": ("00112233", "00112233"),
    "MASTER_KEY_PREVIOUS": ("00112233", "00112233"),
    "MASTER_KEY_FILE": ("/run/key", Path("/run/key")),
    "API_KEY": ("mpk_sim_x", "mpk_sim_x"),
    "REDIS_URL": ("redis://127.0.0.1", "redis://127.0.0.1"),
    "TRUSTED_PROXIES": ("10.0.0.1,10.0.0.2", "10.0.0.1,10.0.0.2"),
    "ENVIRONMENT": ("production", Deployment.PRODUCTION),
    "LOG_LEVEL": ("WARNING", "WARNING"),
    "HOST": ("::", "::"),
    "PORT": ("9000", 9000),
    "CALLBACK_PORT": ("9001", 9001),
    "MCP_STATELESS": ("true", True),
    "DARAJA_CERTIFICATE": ("/srv/production.cer", Path("/srv/production.cer")),
    "DARAJA_CALLS_PER_SECOND": ("500", 500),
    "SIMULATOR_URL": ("http://localhost:9", "http://localhost:9"),
    "RECONCILE_SPEED": ("100", 100),
}


def test_every_setting_is_covered_here() -> None:
    assert set(GOOD) == {field.upper() for field in Settings.model_fields}


@pytest.mark.parametrize("name", GOOD)
def test_a_setting_is_read_from_its_variable_alone(name: str) -> None:
    text, expected = GOOD[name]
    settings = load(**{name: text})
    value = getattr(settings, name.lower())
    assert (value.get_secret_value() if hasattr(value, "get_secret_value") else value) == expected
    others = {field: getattr(settings, field) for field in Settings.model_fields if field != name.lower()}
    assert others == {field: getattr(DEFAULTS, field) for field in others}


BAD = {
    "ENVIRONMENT": "staging-Zx9",
    "LOG_LEVEL": "loud-Zx9",
    "PORT": "Zx9",
    "CALLBACK_PORT": "70000",
    "MCP_STATELESS": "Zx9",
    "RECONCILE_SPEED": "Zx9",
    "BASE_URL": "Zx9.example",
    "PUBLIC_URL": "ftp://Zx9.example",
    "SIMULATOR_URL": "http://Zx9.example",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_stops_the_start_is_named_and_not_repeated(name: str) -> None:
    message = refusal(**{name: BAD[name]})
    assert message.startswith(f"Bad setting: MPESA_MCP_{name}:")
    assert "Zx9" not in message
    assert "70000" not in message


def test_several_bad_values_are_named_at_once() -> None:
    message = refusal(PORT="Zx9", LOG_LEVEL="Zx9")
    assert "MPESA_MCP_PORT" in message
    assert "MPESA_MCP_LOG_LEVEL" in message


def test_an_unknown_name_stops_the_start_and_is_named() -> None:
    message = refusal(PROT="9000", PORT="9000", ZEBRA="s3cret-Zx9")
    assert message.startswith("Unknown setting: MPESA_MCP_PROT, MPESA_MCP_ZEBRA.")
    assert "docs/settings.md" in message
    assert "Zx9" not in message
    assert "MPESA_MCP_PORT" not in message


def test_a_prefix_alone_and_a_name_in_small_letters_are_unknown() -> None:
    with pytest.raises(SettingsError, match="Unknown setting: MPESA_MCP_, MPESA_MCP_port"):
        load_settings({"MPESA_MCP_": "1", "MPESA_MCP_port": "9000"})


def test_variables_of_other_programs_are_left_alone() -> None:
    assert load_settings({"PORT": "99999999", "HOME": "/nowhere", "MPESA_PORT": "x"}) == load_settings({})


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(PORT="", API_KEY="", PUBLIC_URL="", SIMULATOR_URL="", ENVIRONMENT="production").port == DEFAULTS.port


def test_the_environment_is_read_when_nothing_else_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPESA_MCP_PORT", "9123")
    assert load_settings().port == 9123


@pytest.mark.parametrize("name", ["MASTER_KEY", "API_KEY"])
def test_a_secret_does_not_print_with_its_settings(name: str) -> None:
    settings = load(**{name: "s3cret-Zx9"})
    for printed in (str(settings), repr(settings), settings.model_dump_json()):
        assert "Zx9" not in printed


@pytest.mark.parametrize("name", ["PORT", "CALLBACK_PORT"])
@pytest.mark.parametrize("value", ["0", "-1", "65536", "80.5", "eighty"])
def test_a_port_lies_between_1_and_65535(name: str, value: str) -> None:
    assert f"MPESA_MCP_{name}" in refusal(**{name: value})


@pytest.mark.parametrize("value", ["0", "0.5", "10001", "nan", "inf", "-1"])
def test_reconciliation_is_sped_up_within_bounds(value: str) -> None:
    assert "MPESA_MCP_RECONCILE_SPEED" in refusal(RECONCILE_SPEED=value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8766", "http://localhost", "http://[::1]:8766", "http://127.8.8.8", "http://127.0.0.1/x"]
)
def test_the_simulator_is_reached_on_this_machine(url: str) -> None:
    assert load(SIMULATOR_URL=url).simulator_url == url


@pytest.mark.parametrize(
    "url",
    [
        "https://sandbox.safaricom.co.ke",
        "http://10.0.0.5:8766",
        "http://0.0.0.0:8766",
        "http://127.0.0.1.example",
        "http://127.0.0.1@evil.example",
        "http://localhost.example",
        "//127.0.0.1",
        "127.0.0.1:8766",
        "ftp://127.0.0.1",
        "file:///srv",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:port",
        "http://[",
        "http://[::1",
        "http://",
    ],
)
def test_a_simulator_elsewhere_is_refused(url: str) -> None:
    message = refusal(SIMULATOR_URL=url)
    assert message.startswith("Bad setting: MPESA_MCP_SIMULATOR_URL:")
    assert url not in message


@pytest.mark.parametrize("name", ["BASE_URL", "PUBLIC_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "Zx9.example",
        "https://",
        "https://[Zx9",
        "https://Zx9/?q=1",
        "https://Zx9/#x",
        "https://a:Zx9",
        "https://Zx9\u2100",
    ],
)
def test_an_address_is_an_address(name: str, url: str) -> None:
    message = refusal(**{name: url})
    assert message.startswith(f"Bad setting: MPESA_MCP_{name}:")
    assert "Zx9" not in message


@pytest.mark.parametrize("url", ["http://hooks.example", "http://203.0.113.7", "HTTP://hooks.example"])
def test_safaricom_is_called_from_over_https_only(url: str) -> None:
    assert "MPESA_MCP_PUBLIC_URL: Safaricom calls https only" in refusal(PUBLIC_URL=url)


def test_the_simulator_may_call_back_over_http() -> None:
    assert load(PUBLIC_URL="http://127.0.0.1:8767").public_url == "http://127.0.0.1:8767"


@pytest.mark.parametrize("word", FORBIDDEN_WORDS)
def test_a_word_safaricom_refuses_is_refused_anywhere_in_the_public_address(word: str) -> None:
    for url in (f"https://{word}.example", f"https://a{word.upper()}b.example", f"https://hooks.example/x{word}y"):
        message = refusal(PUBLIC_URL=url)
        assert "MPESA_MCP_PUBLIC_URL: Safaricom refuses addresses that contain the word" in message
        assert str(forbidden_word(url)) in message
        assert url not in message


def test_other_addresses_may_contain_those_words() -> None:
    assert load(BASE_URL="https://mpesa.example").reached_at == "https://mpesa.example"
    assert forbidden_word("https://hooks.example/cb/0123abcdef/timeout") is None


def test_production_knows_no_simulator() -> None:
    assert "MPESA_MCP_SIMULATOR_URL" in refusal(ENVIRONMENT="production", SIMULATOR_URL="http://127.0.0.1:8766")
    assert "MPESA_MCP_RECONCILE_SPEED" in refusal(ENVIRONMENT="production", RECONCILE_SPEED="10")
    assert load(ENVIRONMENT="production", RECONCILE_SPEED="1").is_production


def test_the_database_is_a_file_in_the_data_directory_unless_another_is_named() -> None:
    embedded = load(DATA_DIR="/srv/payments")
    assert embedded.sqlite_path == Path("/srv/payments/mpesa-mcp.db")
    assert embedded.effective_database_url == "sqlite+aiosqlite:////srv/payments/mpesa-mcp.db"
    assert embedded.owner_database_url == embedded.effective_database_url
    named = load(DATABASE_URL="sqlite+aiosqlite:////srv/p.db", DATABASE_OWNER_URL="sqlite+aiosqlite:////srv/o.db")
    assert named.sqlite_path is None
    assert named.effective_database_url.endswith("p.db")
    assert named.owner_database_url.endswith("o.db")


def test_clients_reach_the_base_address_or_the_port() -> None:
    assert load(PORT="9000").reached_at == "http://127.0.0.1:9000"
    assert load(PORT="9000", BASE_URL="https://pay.example/").reached_at == "https://pay.example"


@pytest.mark.parametrize(
    ("url", "loopback", "private"),
    [
        ("http://127.0.0.1:1", True, True),
        ("http://localhost", True, True),
        ("http://[::1]", True, True),
        ("http://10.1.2.3", False, True),
        ("http://192.168.1.1", False, True),
        ("http://169.254.1.1", False, True),
        ("http://intranet", False, True),
        ("https://196.201.212.69", False, False),
        ("https://hooks.example", False, False),
    ],
)
def test_an_address_inside_is_told_from_one_outside(url: str, loopback: bool, private: bool) -> None:
    assert is_loopback(url) is loopback
    assert is_private(url) is private


def test_settings_cannot_be_changed_after_the_start() -> None:
    with pytest.raises(ValueError, match="frozen"):
        DEFAULTS.port = 9000  # type: ignore[misc] # the type refuses it, too
