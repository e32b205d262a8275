"""Shortcodes of an organization: set, list, remove; and, from the modules beside this one, choose and open.

Setting a shortcode replaces all its secrets in one commit: there is never half of an old pair with half of a new one.
Whoever administers the organization may change them; a super_admin may not, since they decide where money moves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import delete
from sqlmodel import col, select

from mpesa_mcp import audit
from mpesa_mcp.credentials.check import require_good_keys
from mpesa_mcp.credentials.choice import (
    ShortcodeUnavailable,
    choose_shortcode,
    default_environment,
    require_shortcode,
)
from mpesa_mcp.credentials.data_keys import OpenDataKey, newest_data_key
from mpesa_mcp.credentials.given import GivenShortcode, check_given
from mpesa_mcp.credentials.models import DataKey, Shortcode, ShortcodeDefault, ShortcodeSecret
from mpesa_mcp.credentials.opening import CHANGED, OpenShortcode, SecretMark, app_of, mark_secrets, open_shortcode
from mpesa_mcp.credentials.records import ShortcodeRecord, shortcodes_of
from mpesa_mcp.credentials.uses import ShortcodeNeed, ShortcodeUse
from mpesa_mcp.credentials.vault import SecretField, seal_secret
from mpesa_mcp.daraja.client import DarajaClient
from mpesa_mcp.errors import InputError, NotFoundError
from mpesa_mcp.identity.organizations import changeable
from mpesa_mcp.identity.principal import Actor, NotAllowed
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Clock, Environment, Role, Secret, new_id

__all__ = [
    "GivenShortcode",
    "OpenShortcode",
    "SecretMark",
    "ShortcodeNeed",
    "ShortcodeRecord",
    "ShortcodeUnavailable",
    "ShortcodeUse",
    "choose_defaults",
    "choose_shortcode",
    "default_environment",
    "destroy_credentials",
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
    given: GivenShortcode,
    *,
    organization_id: str,
    actor: Actor,
    daraja: DarajaClient | None = None,
) -> ShortcodeRecord:
    """Sets a shortcode and all its secrets; what it had before is gone.

    With `daraja` the keys are tried first, and refused keys change nothing; without it the audit says that nobody did.
    Raises InputError, NotAllowed, NotFoundError, OrganizationClosed, KeysNotAccepted, KeysNotChecked.
    """
    _require_admin(actor)
    warnings = check_given(settings, given)
    if daraja is not None:
        keys = given.secrets[SecretField.CONSUMER_KEY], given.secrets[SecretField.CONSUMER_SECRET]
        await require_good_keys(daraja, app_of(settings, given.environment, *keys))
    # Before the session below: it may write, and writers take turns.
    wrapping = await keyring.wrapping_key()
    async with store.session(organization_id) as session:
        await changeable(session)  # two who change its credentials take turns
        row = await _row_for(session, clock, given)
        row.type, row.till, row.updated_at, row.updated_by = given.type, given.till, clock.now(), actor.name
        session.add(row)
        data_key = await newest_data_key(session, keyring, wrapping, clock)
        await _replace_secrets(session, data_key, clock, shortcode_id=row.id, secrets=given.secrets, actor=actor.name)
        session.wake(CHANGED)
        audit.record(
            session,
            clock,
            actor=actor.name,
            action="credentials.set",
            subject=row.id,
            detail={
                "environment": given.environment,
                "shortcode": given.shortcode,
                "secrets": sorted(given.secrets),
                "checked": daraja is not None,
            },
        )
        [record] = await shortcodes_of(session, environment=given.environment, shortcode=given.shortcode)
        return replace(record, warnings=warnings)


async def list_shortcodes(
    store: Store, organization_id: str, *, environment: Environment | None = None, shortcode: str | None = None
) -> Sequence[ShortcodeRecord]:
    """The organization's shortcodes, oldest first, narrowed where asked."""
    async with store.reading(organization_id) as session:
        return await shortcodes_of(session, environment=environment, shortcode=shortcode)


