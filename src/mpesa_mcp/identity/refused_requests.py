"""Refused requests of callers we know: one entry in the audit for each that would have changed something.

In the chain of the caller's own organization, which for a super_admin is the platform's. Reading leaves none, nor what
the rate limits refuse, nor a request of nobody: whoever floods us must not make us write. A sign-in or a password that
was wrong is recorded by `sessions`.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from mpesa_mcp import audit
from mpesa_mcp.errors import InternalFault, MpesaMcpError
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.store.engine import Store, StoreUnavailable
from mpesa_mcp.values import Clock

log = structlog.get_logger(__name__)

_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_NOT_HERE: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS})
# An id as we make them; whatever else stands in a path was typed by somebody and may be a secret.
_OURS: Final = re.compile(r"[a-z]{3}_[0-9a-z]{26}", re.ASCII)


async def record_refusal(
    store: Store,
    clock: Clock,
    principal: Principal,
    refused: MpesaMcpError,
    *,
    method: str,
    path: str,
    named: Mapping[str, object],
) -> None:
    """Adds the entry of a request that was answered with this error; `named` are the parts of the path that vary.

    The refusal stands when it cannot be written down.
    """
    if method in _READING or refused.http_status in _NOT_HERE or isinstance(refused, InternalFault):
        return
    ids = [each for each in map(str, named.values()) if _OURS.fullmatch(each)]
    try:
        async with store.session(principal.organization_id) as session:
            audit.record(
                session,
                clock,
                actor=principal.actor,
                action="request.refused",
                subject=ids[-1] if ids else principal.organization_id,
                decision="refused",
                reasons=refused.code,
                detail={"request": f"{method} {_template(path, named)}"},
            )
    except (StoreUnavailable, SQLAlchemyError):
        log.warning("refusal_not_recorded", organization_id=principal.organization_id, code=refused.code)


def _template(path: str, named: Mapping[str, object]) -> str:
    """The path with names in place of whatever was typed into it."""
    names = {str(value): name for name, value in named.items()}
    return "/".join(f"{{{names[part]}}}" if part in names else part for part in path.split("/"))
