"""Reads the simulator's ledger: every movement that really happened there. The simulator stands in for a statement."""

import asyncio
from collections.abc import Set
from typing import Annotated, Literal

import httpx2
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictInt, TypeAdapter, ValidationError

from mpesa_mcp.daraja.transport import create_http_client
from mpesa_mcp.errors import ProviderError
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.movements import Direction, Movement, Nature, Source
from mpesa_mcp.values.money import CENTS_PER_SHILLING

# The simulator keeps 100,000 movements of about 300 bytes.
_MAX_BYTES = 64 << 20
_DEADLINE_SECONDS = 60


class LedgerUnavailable(ProviderError):
    """The simulator does not answer, or not with a ledger. Nothing was compared or changed."""

    code = "ledger_unavailable"


class _Entry(BaseModel):
    """A movement as the simulator tells it; the amount in whole shillings."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["stk", "b2c", "reversal"]
    shortcode: str
    party: str
    amount: Annotated[StrictInt, Field(gt=0, le=10_000_000_000)]
    receipt: str
    originator_conversation_id: str | None
    checkout_request_id: str | None
    at: AwareDatetime


_ENTRIES = TypeAdapter(list[_Entry])


async def read_ledger(core: Core, shortcodes: Set[str]) -> Source:
    """The movements of these shortcodes, oldest first. Raises LedgerUnavailable."""
    # Before it is asked: what moves while the answer travels is not in it.
    read_at = core.clock.now()
    body = await _fetch(core.settings.simulator_url.rstrip("/") + "/_sim/ledger")
    try:
        entries = _ENTRIES.validate_json(body)
    except ValidationError:
        raise LedgerUnavailable("What answers at SIMULATOR_URL is not the simulator of this version.") from None
    movements = (_movement(entry) for entry in entries if entry.shortcode in shortcodes)
    return Source(movements=movements, is_ledger=True, read_at=read_at)


async def _fetch(url: str) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(_DEADLINE_SECONDS), create_http_client() as http, http.stream("GET", url) as answer:
            answer.raise_for_status()
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _MAX_BYTES:
                    raise LedgerUnavailable("The simulator's ledger is larger than any simulator keeps.")
    except (httpx2.HTTPError, httpx2.StreamError, TimeoutError):
        raise LedgerUnavailable(
            "The simulator does not answer at SIMULATOR_URL. Start it with mpesa-mcp simulator, or name a file with "
            "--statement."
        ) from None
    return bytes(body)


def _movement(entry: _Entry) -> Movement:
    return Movement(
        nature=Nature.MOVEMENT,
        theirs="completed",
        receipt=entry.receipt,
        direction=Direction.IN if entry.kind == "stk" else Direction.OUT,
        cents=entry.amount * CENTS_PER_SHILLING,
        at=entry.at,
        parties=(entry.party,) if entry.party else (),
        shortcode=entry.shortcode,
        checkout_request_id=entry.checkout_request_id,
        originator_conversation_id=entry.originator_conversation_id,
    )