async def choose_defaults(
    store: Store,
    clock: Clock,
    *,
    organization_id: str,
    environment: Environment,
    uses: frozenset[ShortcodeUse],
    shortcode: str | None,
    actor: Actor,
) -> Sequence[ShortcodeRecord]:
    """Makes a shortcode the default for these uses in its environment, or, with None, none; gives all of them there.

    Raises InputError for a shortcode without the secrets needed, NotAllowed, NotFoundError,
    OrganizationClosed.
    """
    _require_admin(actor)
    async with store.session(organization_id) as session:
        await changeable(session)  # two who change its credentials take turns
        there = await shortcodes_of(session, environment=environment)
        chosen = next((record for record in there if record.shortcode == shortcode), None)
        if shortcode is not None and chosen is None:
            raise NotFoundError("shortcode")
        for use in sorted(uses):
            if chosen is not None and not chosen.secrets >= use.need.fields:
                raise InputError(f"The shortcode has no {use.need.words}, which {use} needs.", field="shortcode")
        before = {use.value: record.shortcode for record in there for use in record.default_for & uses}
        await session.change(
            delete(ShortcodeDefault).where(
                col(ShortcodeDefault.environment) == environment, col(ShortcodeDefault.use).in_(uses)
            )
        )
        if chosen is not None:
            session.add(
                *(
                    ShortcodeDefault(
                        organization_id=organization_id,
                        environment=environment,
                        use=use,
                        shortcode_id=chosen.shortcode_id,
                        set_at=clock.now(),
                        set_by=actor.name,
                    )
                    for use in uses
                )
            )
        audit.record(
            session,
            clock,
            actor=actor.name,
            action="credentials.default_changed",
            subject=chosen.shortcode_id if chosen else organization_id,
            detail={"environment": environment},
            before=before,
            after={use.value: shortcode for use in uses},
        )
        return await shortcodes_of(session, environment=environment)


async def remove_shortcode(
    store: Store, clock: Clock, *, organization_id: str, environment: Environment, shortcode: str, actor: Actor
) -> ShortcodeRecord:
    """Removes a shortcode and all its secrets; returns what it was. Raises NotAllowed, NotFoundError."""
    _require_admin(actor)
    async with store.session(organization_id) as session:
        found = await shortcodes_of(session, environment=environment, shortcode=shortcode)
        if not found:
            raise NotFoundError("shortcode")
        removed = found[0]
        # Its secrets, and what it is the default for, follow by their foreign keys.
        await session.change(delete(Shortcode).where(col(Shortcode.id) == removed.shortcode_id))
        session.wake(CHANGED)
        audit.record(
            session,
            clock,
            actor=actor.name,
            action="credentials.removed",
            subject=removed.shortcode_id,
            detail={"environment": environment, "shortcode": shortcode},
        )
        return removed


async def destroy_credentials(session: OrganizationSession, clock: Clock, *, actor: str) -> None:
    """Destroys all secrets of the organization and the keys that sealed them, in the caller's transaction.

    For closing it. The numbers of its shortcodes stay: payments and statements name them.
    """
    there = await shortcodes_of(session)
    for table in (ShortcodeSecret, ShortcodeDefault, DataKey):
        await session.change(delete(table))
    session.wake(CHANGED)
    audit.record(
        session,
        clock,
        actor=actor,
        action="credentials.destroyed",
        subject=session.organization_id,
        detail={"shortcodes": [f"{each.environment} {each.shortcode}" for each in there if each.secrets]},
    )


def _require_admin(actor: Actor) -> None:
    if not actor.may_grant(Role.ORG_ADMIN):
        raise NotAllowed


async def _row_for(session: OrganizationSession, clock: Clock, given: GivenShortcode) -> Shortcode:
    """The row of this shortcode, or a new one. Its id stays the same when its secrets are replaced."""
    row = await session.first(
        select(Shortcode).where(
            col(Shortcode.environment) == given.environment, col(Shortcode.shortcode) == given.shortcode
        )
    )
    if row is not None:
        return row
    return Shortcode(
        organization_id=session.organization_id,
        id=new_id("sc"),
        environment=given.environment,
        shortcode=given.shortcode,
        type="",
        till=None,
        created_at=clock.now(),
        updated_at=clock.now(),
        updated_by="",
    )


async def _replace_secrets(
    session: OrganizationSession,
    data_key: OpenDataKey,
    clock: Clock,
    *,
    shortcode_id: str,
    secrets: Mapping[SecretField, Secret],
    actor: str,
) -> None:
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
