"""What an operator gives for a shortcode, read and judged before anything is stored.

Messages name the field and what is accepted, never what was given: it may be a secret in the wrong place.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.errors import InputError
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import Environment, Secret, ShortcodeType

_SHORTCODE = re.compile(r"[0-9]{5,7}")
# RSA with 2048 bits takes 245 bytes of password (daraja/security.md §1); everything else is shorter than this.
_MAX_SECRET = 200
# Safaricom advises against these in initiator passwords (daraja/api.md §0, "Credentials").
_AVOIDED = frozenset("@.()")


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenShortcode:
    """A shortcode with all its secrets. `shortcode` is the store number of a till, `till` what its customers see."""

    environment: Environment
    shortcode: str
    type: ShortcodeType
    secrets: Mapping[SecretField, Secret]
    till: str | None = None


@dataclass(frozen=True, slots=True)
class GivenSecrets:
    """The content of a credentials document. An empty or null field counts as not given."""

    secrets: Mapping[SecretField, Secret]
    till: str | None


def read_document(text: str) -> GivenSecrets:
    """Reads JSON {consumer_key, consumer_secret, passkey?, initiator_name?, initiator_password?, till?}.

    Raises InputError.
    """
    allowed = [*SecretField, "till"]
    try:
        document = json.loads(text, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as unreadable:
        where = f"line {unreadable.lineno}, column {unreadable.colno}"
        raise InputError(f"The credentials are not readable JSON: look at {where}.") from None
    except (ValueError, RecursionError):
        raise InputError(f"The credentials must be one JSON object with {', '.join(allowed)}.") from None
    if not isinstance(document, dict) or not set(document) <= set(allowed):
        raise InputError(f"The credentials must be one JSON object; the names in it may be {', '.join(allowed)}.")
    for name, value in document.items():
        if value is not None and not isinstance(value, str):
            raise InputError(f"{name} must be a text in quotes.", field=name)
    given = {name: value for name, value in document.items() if value}
    secrets = {field: Secret(given[field]) for field in SecretField if field in given}
    return GivenSecrets(secrets, given.get("till"))


def check_given(settings: Settings, given: GivenShortcode) -> tuple[str, ...]:
    """Warnings about what is acceptable and yet likely to hurt. Raises InputError."""
    environment, secrets = given.environment, given.secrets
    if environment is Environment.SIMULATOR and settings.is_production:
        raise InputError("There are no simulator shortcodes when ENVIRONMENT is production.", field="environment")
    _check_numbers(given.shortcode, given.type, given.till)
    for field, secret in secrets.items():
        _check_text(field, secret.reveal())
    for needed in (SecretField.CONSUMER_KEY, SecretField.CONSUMER_SECRET):
        if needed not in secrets:
            raise InputError(f"{needed} is required.", field=needed)
    if ":" in secrets[SecretField.CONSUMER_KEY].reveal():
        raise InputError("consumer_key cannot contain a colon.", field=SecretField.CONSUMER_KEY)
    initiator = {SecretField.INITIATOR_NAME, SecretField.INITIATOR_PASSWORD} & set(secrets)
    if len(initiator) == 1:
        raise InputError(
            "initiator_name and initiator_password are given together, or neither.", field="initiator_name"
        )
    if initiator and environment is Environment.PRODUCTION and settings.daraja_certificate is None:
        raise InputError(
            "A production initiator needs Safaricom's production certificate: download it from the Daraja portal and "
            "set MPESA_MCP_DARAJA_CERTIFICATE to its file.",
            field="initiator_password",
        )
    return _warnings(secrets.get(SecretField.INITIATOR_PASSWORD))


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name stands there twice")
    return document


def _check_numbers(shortcode: str, kind: ShortcodeType, till: str | None) -> None:
    if not _SHORTCODE.fullmatch(shortcode):
        raise InputError("shortcode must be 5 to 7 digits (for a till: its store number).", field="shortcode")
    match kind:
        case ShortcodeType.TILL if till is None:
            raise InputError("A till needs its till number as till; shortcode is the store number.", field="till")
        case ShortcodeType.PAYBILL if till is not None:
            raise InputError("till is for shortcodes of type till only.", field="till")
        case _:
            pass
    if till is not None and not _SHORTCODE.fullmatch(till):
        raise InputError("till must be 5 to 7 digits.", field="till")


def _check_text(field: SecretField, value: str) -> None:
    if not 1 <= len(value) <= _MAX_SECRET or not value.isascii() or not value.isprintable() or value != value.strip():
        raise InputError(
            f"{field} must be 1 to {_MAX_SECRET} plain characters without spaces at its ends.", field=field
        )


def _warnings(password: Secret | None) -> tuple[str, ...]:
    if password is None or not _AVOIDED & set(password.reveal()):
        return ()
    return (
        "The initiator password contains one of @ . ( ), which Safaricom advises against: if payouts fail with code "
        "2001, change the password on the M-PESA organization portal first.",
    )
