"""Submission: all rows are checked, then all are stored and one batch stands for them, or nothing is. Nothing is sent.

The checks that need only the rows come first, with no transaction open; the rest, and the rows, are one transaction
that has the organization alone, so that of two files with the same payment in them the second finds the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

import anyio
import anyio.to_thread
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from mpesa_mcp import audit
from mpesa_mcp.billing.terms import agreement_of
from mpesa_mcp.credentials.shortcodes import ShortcodeUse, choose_shortcode
from mpesa_mcp.daraja.operations import Purpose
from mpesa_mcp.errors import Advice, DeniedError, InputError, InternalFault
from mpesa_mcp.identity.principal import NotAllowed, Principal
from mpesa_mcp.payments.batches.held import hold_for_approval
from mpesa_mcp.payments.batches.judging import Judgement, judge, take
from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.batches.problems import BatchInvalid
from mpesa_mcp.payments.batches.reading import BatchRecord, batch_record, totals_of
from mpesa_mcp.payments.batches.repeats import repeats_among
from mpesa_mcp.payments.batches.rows import (
    MOST_ROWS,
    BatchDigest,
    Checked,
    GivenRow,
    as_given,
    asked_sha256,
    check_rows,
    given_cents,
    totals_problems,
)
from mpesa_mcp.payments.batches.states import BatchStage, RowState
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.intake import IdempotencyConflict, TooManyAtOnce
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.requests import check_key, check_text, tidied
from mpesa_mcp.payments.standing import require_may_open
from mpesa_mcp.payments.states import PaymentKind
from mpesa_mcp.policy.rules import Outcome
from mpesa_mcp.policy.scopes import scopes_of
from mpesa_mcp.store.crossings import DueTable
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Kes, Role, new_id

# Rows that one statement stores.
_AT_ONCE = 1_000
_LONGEST_PROBLEM = 300
_TRIES = 5


class BatchTooLarge(DeniedError):
    """More rows than the organization's plan or rules allow in one batch."""

    code = "batch_too_large"
    advice = Advice.FIX_INPUT

    def __init__(self, most: int, given: int) -> None:
        super().__init__(
            f"These are {given:,} payments, and a batch of this organization has at most {most:,}. "
            "Nothing was stored or sent; make several."
        )


