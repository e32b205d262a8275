"""The command tree and its entry point."""

import typer

from mpesa_mcp.cli import credentials, database, demo, doctor, keys, organizations, payments, serving

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
app.add_typer(keys.commands, name="key")
app.add_typer(credentials.commands, name="credentials")
app.add_typer(payments.commands, name="payment")
app.add_typer(database.commands, name="db")
app.add_typer(doctor.commands)


def main() -> None:
    app()
