"""Failures on order: what the next calls of an operation get instead of, or after, being carried out."""

from collections import deque
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import anyio
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, StrictInt, model_validator

from mpesa_mcp.simulator.wire import DROPPED, Answer

MAX_FAULTS = 1000

OperationName = Literal["oauth", "stk_push", "stk_query", "b2c", "balance", "transaction_status", "reversal"]


class Fault(BaseModel):
    """What `POST /_sim/faults` takes. Without `after` the call is not carried out, unless there is only a delay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: OperationName
    status: Annotated[StrictInt, Field(ge=200, le=599)] | None = None
    body: dict[str, JsonValue] | str | None = None
    drop: StrictBool = False
    delay_ms: Annotated[StrictInt, Field(ge=0, le=600_000)] | None = None
    count: Annotated[StrictInt, Field(ge=1, le=10_000)] = 1
    after: StrictBool = False

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.drop and (self.status is not None or self.body is not None):
            raise ValueError("a dropped connection has neither status nor body")
        if self.body is not None and self.status in {204, 304}:
            raise ValueError("an answer with this status has no body")
        if self.answer is None and self.delay_ms is None:
            raise ValueError("a fault needs at least one of status, body, drop, delay_ms")
        return self

    @property
    def answer(self) -> Answer | None:
        """None when the fault only delays."""
        if self.drop:
            return DROPPED
        if self.status is None and self.body is None:
            return None
        status = self.status or 200
        if isinstance(self.body, str):
            return Answer(status, self.body, "text/html" if self.body.lstrip().startswith("<") else "text/plain")
        return Answer(status, "", "text/plain") if self.body is None else Answer(status, self.body)

    async def delay(self) -> None:
        if self.delay_ms:
            await anyio.sleep(self.delay_ms / 1000)


class TooManyFaults(Exception):
    """More than 1000 are waiting."""


class Faults:
    """Waiting faults; those of one operation apply in the order in which they were ordered."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Fault, int]] = deque()

    def order(self, fault: Fault) -> None:
        """Raises TooManyFaults."""
        if len(self._waiting) >= MAX_FAULTS:
            raise TooManyFaults
        self._waiting.append((fault, fault.count))

    def take(self, operation: str) -> Fault | None:
        """The fault of this call, counted off."""
        for index, (fault, left) in enumerate(self._waiting):
            if fault.operation == operation:
                if left > 1:
                    self._waiting[index] = (fault, left - 1)
                else:
                    del self._waiting[index]
                return fault
        return None

    def as_json(self) -> list[Mapping[str, object]]:
        return [
            fault.model_dump(exclude_none=True, exclude={"count"}) | {"count": left} for fault, left in self._waiting
        ]
