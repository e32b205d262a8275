"""Daraja: whether it answers, takes each organization's keys, and whether calls to it are paused."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import anyio
import httpx2

from mpesa_mcp.cli.doctor.findings import Finding, Place, Shortcodes, Status
from mpesa_mcp.credentials.shortcodes import ShortcodeUnavailable, open_shortcode
from mpesa_mcp.daraja.circuits import CircuitState, outages
from mpesa_mcp.daraja.client import DarajaClient, DarajaUnreachable, KeysRefused, create_http_client
from mpesa_mcp.daraja.credential import Certificates
from mpesa_mcp.daraja.oauth import TOKEN_PATH
from mpesa_mcp.daraja.operations import HOSTS
from mpesa_mcp.daraja.tokens import AccessTokens
from mpesa_mcp.daraja.transport import Reply, exchange
from mpesa_mcp.daraja.trouble import Reason
from mpesa_mcp.errors import NotFoundError
from mpesa_mcp.settings import Settings
from mpesa_mcp.store.engine import Store
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Clock, Environment
from mpesa_mcp.values.sealing import SealBroken

_DEADLINE_SECONDS: Final = 8.0
_AT_ONCE: Final = 8


async def calls(
    store: Store, keyring: Keyring, settings: Settings, clock: Clock, shortcodes: Shortcodes
) -> Sequence[Finding]:
    """Asks each environment that is used for an answer, and then whether it takes the keys of each shortcode."""
    findings: list[Finding] = []
    async with create_http_client() as http:
        tokens = AccessTokens(store, keyring, clock)
        certificates = Certificates(production=None, http=http)
        client = DarajaClient(http, tokens, certificates, clock, deadline_seconds=_DEADLINE_SECONDS)
        limiter = anyio.CapacityLimiter(_AT_ONCE)

        async def try_keys(place: Place) -> None:
            async with limiter:
                findings.extend(await _keys_of(place, client, tokens, store, keyring, settings))

        for environment in sorted(shortcodes.environments):
            if settings.is_production and environment is Environment.SIMULATOR:
                continue
            answers = await _answers(http, HOSTS.get(environment, settings.simulator_url))
            findings.append(_reached(environment, answers))
            async with anyio.create_task_group() as tasks:
                for place in shortcodes.places:
                    if answers and place.environment is environment:
                        tasks.start_soon(try_keys, place)
    return findings


async def _answers(http: httpx2.AsyncClient, base_url: str) -> bool:
    """Whether anything answers there; without keys, so that any answer will do."""
    reply = await exchange(http, "GET", base_url + TOKEN_PATH, headers={}, deadline_seconds=_DEADLINE_SECONDS)
    return isinstance(reply, Reply)


def _reached(environment: Environment, answers: bool) -> Finding:
    name = f"daraja_reached_{environment}"
    if answers:
        return Finding(name, Status.OK, f"Daraja's {environment} answers.")
    said = f"Daraja's {environment} does not answer this machine. Payments wait in the queue."
    return Finding(name, Status.WARNING, said, _remedy(environment, Reason.NOT_CONNECTED))


async def _keys_of(
    place: Place,
    client: DarajaClient,
    tokens: AccessTokens,
    store: Store,
    keyring: Keyring,
    settings: Settings,
) -> Sequence[Finding]:
    """A token that is fresh proves the keys; else one is fetched, which everybody may then use."""
    name = f"credentials_{place.slug}"
    whose = f"{place.slug}'s {place.environment} shortcode {place.shortcode}"
    again = f"Run: mpesa-mcp credentials set {place.options} --type ... --check"
    try:
        opened = await open_shortcode(store, keyring, settings, place.organization_id, place.shortcode_id)
        await tokens.current(opened.app, lambda: client.fetch_token(opened.app))
    except (SealBroken, NotFoundError):
        return []  # told already, or removed meanwhile
    except KeysRefused:
        return [Finding(name, Status.PROBLEM, f"Daraja refuses the consumer key and secret of {whose}.", again)]
    except ShortcodeUnavailable as lacking:
        return [Finding(name, Status.PROBLEM, f"{whose}: {lacking.message}", again)]
    except DarajaUnreachable:
        fix = f"Run later: mpesa-mcp credentials check {place.options}"
        return [Finding(name, Status.WARNING, f"Daraja gave no usable answer about the keys of {whose}.", fix)]
    return []


async def pauses(store: Store, now: datetime) -> Sequence[Finding]:
    """Which environments' calls are paused, as the processes that make them have written down."""
    found = await outages(store, now)
    if not found:
        return [Finding("daraja", Status.OK, "No calls to Safaricom are paused.")]
    findings = []
    for environment in Environment:
        told = [outage for outage in found if outage.environment is environment]
        if not told:
            continue
        reasons = " and ".join(dict.fromkeys(outage.reason.words for outage in told))
        name = "The simulator" if environment is Environment.SIMULATOR else "Safaricom"
        seconds = max(0, round((told[0].retry_at - now).total_seconds()))
        again = f"in {seconds} s" if told[0].state is CircuitState.OPEN else "with the next payment"
        findings.append(
            Finding(
                f"daraja_{environment}",
                Status.WARNING,
                f"{name} {reasons}. Payments wait in the queue and are not lost; it is tried again {again}.",
                _remedy(environment, told[0].reason),
            )
        )
    return findings


def _remedy(environment: Environment, reason: Reason) -> str:
    if environment is Environment.SIMULATOR:
        return "Start: mpesa-mcp simulator (or remove the faults that were ordered there)."
    match reason:
        case Reason.RATE_LIMITED | Reason.QUOTA_USED_UP:
            return "Wait, or lower MPESA_MCP_DARAJA_CALLS_PER_SECOND; ask Safaricom for a higher limit."
        case Reason.NOT_CONNECTED:
            return "Check this machine's network, DNS and firewall; otherwise wait."
        case Reason.WEB_PAGE:
            return "Ask Safaricom whether this machine's address may reach Daraja, and whether the app is live."
        case Reason.NO_ANSWER | Reason.SERVER_ERROR:
            return "Wait; if it lasts, ask Safaricom about an outage or maintenance."
