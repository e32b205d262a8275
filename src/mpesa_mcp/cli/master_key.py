"""`mpesa-mcp master-key`: wrapping all keys with another master key while everything goes on running."""

from typing import TYPE_CHECKING

import typer

from mpesa_mcp.cli.output import Document, JsonOption, emit, operator, run, say

if TYPE_CHECKING:
    from mpesa_mcp.credentials.rotation import Rotation
    from mpesa_mcp.payments.core import Core

commands = typer.Typer(no_args_is_help=True, help="The master key, which seals all other keys.")


@commands.callback()
def _group() -> None:
    """Keeps `master-key rotate` two words while there is one command."""


@commands.command()
def rotate(as_json: JsonOption = False) -> None:
    """Wrap all keys with the master key that is set, which the previous one has wrapped until now.

    Both must be set, here and for every running process: see docs/keys.md. May be stopped anywhere and run again.
    """

    async def act(core: "Core") -> "Rotation":
        from mpesa_mcp.credentials.rotation import rotate_master_key

        return await rotate_master_key(core.store, core.keyring, core.clock, actor=operator())

    done = run(act)
    emit(_document(done), as_json=as_json)
    if done.after.unopened:
        say(f"{done.after.unopened} keys open with neither master key: what they seal must be set again.")
    elif done.after.previous:
        say(f"{done.after.previous} keys were made meanwhile under the previous master key. Run this again.")
    elif done.platform_keys or done.data_keys:
        say("Nothing needs the previous master key any more: remove it, and restart each process when convenient.")
    else:
        say("Everything was wrapped with this master key already. How to change it: docs/keys.md")
    if done.after.unopened or done.after.previous:
        raise typer.Exit(1)


def _document(done: "Rotation") -> Document:
    return {
        "rewrapped_platform_keys": done.platform_keys,
        "rewrapped_data_keys": done.data_keys,
        "under_newest": done.after.newest,
        "under_previous": done.after.previous,
        "unopened": done.after.unopened,
    }
