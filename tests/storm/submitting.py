"""One of the processes that ask for payments: it asks for each order in its time, as tool calls do.

Two of them ask for the same, so that every request is made twice at about the same moment.
"""

import json
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import anyio

from mpesa_mcp.app.core import open_core
from mpesa_mcp.errors import MpesaMcpError
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.logs import configure_logs
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.reading import payment_of
from mpesa_mcp.payments.records import OpenedPayment
from mpesa_mcp.payments.requests import PaymentRequest
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.settings import load_settings
from mpesa_mcp.values import Environment, Role

from .orders import Order

Value = TypeVar("Value")
_AT_ONCE = 8
_TRIES = 5
_LOOK_SECONDS = 0.25
# What has not succeeded so long after the last order is not given back.
_PATIENCE_SECONDS = 6.0


async def submit(asked: Mapping[str, Any]) -> None:
    """Works through the orders of a plan and prints one line of JSON for each payment."""
    orders = [Order(**each | {"kind": PaymentKind(each["kind"])}) for each in asked["orders"]]
    configure_logs("WARNING")
    async with open_core(load_settings()) as core:
        submitting = _Submitting(core, asked["organizations"], asked["begins_at"], orders[-1].at + _PATIENCE_SECONDS)
        async with anyio.create_task_group() as tasks:
            for order in orders:
                tasks.start_soon(submitting.follow, order)


class _Submitting:
    def __init__(self, core: Core, organizations: dict[str, str], begins_at: float, until: float) -> None:
        self._core = core
        self._organizations = organizations
        self._begins_at = begins_at
        self._until = until
        self._free = anyio.Semaphore(_AT_ONCE)

    def _elapsed(self) -> float:
        return time.time() - self._begins_at

    async def follow(self, order: Order) -> None:
        await anyio.sleep(max(0, order.at - self._elapsed()))
        payment_id = await self._open(order, order.request())
        if not order.is_given_back:
            return
        organization_id = self._organizations[order.slug]
        while self._elapsed() < self._until:
            async with self._free:
                payment = await self._again(lambda: payment_of(self._core, organization_id, payment_id))
            if payment.status.moved and payment.receipt:
                await self._open(order, order.reversal(payment.receipt))
                return
            if payment.status.is_settled and not payment.status.moved:
                return
            await anyio.sleep(_LOOK_SECONDS)

    async def _open(self, order: Order, request: PaymentRequest) -> str:
        organization_id = self._organizations[order.slug]
        principal = Principal(organization_id, "key:storm", Role.MANAGER, Environment.SIMULATOR, None, "storm")

        async def once() -> OpenedPayment:
            return await open_payment(self._core, principal, request)

        async with self._free:
            opened = await self._again(once)
        answer = {
            "order": order.number,
            "kind": request.kind,
            "payment_id": opened.payment.payment_id,
            "replayed": opened.replayed,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        return opened.payment.payment_id

    async def _again(self, ask: Callable[[], Awaitable[Value]]) -> Value:
        """A client asks again when it is told that the database is away."""
        for _ in range(_TRIES - 1):
            try:
                return await ask()
            except MpesaMcpError as refused:
                if refused.code != "store_unavailable":
                    raise
                sys.stdout.write(json.dumps({"refused": refused.code}) + "\n")
        return await ask()
