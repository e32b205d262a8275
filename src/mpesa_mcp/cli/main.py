"""The command tree and its entry point."""

import os
import sys
from typing import Annotated

import typer

from mpesa_mcp import __version__
from mpesa_mcp.cli import (
    approvals,
    audit,
    batches,
    billing,
    credentials,
    database,
    demo,
    doctor,
    invite,
    keys,
    master_key,
    organizations,
    payments,
    reconcile,
    rules,
    serving,
    support,
    users,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


app = typer.Typer(
    name="mpesa-mcp",
    help="Lets AI assistants operate M-PESA for many organizations. Start with: mpesa-mcp demo",
    no_args_is_help=True,
    # A traceback with local variables would print secrets.
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("demo")(demo.demo)
app.command("serve")(serving.serve)
app.command("stdio")(serving.stdio)
app.command("callbacks")(serving.callbacks)
app.command("worker")(serving.worker)
app.command("simulator")(serving.simulator)
app.add_typer(organizations.commands, name="org")
organizations.commands.command("invite")(invite.invite)
organizations.commands.command("invitations")(invite.invitations)
organizations.commands.command("uninvite")(invite.uninvite)
app.add_typer(users.commands, name="user")
app.add_typer(keys.commands, name="key")
app.add_typer(credentials.commands, name="credentials")
app.add_typer(payments.commands, name="payment")
app.add_typer(approvals.commands, name="approval")
app.add_typer(batches.commands, name="batch")
app.command("reconcile")(reconcile.reconcile)
app.add_typer(audit.commands, name="audit")
app.add_typer(billing.plans, name="plan")
app.add_typer(billing.subscriptions, name="subscription")
app.add_typer(billing.limits, name="limit")
app.add_typer(rules.commands, name="rule")
app.add_typer(support.commands, name="support")
app.command("usage")(billing.usage)
app.add_typer(master_key.commands, name="master-key")
app.add_typer(database.commands, name="db")
app.add_typer(doctor.commands)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Lets AI assistants operate M-PESA for many organizations. Start with: mpesa-mcp demo"""


def main() -> None:
    try:
        app()
    except* BrokenPipeError:
        # Whoever read our output has seen enough (`... | head`); nothing more can be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
