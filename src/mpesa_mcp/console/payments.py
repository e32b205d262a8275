"""Payments: the list with its filters, and one payment with everything that happened to it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import urlencode

from starlette.responses import Response
from starlette.routing import Route

from mpesa_mcp.console.callers import who_asked, who_decided
from mpesa_mcp.console.rendering import going_to, rendered, unchanged
from mpesa_mcp.console.visits import Visit, page, path_of_ours
from mpesa_mcp.credentials.records import shortcodes_of
from mpesa_mcp.errors import InputError, MpesaMcpError
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.approval_reading import approval_about
from mpesa_mcp.payments.desk import resolve_payment, withdraw_payment
from mpesa_mcp.payments.reading import history_of, list_payments, payment_of
from mpesa_mcp.payments.records import PaymentRecord
from mpesa_mcp.payments.requests import PageAsked, PaymentFilter
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import Environment, Msisdn, Role

_ON_A_PAGE: Final = 25
_LIST: Final = "/console/payments"
Word = TypeVar("Word", bound=StrEnum)


@page(Role.USER)
async def payments(visit: Visit) -> Response:
    """The list, newest first. A filter that cannot be read is said, and lists nothing."""
    asked = visit.query
    found: Sequence[PaymentRecord] = ()
    older, problem = None, None
    try:
        read = await list_payments(
            visit.core,
            _reader(visit, _one_of(Environment, asked.get("environment"))),
            from_date=_day(asked.get("from"), "The first day"),
            to_date=_day(asked.get("to"), "The last day"),
            narrowed=PaymentFilter(
                kind=_one_of(PaymentKind, asked.get("kind")),
                status=_one_of(PaymentStatus, asked.get("status")),
                reference=asked.get("reference"),
                phone=Msisdn.parse(asked["phone"]) if "phone" in asked else None,
            ),
            page=PageAsked(limit=_ON_A_PAGE, cursor=asked.get("cursor")),
        )
        found = read.payments
        if read.next_cursor:
            older = "?" + urlencode({**asked, "cursor": read.next_cursor})
    except InputError as refused:
        problem = refused
    return rendered(
        "payments.html",
        visit=visit,
        status=problem.http_status if problem else 200,
        payments=found,
        older=older,
        problem=problem,
        asked=asked,
        environments=await _environments(visit),
    )


@page(Role.USER)
async def payment(visit: Visit) -> Response:
    """One payment. While it is under way the page asks again and again; what it has seen already is not sent again."""
    return await _shown(visit)


async def _shown(visit: Visit, refused: MpesaMcpError | None = None) -> Response:
    found = await _found(visit)
    history = await history_of(visit.core, visit.organization_id, found.payment_id)
    version = f"{found.updated_at.timestamp():.6f}-{len(history)}"
    if visit.query.get("seen") == version:
        return unchanged()
    return rendered(
        "payment.html",
        visit=visit,
        status=refused.http_status if refused else 200,
        payment=found,
        history=list(zip(history, await who_decided(visit, found.payment_id, history), strict=True)),
        written=visit.form,
        back=_list_before(visit),
        version=version,
        asked=await who_asked(visit, found.created_by, found.payment_id),
        approval=await approval_about(visit.core, visit.organization_id, found.payment_id),
        refused=refused,
    )


@page(Role.MANAGER, again=_shown)
async def withdraw(visit: Visit) -> Response:
    """Takes back a payment that is still queued."""
    found = await _found(visit)
    await withdraw_payment(
        visit.core,
        visit.organization_id,
        found.payment_id,
        reason=visit.form.get("reason", ""),
        actor=visit.principal.actor,
    )
    return going_to(f"/console/payments/{found.payment_id}")


@page(Role.MANAGER, again=_shown)
async def resolve(visit: Visit) -> Response:
    """Settles an unknown or disputed payment as a person found it."""
    found = await _found(visit)
    outcome = visit.form.get("outcome")
    if outcome not in {"succeeded", "failed"}:
        raise InputError("Say whether it succeeded or failed.", field="outcome")
    await resolve_payment(
        visit.core,
        visit.organization_id,
        found.payment_id,
        succeeded=outcome == "succeeded",
        reason=visit.form.get("reason", ""),
        receipt=visit.form.get("receipt", "").strip().upper() or None,
        actor=visit.principal.actor,
    )
    return going_to(f"/console/payments/{found.payment_id}")


ROUTES: Final = (
    Route("/payments", payments),
    Route("/payments/{payment_id}", payment),
    Route("/payments/{payment_id}/withdraw", withdraw, methods=["POST"]),
    Route("/payments/{payment_id}/resolve", resolve, methods=["POST"]),
)


def _list_before(visit: Visit) -> str:
    """The list that led here, with its filters."""
    shown = "/" + visit.request.headers.get("referer", "").partition("://")[2].partition("/")[2]
    return path_of_ours(shown) if shown.startswith(f"{_LIST}?") else _LIST


async def _found(visit: Visit) -> PaymentRecord:
    return await payment_of(visit.core, visit.organization_id, visit.request.path_params["payment_id"])


def _reader(visit: Visit, environment: Environment | None) -> Principal:
    return replace(visit.principal, environment=environment or visit.principal.environment)


async def _environments(visit: Visit) -> Sequence[Environment]:
    """Where this organization can have payments, if that is more than one place."""
    async with visit.core.store.reading(visit.organization_id) as session:
        there = {each.environment for each in await shortcodes_of(session)} | {visit.principal.environment}
    return [each for each in Environment if each in there] if len(there) > 1 else []


def _one_of(words: type[Word], text: str | None) -> Word | None:
    """One of a closed list, as the page's own menus send it."""
    if text is None:
        return None
    try:
        return words(text)
    except ValueError:
        raise InputError("The filters have a word that the menus do not offer.") from None


def _day(text: str | None, what: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{what} must be a day such as 2026-11-26.") from None
