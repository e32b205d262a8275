"""Shortcodes of an organization: set, list, remove; and, from the modules beside this one, choose and open.

Setting a shortcode replaces all its secrets in one commit: there is never half of an old pair with half of a new one.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.credentials.choice import (
    ShortcodeNeed,
    ShortcodeUnavailable,
    choose_shortcode,
    default_environment,
    require_shortcode,
)
from mpesa_mcp.credentials.data_keys import newest_data_key
from mpesa_mcp.credentials.given import check_given
from mpesa_mcp.credentials.models import Shortcode, ShortcodeSecret
from mpesa_mcp.credentials.opening import OpenShortcode, SecretMark, mark_secrets, open_shortcode
from mpesa_mcp.credentials.records import ShortcodeRecord, record_of, shortcodes_of
from mpesa_mcp.credentials.vault import SecretField, seal_secret
from mpesa_mcp.errors import Advice, ConflictError, NotFoundError
from mpesa_mcp.identity.organizations import get_organization
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Environment, Secret, ShortcodeType, new_id

__all__ = [
    "OpenShortcode",
    "SecretMark",
    "ShortcodeNeed",
    "ShortcodeRecord",
    "ShortcodeUnavailable",
    "choose_shortcode",
    "default_environment",
    "list_shortcodes",
    "mark_secrets",
    "open_shortcode",
    "remove_shortcode",
    "require_shortcode",
    "set_shortcode",
    "shortcodes_of",
]


async def set_shortcode(
    store: Store,
    keyring: Keyring,
    clock: Clock,
    settings: Settings,
    *,
    organization_id: str,
    environment: Environment,
    shortcode: str,
    type: ShortcodeType,  # noqa: A002 - the contract's word
    secrets: Mapping[SecretField, Secret],
    till: str | None,
    actor: str,
) -> ShortcodeRecord:
    """Sets a shortcode and all its secrets; what it had before is gone. Raises InputError, NotFoundError."""
    warnings = check_given(
        settings, environment=environment, shortcode=shortcode, type=type, till=till, secrets=secrets
    )
    async with store.session(organization_id) as session:
        await get_organization(session)
        row = await _row_for(session, clock, environment=environment, shortcode=shortcode)
        row.type, row.till, row.updated_at, row.updated_by = type, till, clock.now(), actor
        session.add(row)
        try:
            await session.flush()
        except IntegrityError as raced:
            raise ConflictError(
                "Somebody else set this shortcode at the same moment. Look at it, then set it again if needed.",
                advice=Advice.WAIT,
            ) from raced
        await _replace_secrets(session, keyring, clock, shortcode_id=row.id, secrets=secrets, actor=actor)
        audit.record(
            session,
            clock,
            actor=actor,
            action="credentials.set",
            subject=row.id,
            detail={"environment": environment, "shortcode": shortcode, "secrets": sorted(secrets)},
        )
        return record_of(row, frozenset(secrets), warnings=warnings)


async def list_shortcodes(
    store: Store, organization_id: str, *, environment: Environment | None = None, shortcode: str | None = None
) -> Sequence[ShortcodeRecord]:
    """The organization's shortcodes, oldest first, narrowed where asked."""
    async with store.reading(organization_id) as session:
        return await shortcodes_of(session, environment=environment, shortcode=shortcode)


async def remove_shortcode(
    store: Store, clock: Clock, *, organization_id: str, environment: Environment, shortcode: str, actor: str
) -> ShortcodeRecord:
    """Removes a shortcode and all its secrets; returns what it was. Raises NotFoundError."""
    async with store.session(organization_id) as session:
        found = await shortcodes_of(session, environment=environment, shortcode=shortcode)
        if not found:
            raise NotFoundError("shortcode")
        removed = found[0]
        # Its secrets follow by the foreign key.
        await session.change(delete(Shortcode).where(col(Shortcode.id) == removed.shortcode_id))
        audit.record(
            session,
            clock,
            actor=actor,
            action="credentials.removed",
            subject=removed.shortcode_id,
            detail={"environment": environment, "shortcode": shortcode},
        )
        return removed


async def _row_for(
    session: OrganizationSession, clock: Clock, *, environment: Environment, shortcode: str
) -> Shortcode:
    """The row of this shortcode, or a new one. Its id stays the same when its secrets are replaced."""
    row = await session.first(
        select(Shortcode).where(col(Shortcode.environment) == environment, col(Shortcode.shortcode) == shortcode)
    )
    if row is not None:
        return row
    return Shortcode(
        organization_id=session.organization_id,
        id=new_id("sc"),
        environment=environment,
        shortcode=shortcode,
        type="",
        till=None,
        created_at=clock.now(),
        updated_at=clock.now(),
        updated_by="",
    )


async def _replace_secrets(
    session: OrganizationSession,
    keyring: Keyring,
    clock: Clock,
    *,
    shortcode_id: str,
    secrets: Mapping[SecretField, Secret],
    actor: str,
) -> None:
    data_key = await newest_data_key(session, keyring.master, clock)
    await session.change(delete(ShortcodeSecret).where(col(ShortcodeSecret.shortcode_id) == shortcode_id))
    session.add(
        *(
            ShortcodeSecret(
                organization_id=session.organization_id,
                shortcode_id=shortcode_id,
                field=field,
                sealed=seal_secret(
                    data_key.key,
                    secret.reveal(),
                    organization_id=session.organization_id,
                    shortcode_id=shortcode_id,
                    field=field,
                    key_version=data_key.version,
                ),
                key_version=data_key.version,
                set_at=clock.now(),
                set_by=actor,
            )
            for field, secret in secrets.items()
        )
    )