class SubmittedBefore(IdempotencyConflict):
    """The key belongs to a batch that was asked for otherwise. `otherwise` says how, in words of ours alone."""

    def __init__(self, batch: Batch, fields: list[str], *, environment: str) -> None:
        self.batch_id = batch.id
        told = {
            "purpose": f"purpose {batch.purpose}",
            "environment": f"environment {batch.environment}",
            "skip_invalid": f"skip_invalid {str(batch.skip_invalid).lower()}",
            "payments": "other payments",
        }
        self.otherwise = ", ".join(told.get(each, f"another {each}") for each in fields)
        # A batch of another environment is not found, and not named either.
        which = batch.id if batch.environment == environment else "another batch"
        message = (
            f"This idempotency_key was used for {which}, with {self.otherwise}. Nothing was stored or sent. Use the "
            "same values to read that batch, or a new key for a new batch."
        )
        super().__init__(fields, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """Pay every row. `expected_count` and `expected_total` are what the caller believes the rows to be.

    Making one looks at all rows: what `rows_sha256` is of, for the idempotency key.
    """

    tool: ClassVar = "bulk_payment"
    least_role: ClassVar = Role.MANAGER

    name: str
    rows: Sequence[GivenRow]
    idempotency_key: str
    purpose: Purpose = Purpose.BUSINESS
    expected_total: Kes | None = None
    expected_count: int | None = None
    skip_invalid: bool = False
    rows_sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", tidied(self.name))
        check_text("name", self.name, 2, 80)
        check_key(self.idempotency_key)
        if not 1 <= len(self.rows) <= MOST_ROWS:
            raise InputError(f"A batch has 1 to {MOST_ROWS:,} payments.", field="payments")
        object.__setattr__(self, "rows_sha256", asked_sha256(self.rows))


@dataclass(frozen=True, slots=True)
class OpenedBatch:
    """The batch, and whether it was there already for this same request."""

    batch: BatchRecord
    replayed: bool


# Ten thousand rows hold SQLite's one writer for a moment, and everybody else, callbacks too, comes before the next ten
# thousand. Few wait, for each holds its rows in memory.
_STORING = anyio.Lock()
_MOST_WAITING = 4


class _Raced(Exception):
    """Somebody spent, or changed a rule, in between; look again."""


async def submit_batch(core: Core, principal: Principal, request: BatchRequest) -> OpenedBatch:
    """Checks and stores a batch, to be paid by the worker; or finds it, for a request that was made before.

    Raises NotAllowed, BatchInvalid, BatchTooLarge, NotSubscribed, IdempotencyConflict, TooManyAtOnce,
    ShortcodeUnavailable, CallbacksUnreachable, and what `standing.require_may_open` raises; then nothing was stored.
    """
    if not principal.may_use(request.tool, request.least_role):
        raise NotAllowed
    async with core.store.reading(principal.organization_id) as session:
        if stored := await _same(session, principal, request):
            return OpenedBatch(stored, replayed=True)
    if _STORING.statistics().tasks_waiting >= _MOST_WAITING:
        raise TooManyAtOnce
    # Ten thousand rows take a second of work: not on the loop that serves everybody.
    checked = await anyio.to_thread.run_sync(check_rows, request.rows)
    scopes = scopes_of(actor=principal.actor, role=principal.role, tool=request.tool)
    organization_id, environment = principal.organization_id, principal.environment
    clash: IntegrityError | None = None
    for _ in range(_TRIES):
        async with _STORING:
            now = core.clock.now()
            rows = checked.rows
            judgement = await judge(core, organization_id, rows, environment=environment, scopes=scopes, at=now)
            try:
                async with core.store.session(organization_id) as session:
                    await session.hold_organization(alone=True)
                    return await _submit(core, session, principal, request, checked, judgement, now)
            except _Raced:
                clash = None
            except IntegrityError as same_key:
                clash = same_key
    if clash is not None:  # as in intake
        raise InternalFault("The batch could not be stored; nothing was sent. Try again later.") from clash
    raise TooManyAtOnce


async def _submit(
    core: Core,
    session: OrganizationSession,
    principal: Principal,
    request: BatchRequest,
    checked: Checked,
    judgement: Judgement,
    now: datetime,
) -> OpenedBatch:
    if stored := await _same(session, principal, request):
        return OpenedBatch(stored, replayed=True)
    await require_may_open(session, PaymentKind.B2C)
    agreement = await agreement_of(session)
    agreement.require(request.tool, now)
    if not await judgement.still_holds(session):
        raise _Raced
    for most in (agreement.plan.largest_batch, judgement.largest_batch):
        if most is not None and len(request.rows) > most:
            raise BatchTooLarge(most, len(request.rows))
    checked = checked.without(
        [*judgement.problems, *await repeats_among(session, checked.rows, principal.environment, now)]
    )
    _require_payable(request, checked)
    core.require_callbacks(principal.environment)
    shortcode = await choose_shortcode(session, environment=principal.environment, use=ShortcodeUse.B2C)
    decision = judgement.approval(Kes(checked.payable_cents), now)
    is_held = decision.outcome is Outcome.NEEDS_APPROVAL
    batch = Batch(
        organization_id=session.organization_id,
        id=new_id("bat"),
        status=BatchStage.AWAITING_APPROVAL if is_held else BatchStage.RUNNING,
        name=request.name,
        environment=principal.environment,
        shortcode_id=shortcode.shortcode_id,
        shortcode=shortcode.shortcode,
        purpose=request.purpose,
        idempotency_key=request.idempotency_key,
        skip_invalid=request.skip_invalid,
        rows_sha256=request.rows_sha256,
        digest="",
        row_count=len(checked.rows),
        amount_cents=checked.payable_cents,
        reserved_in=list(judgement.scopes),
        reason=decision.said,
        created_by=principal.actor,
        created_at=now,
        updated_at=now,
        counted_from=now,
        next_action_at=None if is_held else now,
    )
    batch.digest = _digest(batch, checked)
    session.add(batch)
    if is_held:
        hold_for_approval(session, core.clock, batch, decision)
    await session.flush()
    await _store_lines(session, batch, checked, request.rows)
    session.wake(DueTable.BATCHES)
    audit.record(
        session,
        core.clock,
        actor=principal.actor,
        action="batch.opened",
        subject=batch.id,
        detail={"payments": batch.row_count, "amount": str(Kes(batch.amount_cents)), "digest": batch.digest},
    )
    record = batch_record(batch, await totals_of(session, batch.id))
    if not await take(session, judgement, batch, now):
        raise _Raced
    return OpenedBatch(record, replayed=False)


def _require_payable(request: BatchRequest, checked: Checked) -> None:
    """Raises BatchInvalid when there is a problem that nobody asked to pass over."""
    cents = None if request.expected_total is None else request.expected_total.cents
    totals = totals_problems(checked, count=request.expected_count, cents=cents, skips=request.skip_invalid)
    if totals or not checked.rows or (checked.problems and not request.skip_invalid):
        raise BatchInvalid([*totals, *checked.problems], count=checked.count)


async def _same(session: OrganizationSession, principal: Principal, request: BatchRequest) -> BatchRecord | None:
    """The batch that was stored under this key. Raises IdempotencyConflict when it was another request."""
    stored = await session.first(select(Batch).where(Batch.idempotency_key == request.idempotency_key))
    if stored is None:
        of_payment = select(Payment.id).where(Payment.idempotency_key == request.idempotency_key)
        if await session.first(of_payment) is not None:
            raise IdempotencyConflict(["kind"])
        return None
    asked: dict[str, Any] = {
        "name": request.name,
        "purpose": request.purpose,
        "environment": principal.environment,
        "skip_invalid": request.skip_invalid,
        "rows_sha256": request.rows_sha256,
    }
    differing = [column for column, value in asked.items() if getattr(stored, column) != value]
    if not differing:
        differing = _unexpected(stored, request)
    if differing:
        fields = ["payments" if column == "rows_sha256" else column for column in differing]
        raise SubmittedBefore(stored, fields, environment=principal.environment)
    return batch_record(stored, await totals_of(session, stored.id))


def _unexpected(stored: Batch, request: BatchRequest) -> list[str]:
    """What the caller believes the rows of the stored batch to be, and they are not."""
    count, total = request.expected_count, request.expected_total
    found = []
    if count not in {None, stored.row_count, len(request.rows)}:
        found.append("expected_count")
    if total is not None and total.cents != stored.amount_cents and total.cents != given_cents(request.rows):
        found.append("expected_total")
    return found


async def _store_lines(session: OrganizationSession, batch: Batch, checked: Checked, given: Sequence[GivenRow]) -> None:
    lines = [
        _line(
            batch,
            row.line,
            state=RowState.WAITING,
            phone=row.phone.digits,
            amount_cents=row.amount.cents,
            reference=row.reference,
            remarks=row.remarks,
        )
        for row in checked.rows
    ]
    problems: dict[int, list[str]] = {}
    for problem in checked.problems:
        assert problem.line is not None  # what is about all rows stops the batch
        problems.setdefault(problem.line, []).append(problem.message)
    lines += [
        _line(
            batch,
            row.line,
            state=RowState.REJECTED,
            problem=" ".join(problems[row.line])[:_LONGEST_PROBLEM],
            given=as_given(row),
        )
        for row in given
        if row.line in problems
    ]
    for start in range(0, len(lines), _AT_ONCE):
        await session.insert_many(BatchLine, lines[start : start + _AT_ONCE])


def _line(batch: Batch, line: int, **values: object) -> dict[str, object]:
    return {
        "batch_id": batch.id,
        "line": line,
        "phone": "",
        "amount_cents": 0,
        "reference": "",
        "remarks": "",
        "problem": None,
        "given": None,
        "payment_id": None,
        "tries": 0,
        "asked_at": batch.created_at,
        **values,
    }


def _digest(batch: Batch, checked: Checked) -> str:
    digest = BatchDigest(
        batch_id=batch.id, environment=batch.environment, shortcode=batch.shortcode, purpose=batch.purpose
    )
    for row in checked.rows:
        digest.add(
            line=row.line,
            phone=row.phone.digits,
            cents=row.amount.cents,
            reference=row.reference,
            remarks=row.remarks,
        )
    return digest.hexdigest()
