"""Settings: environment variables named `MPESA_MCP_*`, read once at the start and passed on.

An unknown name, or a value that cannot be read, stops the start and says which: a typing error in a limit or an
address must not be found out by a payment. The table in `docs/settings.md` is compared with this class by a test.
"""

import ipaddress
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from mpesa_mcp.errors import InputError

PREFIX = "MPESA_MCP_"
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")
Port = Annotated[int, Field(ge=1, le=65535)]


class SettingsError(InputError):
    """A setting is unknown or cannot be read. Names the variables, never their values."""

    code = "bad_settings"


class Deployment(StrEnum):
    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Settings(BaseModel):
    """All settings. Every field is the variable `MPESA_MCP_<NAME>`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    data_dir: Path = Field(default_factory=lambda: Path.home() / ".mpesa-mcp")
    database_url: str | None = None
    database_owner_url: str | None = None
    base_url: str | None = None
    allowed_hosts: str = ""
    public_url: str | None = None
    master_key: SecretStr | None = None
    master_key_previous: SecretStr | None = None
    master_key_file: Path | None = None
    api_key: SecretStr | None = None
    redis_url: str | None = None
    trusted_proxies: str = ""
    environment: Deployment = Deployment.DEVELOPMENT
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    host: str = "127.0.0.1"
    port: Port = 8765
    callback_port: Port = 8767
    mcp_stateless: bool = False
    daraja_certificate: Path | None = None
    daraja_calls_per_second: Annotated[float, Field(ge=1, le=10_000)] = 20
    simulator_url: str = "http://127.0.0.1:8766"
    reconcile_speed: Annotated[float, Field(ge=1, le=10_000)] = 1

    @model_validator(mode="after")
    def _addresses_fit(self) -> "Settings":
        addresses = {"BASE_URL": self.base_url, "PUBLIC_URL": self.public_url, "SIMULATOR_URL": self.simulator_url}
        for name, url in addresses.items():
            if url is not None and not _is_http_url(url):
                raise ValueError(f"{name}: an address such as https://pay.example, without a query or fragment")
        if self.redis_url is not None and not self.redis_url.startswith(_REDIS_SCHEMES):
            raise ValueError("REDIS_URL: an address such as redis://127.0.0.1:6379/0, rediss:, unix: or valkey:")
        if not is_loopback(self.simulator_url):
            raise ValueError("SIMULATOR_URL: the simulator is reached on this machine only (127.0.0.1)")
        if self.public_url and not is_loopback(self.public_url):
            if not self.public_url.startswith("https://"):
                raise ValueError("PUBLIC_URL: Safaricom calls https only (http is for loopback and the simulator)")
            if word := forbidden_word(self.public_url):
                raise ValueError(f"PUBLIC_URL: Safaricom refuses addresses that contain the word {word}")
        if self.is_production and "simulator_url" in self.model_fields_set:
            raise ValueError("SIMULATOR_URL: there is no simulator when ENVIRONMENT is production")
        if self.is_production and self.reconcile_speed != 1:
            raise ValueError("RECONCILE_SPEED: there is no simulator when ENVIRONMENT is production")
        return self

    @property
    def is_production(self) -> bool:
        return self.environment is Deployment.PRODUCTION

    @property
    def reached_at(self) -> str:
        """What people and clients reach: BASE_URL, else the listening address."""
        return (self.base_url or f"http://127.0.0.1:{self.port}").rstrip("/")

    def approval_url(self, approval_id: str) -> str:
        """Where a person decides about an approval."""
        return f"{self.reached_at}/console/approvals/{approval_id}"

    @property
    def sqlite_path(self) -> Path | None:
        """The file of the embedded default; None when DATABASE_URL names a database."""
        return None if self.database_url else self.data_dir / "mpesa-mcp.db"

    @property
    def effective_database_url(self) -> str:
        return self.database_url or f"sqlite+aiosqlite:///{self.sqlite_path}"

    @property
    def owner_database_url(self) -> str:
        """The database as its owner reaches it: for migrations."""
        return self.database_owner_url or self.effective_database_url


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings from the environment. Raises SettingsError that names each variable that is wrong."""
    source = os.environ if environ is None else environ
    given = {name: value for name, value in source.items() if name.startswith(PREFIX)}
    known = {PREFIX + field.upper(): field for field in Settings.model_fields}
    if unknown := sorted(set(given) - set(known)):
        raise SettingsError(f"Unknown setting: {', '.join(unknown)}. The settings are listed in docs/settings.md.")
    # An empty variable means "not set", as it does for most programs that read their environment.
    values = {known[name]: value for name, value in given.items() if value != ""}
    try:
        return Settings.model_validate(values)
    except ValidationError as invalid:
        raise SettingsError("Bad setting: " + "; ".join(_sentence(error) for error in invalid.errors())) from None


def _sentence(error: Mapping[str, object]) -> str:
    location = error["loc"]
    assert isinstance(location, tuple)
    name = PREFIX + str(location[0]).upper() if location else PREFIX
    reason = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {reason}" if location else f"{name}{reason}"


# What Safaricom refuses anywhere in a callback address (daraja/security.md §3).
FORBIDDEN_WORDS = ("m-pesa", "mpesa", "safaricom", "exec", "exe", "cmd", "sql", "query")


def forbidden_word(url: str) -> str | None:
    """The first word in `url` that Safaricom refuses in callback addresses, if any."""
    return next((word for word in FORBIDDEN_WORDS if word in url.lower()), None)


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_private(url: str) -> bool:
    """Whether the address lies inside: loopback, or a private or link-local address that Safaricom cannot reach."""
    host = urlsplit(url).hostname or ""
    if is_loopback(url):
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
