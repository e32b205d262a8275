"""Sealing one secret of one shortcode. Pure: no database, no settings, no clock.

A sealed value opens only for the organization, shortcode, field and key version it was sealed for: a row copied to
another organization, or from one field to another, does not open (it raises SealBroken).
"""

from enum import StrEnum

from mpesa_mcp.values import Secret
from mpesa_mcp.values.sealing import SealingKey


class SecretField(StrEnum):
    """The secrets a shortcode may have (daraja/api.md §0, "Credentials"). The words are part of the seal."""

    CONSUMER_KEY = "consumer_key"
    CONSUMER_SECRET = "consumer_secret"  # noqa: S105 - the name of a field
    PASSKEY = "passkey"
    INITIATOR_NAME = "initiator_name"
    INITIATOR_PASSWORD = "initiator_password"  # noqa: S105 - the name of a field


def seal_secret(
    data_key: SealingKey,
    value: str,
    *,
    organization_id: str,
    shortcode_id: str,
    field: SecretField,
    key_version: int,
) -> bytes:
    return data_key.seal(value.encode(), organization_id, shortcode_id, field, str(key_version))


def open_secret(
    data_key: SealingKey,
    sealed: bytes,
    *,
    organization_id: str,
    shortcode_id: str,
    field: SecretField,
    key_version: int,
) -> Secret:
    """Raises SealBroken."""
    return Secret(data_key.open(sealed, organization_id, shortcode_id, field, str(key_version)).decode())
