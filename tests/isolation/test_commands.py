"""Every command of an operator who names one organization, given what belongs to another one."""

import inspect
import json
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import Any, get_args

import anyio
import pytest
import typer
from typer.testing import CliRunner

from mpesa_mcp.app.local import LocalPlatform
from mpesa_mcp.cli.main import app
from mpesa_mcp.payments.states import PaymentStatus

from .factories import Theirs, a_payment, make_key, make_organization, marks_in, own_payment, rows_of, scrubbed, unlike

pytestmark = pytest.mark.anyio

SECRETS = json.dumps({"consumer_key": "simulator-key", "consumer_secret": "simulator-secret"})
DAYS = ("--from", "2026-01-01", "--to", "2026-12-31")
SIMULATOR = ("--environment", "simulator")
# Parameters that name nothing that is stored: free text, names of tools, statuses, files of the operator's own.
NAMES_NOTHING = {
    "org rename": {"name"},
    "org freeze": {"reason"},
    "org suspend": {"reason"},
    "key create": {"name", "tools"},
    "credentials set": {"file"},
    "credentials default": {"uses"},
    "payment list": {"status"},
    "approval list": {"status"},
    "payment resolve": {"reason"},
    "payment withdraw": {"reason"},
    "reconcile": {"from_date", "to_date", "statement"},
    # A key is an organization's own word.
    "batch create": {"file", "name", "key", "expected_total"},
    "batch result": {"output"},
    "audit list": {"actor", "action", "from_date", "to_date"},
    "audit export": {"from_date", "to_date"},
    "subscription set": {"plan"},
    # An address signs in to one organization of an installation, and its operator is told.
    "org invite": {"email"},
    "user create": {"email"},
    "usage": {"month"},
    "rule set": {"allowed_recipients", "denied_recipients", "hours", "days", "clear"},
}


@dataclass(frozen=True)
class Probe:
    """What a command is asked for a value that names something of Theirs; `what` says which of them."""

    parameter: str
    what: tuple[str, ...]
    words: Callable[[LocalPlatform, str], Awaitable[tuple[str, ...]]]
    typed: str = ""


def plainly(*words: str) -> Callable[[LocalPlatform, str], Awaitable[tuple[str, ...]]]:
    """These words, with VALUE replaced."""

    async def made(_platform: LocalPlatform, value: str) -> tuple[str, ...]:
        return tuple(value if word == "VALUE" else word for word in words)

    return made


async def a_payment_of_ours_with_their_receipt(platform: LocalPlatform, value: str) -> tuple[str, ...]:
    payment = await own_payment(platform, PaymentStatus.UNKNOWN)
    return (payment.id, "--as", "succeeded", "--reason", "The portal says so", "--receipt", value)


async def a_rule_of_their_key(_platform: LocalPlatform, value: str) -> tuple[str, ...]:
    return ("--scope", f"key:{value}", "--per-day", "1")


async def a_rule_of_their_key_less(_platform: LocalPlatform, value: str) -> tuple[str, ...]:
    return ("--scope", f"key:{value}")


PAYMENTS = tuple(f"a payment that is {status}" for status in ("succeeded", "queued", "unknown", "disputed"))
AS_FAILED = ("--as", "failed", "--reason", "The portal says so")
PROBES: dict[str, list[Probe]] = {
    "org show": [],
    "org set": [],
    **{f"org {act}": [] for act in ("rename", "invite", "suspend", "activate", "freeze", "unfreeze", "close")},
    "org invitations": [],
    "org uninvite": [Probe("invitation", ("an invitation", "an invited address"), plainly("VALUE"))],
    "user create": [],
    "user list": [],
    "user update": [Probe("user", ("a user", "an address"), plainly("VALUE", "--role", "manager"))],
    "user deactivate": [Probe("user", ("a user", "an address"), plainly("VALUE"))],
    "support list": [],
    "key create": [],
    "key list": [],
    "key rotate": [Probe("key_id", ("a key's id", "a key's prefix"), plainly("VALUE"))],
    "key revoke": [Probe("key_id", ("a key's id", "a key's prefix"), plainly("VALUE"))],
    "credentials set": [
        Probe(
            "shortcode",
            ("a shortcode",),
            plainly(*SIMULATOR, "--shortcode", "VALUE", "--type", "paybill", "--file", "-"),
            SECRETS,
        )
    ],
    "credentials show": [Probe("shortcode", ("a shortcode",), plainly("--shortcode", "VALUE"))],
    "credentials default": [
        Probe("shortcode", ("a shortcode",), plainly(*SIMULATOR, "--for", "b2c", "--shortcode", "VALUE"))
    ],
    "credentials check": [Probe("shortcode", ("a shortcode",), plainly("--shortcode", "VALUE"))],
    "credentials remove": [Probe("shortcode", ("a shortcode",), plainly(*SIMULATOR, "--shortcode", "VALUE"))],
    "payment list": [],
    "payment show": [Probe("payment_id", (*PAYMENTS, "a receipt"), plainly("VALUE"))],
    "payment review": [],
    "payment resolve": [
        Probe("payment_id", (*PAYMENTS, "a receipt"), plainly("VALUE", *AS_FAILED)),
        Probe("receipt", ("a receipt", "a receipt that was only claimed"), a_payment_of_ours_with_their_receipt),
    ],
    "payment withdraw": [Probe("payment_id", PAYMENTS, plainly("VALUE", "--reason", "Not wanted any more"))],
    "approval list": [],
    "batch create": [],
    "batch list": [],
    **{
        f"batch {act}": [Probe("batch_id", ("a batch",), plainly("VALUE"))]
        for act in ("show", "result", "pause", "resume", "cancel", "retry")
    },
    "audit list": [
        Probe("subject", (*PAYMENTS, "a key's id", "the organization"), plainly("--subject", "VALUE")),
        Probe("cursor", ("an audit entry",), plainly("--cursor", "VALUE")),
    ],
    "audit verify": [],
    "audit export": [],
    "subscription show": [],
    "subscription set": [],
    "limit set": [],
    "usage": [],
    "rule list": [],
    "rule set": [Probe("scope", ("a key's id",), a_rule_of_their_key)],
    "rule remove": [Probe("scope", ("a key's id",), a_rule_of_their_key_less)],
    "rule proposals": [],
    "reconcile": [Probe("shortcode", ("a shortcode",), plainly(*DAYS, "--shortcode", "VALUE"))],
}
# What an operator may list of an organization without naming anything in it.
LISTS = (
    ("org", "show"),
    ("org", "invitations"),
    ("user", "list"),
    ("support", "list"),
    ("key", "list"),
    ("credentials", "show"),
    ("payment", "list"),
    ("payment", "review"),
    ("approval", "list"),
    ("user", "list"),
    ("batch", "list"),
    ("audit", "list"),
    ("audit", "verify"),
    ("audit", "export"),
    ("subscription", "show"),
    ("usage",),
    ("rule", "list"),
    ("rule", "proposals"),
    ("reconcile", *DAYS),
)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    # The commands send logs to the stderr of their run, which is closed by then.
    logging.getLogger().handlers[:] = before[0]
    logging.getLogger().setLevel(before[1])


