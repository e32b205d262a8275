"""The machine: its directories, settings and files."""

import os

import anyio

from mpesa_mcp.billing.rates import RateLimiter
from mpesa_mcp.cli.doctor.findings import Finding, Shortcodes, Status
from mpesa_mcp.daraja.credential import certificate_sha256, load_certificate
from mpesa_mcp.errors import InputError
from mpesa_mcp.settings import Settings, is_private
from mpesa_mcp.store.keyring import load_master_key
from mpesa_mcp.values import Environment

# Safaricom refuses them in production (daraja/security.md §3).
_TESTERS = ("ngrok", "mockbin", "requestbin")


def data_dir(settings: Settings) -> Finding:
    path = settings.data_dir
    try:
        there = path.exists()
        usable = not there or (path.is_dir() and os.access(path, os.R_OK | os.W_OK | os.X_OK))
    except OSError:
        usable = False
    if not usable:
        fix = "Make it a directory of the user that runs mpesa-mcp, or set MPESA_MCP_DATA_DIR to one."
        return Finding("data_dir", Status.PROBLEM, "DATA_DIR cannot be used.", fix)
    return Finding("data_dir", Status.OK, "DATA_DIR is usable." if there else "DATA_DIR will be made when needed.")


def will_make_key(settings: Settings) -> bool:
    """Whether the first start makes the master key: in development, where none is given and none was made."""
    return _makes_key(settings) and not (settings.data_dir / "master.key").exists()


def _makes_key(settings: Settings) -> bool:
    return settings.master_key is None and settings.master_key_file is None and not settings.is_production


def master_key(settings: Settings) -> Finding:
    if will_make_key(settings):
        return Finding("master_key", Status.OK, "The master key will be made at the first start.")
    try:
        load_master_key(settings)
    except InputError as missing:
        return Finding("master_key", Status.PROBLEM, "There is no usable master key.", missing.message)
    if _makes_key(settings):
        return Finding("master_key", Status.OK, "The master key is in DATA_DIR. Keep a copy apart from the database.")
    return Finding("master_key", Status.OK, "The master key is set.")


async def rate_limits(settings: Settings) -> Finding:
    name = "rate_limits"
    if settings.redis_url is None:
        return Finding(name, Status.OK, "Each process counts rate limits in its own memory.")
    try:
        limiter = RateLimiter(settings.redis_url)
        reachable = await limiter.is_reachable()
        await limiter.close()
    except InputError as missing:
        return Finding(name, Status.PROBLEM, "Rate limits cannot be counted together.", missing.message)
    if reachable:
        return Finding(name, Status.OK, "The store behind REDIS_URL counts rate limits for all processes.")
    fix = "Start the Redis or Valkey server, or correct MPESA_MCP_REDIS_URL; unset it if there is one process only."
    return Finding(name, Status.PROBLEM, "The store behind REDIS_URL does not answer: no money is paid out.", fix)


def public_url(settings: Settings, shortcodes: Shortcodes) -> Finding:
    """Only the shape is judged: whether Safaricom gets through is seen with the first callback.

    With a word that Safaricom refuses the settings cannot be read at all.
    """
    name = "public_url"
    if not shortcodes.environments - {Environment.SIMULATOR}:
        return Finding(name, Status.OK, "PUBLIC_URL is not needed without sandbox or production credentials.")
    fix = "Set MPESA_MCP_PUBLIC_URL to the https address under which Safaricom reaches /cb."
    if settings.public_url is None:
        return Finding(name, Status.PROBLEM, "PUBLIC_URL is not set, so Safaricom cannot deliver callbacks.", fix)
    if is_private(settings.public_url):
        return Finding(name, Status.PROBLEM, "PUBLIC_URL is an address that Safaricom cannot reach.", fix)
    if Environment.PRODUCTION in shortcodes.environments and any(each in settings.public_url for each in _TESTERS):
        return Finding(name, Status.WARNING, "PUBLIC_URL is of a service that Safaricom refuses in production.", fix)
    return Finding(name, Status.OK, "PUBLIC_URL is an address that Safaricom accepts.")


async def certificate(settings: Settings, shortcodes: Shortcodes) -> Finding:
    name = "daraja_certificate"
    fix = "Download the production certificate from the Daraja portal; set MPESA_MCP_DARAJA_CERTIFICATE to its file."
    if settings.daraja_certificate is None:
        if shortcodes.production_initiator:
            return Finding(name, Status.PROBLEM, "A production initiator is set, and its certificate is not.", fix)
        return Finding(name, Status.OK, "DARAJA_CERTIFICATE is not needed without a production initiator.")
    try:
        content = await anyio.Path(settings.daraja_certificate).read_bytes()
        load_certificate(content)
    except OSError:
        return Finding(name, Status.PROBLEM, "The DARAJA_CERTIFICATE file cannot be read.", fix)
    except InputError as unreadable:
        return Finding(name, Status.PROBLEM, unreadable.message, fix)
    return Finding(name, Status.OK, f"DARAJA_CERTIFICATE has SHA-256 {certificate_sha256(content)}.")
