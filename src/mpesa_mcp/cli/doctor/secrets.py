"""Secrets: whether the master key opens every key, whether credentials open and suffice, which API keys were seen."""

from collections.abc import Sequence
from datetime import datetime

from sqlmodel import select

from mpesa_mcp.cli.doctor.findings import Finding, Place, Shortcodes, Status
from mpesa_mcp.credentials.rotation import count_wrapped
from mpesa_mcp.credentials.shortcodes import (
    ShortcodeNeed,
    ShortcodeRecord,
    ShortcodeUse,
    list_shortcodes,
    mark_secrets,
)
from mpesa_mcp.identity.api_keys import list_keys
from mpesa_mcp.identity.models import OrganizationStatus
from mpesa_mcp.identity.organizations import OrganizationRecord, list_all
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring, PlatformKey
from mpesa_mcp.values import Environment
from mpesa_mcp.values.sealing import SealBroken


async def keys(store: Store, keyring: Keyring) -> Finding:
    """Opens every key that a master key wraps, so that a wrong one shows here and not at a payment."""
    name = "keys"
    wrapped = await count_wrapped(store, keyring)
    if wrapped.unopened:
        fix = "Set the master key they were sealed with, as MPESA_MCP_MASTER_KEY or in its file."
        return Finding(name, Status.PROBLEM, f"{wrapped.unopened} keys do not open with the master key.", fix)
    if wrapped.previous:
        said = f"{wrapped.previous} keys still need the previous master key."
        return Finding(name, Status.WARNING, said, "Run: mpesa-mcp master-key rotate")
    if keyring.keys.previous is not None:
        fix = "Remove MPESA_MCP_MASTER_KEY_PREVIOUS, or the second line of the key file."
        return Finding(name, Status.WARNING, "Nothing needs the previous master key any more.", fix)
    return Finding(name, Status.OK, f"The master key opens all {wrapped.newest} keys.")


async def lost_key(store: Store) -> Sequence[Finding]:
    """For an installation whose key file is not there: whether something was sealed with it already."""
    async with store.platform_reading() as session:
        sealed = (await session.execute(select(PlatformKey.name).limit(1))).first()
    if sealed is None:
        return []
    fix = "Put master.key back into DATA_DIR before anything starts: a new one opens nothing that is there."
    return [Finding("keys", Status.PROBLEM, "There are keys that a master key sealed, and its file is gone.", fix)]


async def credentials(store: Store, keyring: Keyring, settings: Settings) -> tuple[Shortcodes, Sequence[Finding]]:
    """Opens the secrets of every shortcode of every organization that is not closed."""
    findings: list[Finding] = []
    places: list[Place] = []
    payers: list[Place] = []
    for organization in await list_all(store):
        if organization.status is OrganizationStatus.CLOSED:
            continue
        records = await list_shortcodes(store, organization.organization_id)
        for record in records:
            place = Place(
                organization.organization_id,
                organization.slug,
                record.environment,
                record.shortcode,
                record.shortcode_id,
            )
            places.append(place)
            if record.secrets >= ShortcodeNeed.INITIATOR.fields:
                payers.append(place)
            findings += await _of_shortcode(store, keyring, settings, place)
        findings += _undecided(organization, records)
    shortcodes = Shortcodes(
        tuple(places), production_initiator=any(place.environment is Environment.PRODUCTION for place in payers)
    )
    return shortcodes, findings or [_summary(shortcodes)]


async def _of_shortcode(store: Store, keyring: Keyring, settings: Settings, place: Place) -> Sequence[Finding]:
    name = f"credentials_{place.slug}"
    if settings.is_production and place.environment is Environment.SIMULATOR:
        said = f"{place.slug}'s simulator shortcode {place.shortcode} is refused while ENVIRONMENT is production."
        return [Finding(name, Status.WARNING, said, f"Run: mpesa-mcp credentials remove {place.options}")]
    try:
        await mark_secrets(store, keyring, place.organization_id, place.shortcode_id)
    except SealBroken:
        said = f"Secrets of {place.slug}'s {place.environment} shortcode {place.shortcode} do not open."
        return [Finding(name, Status.PROBLEM, said, f"Run: mpesa-mcp credentials set {place.options} --type ...")]
    return []


def _undecided(organization: OrganizationRecord, records: Sequence[ShortcodeRecord]) -> Sequence[Finding]:
    """Uses for which several shortcodes of an environment fit, and none is the default: such payments are refused."""
    findings = []
    for environment in Environment:
        there = [record for record in records if record.environment is environment]
        undecided = [
            use.value
            for use in ShortcodeUse
            if sum(record.secrets >= use.need.fields for record in there) > 1
            and not any(use in record.default_for for record in there)
        ]
        if undecided:
            findings.append(
                Finding(
                    f"credentials_{organization.slug}",
                    Status.WARNING,
                    f"{organization.slug} has several {environment} shortcodes and no default for "
                    f"{', '.join(undecided)}: that is refused.",
                    f"Run: mpesa-mcp credentials default --org {organization.slug} --environment {environment} "
                    f"--for {','.join(undecided)} --shortcode N",
                )
            )
    return findings


def _summary(shortcodes: Shortcodes) -> Finding:
    if not shortcodes.places:
        return Finding(
            "credentials",
            Status.WARNING,
            "No organization has Daraja credentials yet.",
            "Run: mpesa-mcp credentials set --org ... --environment ... --shortcode ... --type ...",
        )
    named = ", ".join(environment for environment in Environment if environment in shortcodes.environments)
    return Finding("credentials", Status.OK, f"Credentials are present and can be opened: {named}.")


async def api_keys(store: Store, now: datetime) -> Sequence[Finding]:
    """Keys that stood where others can read them, and still work."""
    return [
        Finding(
            "api_key_exposed",
            Status.WARNING,
            f"Key {key.prefix} of {organization.slug} stood in an address or a log, where others can read it.",
            f"Run: mpesa-mcp key rotate --org {organization.slug} {key.key_id} --overlap-hours 1",
        )
        for organization in await list_all(store)
        for key in await list_keys(store, organization.organization_id)
        if key.should_be_rotated(now)
    ]