@pytest.fixture
def variables(platform: LocalPlatform) -> dict[str, str]:
    """The environment of a command on the platform's installation."""
    settings = platform.core.settings
    given = {
        "DATA_DIR": str(settings.data_dir),
        "SIMULATOR_URL": settings.simulator_url,
        "DATABASE_URL": settings.database_url or "",
        "DATABASE_OWNER_URL": settings.database_owner_url or "",
    }
    inherited = {name: "" for name in os.environ if name.startswith("MPESA_MCP_")}
    return inherited | {f"MPESA_MCP_{name}": value for name, value in given.items()}


async def run(variables: dict[str, str], *words: str, typed: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command, beside the platform's own loop."""
    result = await anyio.to_thread.run_sync(lambda: CliRunner().invoke(app, words, input=typed, env=variables))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def commands_of_an_organization() -> dict[str, set[str]]:
    """Every command that takes --org, and its other parameters that are neither a number nor a choice."""
    return {
        command: {name for name, kind in parameters.items() if not _is_number_or_choice(kind)} - {"org"}
        for command, parameters in _commands(app)
        if "org" in parameters
    }


def _commands(tree: typer.Typer, *above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in tree.registered_commands:
        assert each.callback is not None
        signature = inspect.signature(each.callback).parameters.values()
        kinds = {parameter.name: get_args(parameter.annotation)[0] for parameter in signature}
        yield " ".join((*above, each.name or each.callback.__name__)), kinds
    for group in tree.registered_groups:
        assert group.typer_instance is not None
        yield from _commands(group.typer_instance, *above, *([group.name] if group.name else []))


def _is_number_or_choice(kind: Any) -> bool:
    return all(issubclass(each, int | Enum | NoneType) for each in get_args(kind) or (kind,))


async def test_every_command_and_parameter_is_known() -> None:
    """A command or a parameter that is added fails here, until it is probed or said to name nothing."""
    covered = {
        command: {probe.parameter for probe in probes} | NAMES_NOTHING.get(command, set())
        for command, probes in PROBES.items()
    }
    assert commands_of_an_organization() == covered


@pytest.mark.parametrize("command", [command for command, probes in PROBES.items() if probes])
async def test_a_command_given_what_is_theirs_answers_as_for_nothing(
    platform: LocalPlatform, theirs: Theirs, variables: dict[str, str], command: str
) -> None:
    before = await rows_of(platform.core, theirs.organization.organization_id)
    for probe in PROBES[command]:
        for what in probe.what:
            said = []
            for value in (theirs.named[what], unlike(theirs.named[what])):
                words = await probe.words(platform, value)
                code, out, err = await run(
                    variables, *command.split(), "--org", "demo", *words, "--json", typed=probe.typed
                )
                assert not marks_in(out + err, theirs, value), (command, what)
                said.append((code, scrubbed(out, value), scrubbed(err, value)))
            assert said[0] == said[1], (command, what)
    assert await rows_of(platform.core, theirs.organization.organization_id) == before


async def test_lists_of_ours_hold_nothing_of_theirs(
    platform: LocalPlatform, theirs: Theirs, variables: dict[str, str]
) -> None:
    ours = await make_organization(platform.core, "listing")
    await make_key(platform.core, ours.organization_id)
    async with platform.core.store.session(ours.organization_id) as session:
        session.add(a_payment(platform.core, ours.organization_id, PaymentStatus.DISPUTED, receipt="OWN7Z8CJ88"))
    for words in LISTS:
        for form in ((), ("--json",)):
            _, out, err = await run(variables, *words, "--org", "listing", *form)
            assert out, err
            assert not marks_in(out + err, theirs), words
