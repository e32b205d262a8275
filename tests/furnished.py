"""An installation as most tests of payments begin: an organization with one shortcode. Made once, and copied."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mpesa_mcp.app.core import open_core
from mpesa_mcp.identity.organizations import create_organization
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import FrozenClock
from tests.shortcodes import give_shortcode


@dataclass(frozen=True)
class Furnished:
    """What is in `data_dir` is all there is of it on SQLite; on PostgreSQL it is the master key."""

    organization_id: str
    data_dir: Path

    def copy_to(self, data_dir: Path) -> None:
        for file in self.data_dir.iterdir():
            shutil.copy(file, data_dir)  # with its mode


def begins_at() -> FrozenClock:
    """When tests begin."""
    return FrozenClock(datetime(2026, 11, 16, 8, 30, tzinfo=UTC))


async def furnish(settings: Settings) -> str:
    """Makes it; the id of the organization."""
    async with open_core(settings, clock=begins_at()) as core:
        made = await create_organization(core.store, core.clock, name="Acme", slug="acme", actor="operator:tester")
        await give_shortcode(core, made.organization_id)
    return made.organization_id
