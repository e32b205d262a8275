"""Compares our payments with what Safaricom's side shows. It reads only; nothing is changed, sent or asked.

A receipt decides wherever there is one, whatever the hour; what has none is paired by Daraja's ids, then by amount,
phone and time (`payments.pairing`). The period decides only what may be called missing. Lines are taken in as they
come: kept are the receipts seen and what is left over.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from mpesa_mcp.errors import InputError
from mpesa_mcp.payments import findings
from mpesa_mcp.payments.booked import (
    LONGEST_WAIT,
    Booked,
    booked_between,
    booked_by_daraja_ids,
    booked_by_receipt,
)
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.findings import Comparison, Finding, finding, what_to_do_about_status
from mpesa_mcp.payments.movements import Movement, Nature, Source
from mpesa_mcp.payments.pairing import EARLIEST, LATEST, pair_without_receipts
from mpesa_mcp.payments.scope import Scope
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import EAT

_CHUNK = 500
Progress = Callable[[int], None]


class PeriodNotCovered(InputError):
    """No line of the statement is of the period asked for. Nothing was changed."""

    code = "period_not_covered"


async def compare(
    core: Core, scope: Scope, source: Source, *, keep_all: bool, progress: Progress = lambda _: None
) -> Comparison:
    """The whole comparison. `keep_all` lists what matched and the charges, not only their counts.

    `progress` is told how many lines were read. Raises PeriodNotCovered, and what reading the source raises.
    """
    async with core.store.reading(scope.organization_id) as session:
        comparing = _Comparing(session, scope, source, keep_all)
        lines = iter(source.movements)
        read = 0
        while chunk := list(islice(lines, _CHUNK)):
            await comparing.take_in(chunk)
            read += len(chunk)
            progress(read)
        await comparing.look_at_not_completed()
        await comparing.pair_by_ids()
        await comparing.look_at_ours()
    comparing.tell_what_it_covers()
    return comparing.found


@dataclass(frozen=True, slots=True)
class _Taken:
    """What the first pass leaves for the later ones."""

    shown: set[str]
    loose: list[Movement]
    not_completed: dict[str, Movement]
    paired: set[str]


class _Comparing:
    def __init__(self, session: OrganizationSession, scope: Scope, source: Source, keep_all: bool) -> None:
        self._ours = session
        self._scope = scope
        self._source = source
        self._keep_all = keep_all
        self._taken = _Taken(set(), [], {}, set())
        self.found = Comparison()

    async def take_in(self, lines: Sequence[Movement]) -> None:
        """The first pass: what a receipt decides."""
        moved = [line for line in lines if line.nature is Nature.MOVEMENT]
        booked = await booked_by_receipt(self._ours, self._scope.environment, {movement.receipt for movement in moved})
        for line in lines:
            self._note_time(line.at)
            match line.nature:
                case Nature.CHARGE:
                    self._charge(line)
                case Nature.NOT_COMPLETED:
                    self.found.not_completed += 1
                    self._taken.not_completed[line.receipt] = line
                case Nature.MOVEMENT:
                    self._movement(line, booked.get(line.receipt))

    def _movement(self, movement: Movement, booked: Booked | None) -> None:
        in_period = self._scope.holds(movement.at)
        if in_period:
            self.found.theirs.add(movement.direction, movement.cents)
        if movement.receipt in self._taken.shown:
            if in_period:
                self.found.missing_here.append(self._finding(booked, movement, findings.REPEATED))
            return
        self._taken.shown.add(movement.receipt)
        if booked is not None:
            if self._concerns(booked, movement):
                self._judge(booked, movement)
        elif self._scope.start - EARLIEST <= movement.at < self._scope.end + LATEST:
            # A payment of the period may have completed just outside it.
            self._taken.loose.append(movement)

    def _judge(self, booked: Booked, movement: Movement) -> None:
        """A payment and the movement with its receipt."""
        if booked.direction is not movement.direction:
            self.found.amounts_differ.append(finding(booked, movement, findings.OTHER_DIRECTION))
        elif booked.cents != movement.cents:
            self.found.amounts_differ.append(finding(booked, movement, findings.OTHER_AMOUNT))
        elif not booked.status.moved:
            self._status_differs(booked, movement, is_sure=True)
        else:
            self.found.matched_count += 1
            if self._keep_all:
                self.found.matched.append(finding(booked, movement))

    def _status_differs(self, booked: Booked, movement: Movement, *, is_sure: bool) -> None:
        advice = what_to_do_about_status(
            self._scope.slug, booked, movement.receipt, source=self._source.name, is_sure=is_sure
        )
        self.found.statuses_differ.append(finding(booked, movement, advice))

    def _finding(self, booked: Booked | None, movement: Movement | None, what_to_do: str) -> Finding:
        return finding(booked, movement, what_to_do.format(source=self._source.name))

    def _charge(self, line: Movement) -> None:
        if self._scope.holds(line.at):
            self.found.charged.add(line.direction, line.cents)
            if self._keep_all:
                self.found.charges.append(finding(None, line))

    async def look_at_not_completed(self) -> None:
        """A line that failed there must not be a success here."""
        waiting = (line for line in self._taken.not_completed.values() if line.receipt not in self._taken.shown)
        while chunk := list(islice(waiting, _CHUNK)):
            booked = await booked_by_receipt(self._ours, self._scope.environment, {each.receipt for each in chunk})
            for line in chunk:
                ours = booked.get(line.receipt)
                if ours is None or not ours.status.moved:
                    continue
                self._taken.paired.add(ours.payment_id)
                if self._concerns(ours, line):
                    self.found.statuses_differ.append(finding(ours, line, findings.NOT_COMPLETED_THERE))

    async def pair_by_ids(self) -> None:
        """The ledger tells Daraja's ids, which are as good as a receipt."""
        left: list[Movement] = []
        for chunk in _chunks(self._taken.loose):
            booked = await booked_by_daraja_ids(self._ours, self._scope.environment, chunk)
            for movement in chunk:
                ours = booked.get(movement.receipt)
                if ours is None:
                    left.append(movement)
                elif not self._concerns(ours, movement):
                    continue
                elif ours.receipt is not None or ours.payment_id in self._taken.paired:
                    self.found.missing_here.append(finding(ours, movement, findings.SECOND_MOVEMENT))
                else:
                    self._taken.paired.add(ours.payment_id)
                    self._judge_without_receipt(ours, movement, is_sure=True)
        self._taken.loose[:] = left

    def _judge_without_receipt(self, booked: Booked, movement: Movement, *, is_sure: bool) -> None:
        if booked.cents != movement.cents or booked.direction is not movement.direction:
            self.found.amounts_differ.append(finding(booked, movement, findings.OTHER_AMOUNT))
        elif not booked.status.moved:
            self._status_differs(booked, movement, is_sure=is_sure)
        else:
            advice = findings.NO_RECEIPT_YET if is_sure else findings.ONE_OF_SEVERAL
            self.found.matched_without_receipt.append(self._finding(booked, movement, advice))
            if is_sure:
                self.found.adoptable[booked.payment_id] = movement.receipt

    async def look_at_ours(self) -> None:
        """The second pass: what has no receipt, and what no line told of."""
        without_receipt: list[Booked] = []
        first, last = self._scope.start - LONGEST_WAIT, self._scope.end + EARLIEST
        async for booked in booked_between(self._ours, self._scope.environment, first, last):
            if not self._scope.is_about(booked.shortcode):
                continue
            if booked.status.moved and self._scope.holds(booked.moves_at):
                self.found.ours.add(booked.direction, booked.cents)
            if booked.payment_id in self._taken.paired or booked.receipt in self._taken.shown:
                continue
            if booked.receipt is None and booked.may_have_moved and self._is_near(booked.moves_at):
                without_receipt.append(booked)
            elif self._scope.holds(booked.moves_at):
                self._not_there(booked)
        self._pair(without_receipt)

    def _pair(self, without_receipt: Sequence[Booked]) -> None:
        """What has no receipt beside what met no receipt; the rest of both is left over."""
        pairs = pair_without_receipts(self._taken.loose, without_receipt)
        for pair in pairs:
            if self._concerns(pair.booked, pair.movement):
                self._judge_without_receipt(pair.booked, pair.movement, is_sure=pair.is_sure)
        told = {pair.movement.receipt for pair in pairs}
        for movement in self._taken.loose:
            if movement.receipt not in told and self._scope.holds(movement.at):
                advice = findings.CAME_IN if movement.direction == "in" else findings.WENT_OUT
                self.found.missing_here.append(finding(None, movement, advice))
        paid = {pair.booked.payment_id for pair in pairs}
        for booked in without_receipt:
            if booked.payment_id not in paid and self._scope.holds(booked.moves_at):
                self._not_there(booked)

    def _concerns(self, booked: Booked, movement: Movement) -> bool:
        """Whether one of the two is of the period."""
        return self._scope.holds(movement.at) or self._scope.holds(booked.moves_at)

    def _is_near(self, at: datetime) -> bool:
        return self._scope.start - LATEST <= at < self._scope.end + EARLIEST

    def _not_there(self, booked: Booked) -> None:
        """A payment of the period that no line tells of."""
        if not booked.status.moved:
            self.found.undecided += not booked.status.is_final
        elif self._completed_later(booked):
            self.found.at_the_edge += 1
        else:
            self.found.missing_there.append(self._finding(booked, None, self._why_not_there(booked)))

    def _completed_later(self, booked: Booked) -> bool:
        """Whether its money can have moved after the end of what was compared: at midnight, or while we read."""
        if self._source.is_ledger:
            return booked.settled_at is None or booked.settled_at >= self._source.read_at
        end, last = self._scope.end, self.found.last_at
        settled_after = booked.settled_at is None or booked.settled_at >= end
        return settled_after and booked.moves_at >= end - LATEST and (last is None or last < end)

    def _why_not_there(self, booked: Booked) -> str:
        if self._source.is_ledger:
            return findings.NOT_IN_THE_LEDGER
        if self.found.first_at is None or self.found.last_at is None:
            return findings.NOT_THERE
        if booked.moves_at > self.found.last_at:
            return findings.AFTER_THE_LAST_LINE
        if booked.moves_at + LATEST < self.found.first_at:
            return findings.BEFORE_THE_FIRST_LINE
        return findings.NOT_THERE

    def _note_time(self, at: datetime) -> None:
        found = self.found
        found.first_at = at if found.first_at is None else min(found.first_at, at)
        found.last_at = at if found.last_at is None else max(found.last_at, at)

    def tell_what_it_covers(self) -> None:
        """Notes about the source as a whole, where it looks like the wrong one."""
        found = self.found
        first, last = found.first_at, found.last_at
        last_day = min(self._scope.last, _day(self._source.read_at))
        if first is None or last is None:
            what = "simulator's ledger is empty: it begins anew at each start" if self._source.is_ledger else ""
            found.notes.append(f"The {what or 'statement has no line that tells of a movement'}.")
        elif not self._source.is_ledger and (last < self._scope.start or first >= self._scope.end):
            raise PeriodNotCovered(f"The statement does not cover this period: its lines are of {_days(first, last)}.")
        elif not self._source.is_ledger and (_day(first) > self._scope.first or _day(last) < last_day):
            found.notes.append(f"The statement covers less than this period: its lines are of {_days(first, last)}.")
        nothing_met = not (
            found.matched_count or found.matched_without_receipt or found.amounts_differ or found.statuses_differ
        )
        if nothing_met and found.theirs.count and found.missing_there:
            of_another = "this is probably the statement of another shortcode"
            began_anew = "the simulator's ledger has probably begun anew since"
            found.notes.append(f"Nothing matches: {began_anew if self._source.is_ledger else of_another}.")


def _chunks(movements: Sequence[Movement]) -> Iterator[Sequence[Movement]]:
    for start in range(0, len(movements), _CHUNK):
        yield movements[start : start + _CHUNK]


def _day(at: datetime) -> str:
    return at.astimezone(EAT).date().isoformat()


def _days(first: datetime, last: datetime) -> str:
    return f"{_day(first)} to {_day(last)}"
