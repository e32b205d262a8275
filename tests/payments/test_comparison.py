"""Our payments beside what a statement shows: who has what, and what only the other side has."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlmodel import select

from mpesa_mcp.audit import AuditEntry
from mpesa_mcp.identity.organizations import organization_by_slug
from mpesa_mcp.payments.adoption import adopt_receipts
from mpesa_mcp.payments.comparison import PeriodNotCovered, compare
from mpesa_mcp.payments.findings import Comparison
from mpesa_mcp.payments.models import Attempt
from mpesa_mcp.payments.movements import Direction, Movement, Nature, Source
from mpesa_mcp.payments.reading import history_of
from mpesa_mcp.payments.scope import Asked, choose_scope
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import Environment, new_id

from .factories import PHONE, SHORTCODE, Shop, a_row, store_rows

pytestmark = pytest.mark.anyio

DAY = date(2026, 11, 16)
NOON = datetime(2026, 11, 16, 9, 0, tzinfo=UTC)  # in Nairobi
MIDNIGHT = datetime(2026, 11, 16, 21, 0, tzinfo=UTC)  # the end of that day in Nairobi
OUT = Direction.OUT


def a_line(receipt: str = "SKE0000AA1", at: datetime = NOON, *, shillings: int = 100, **values: object) -> Movement:
    given: dict[str, object] = {
        "nature": Nature.MOVEMENT,
        "theirs": "completed",
        "receipt": receipt,
        "direction": Direction.IN,
        "cents": shillings * 100,
        "at": at,
        "parties": (PHONE,),
    }
    return Movement(**{**given, **values})  # type: ignore[arg-type]  # the defaults are of many types


@pytest.fixture
def books(shop: Shop) -> "Books":
    return Books(shop)


class Books:
    """Payments of the shop, and statements held beside them."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.organization_id = shop.principal.organization_id

    async def enter(self, at: datetime = NOON, *, checkout: str | None = None, **values: object) -> str:
        """A payment sent at `at`; a succeeded push without a receipt, unless `values` say otherwise."""
        row = a_row(self.organization_id, at, **{"settled_at": at + timedelta(seconds=20), **values})  # type: ignore[arg-type]
        await store_rows(self.shop, row)
        async with self.shop.core.store.session(self.organization_id) as session:
            session.add(
                Attempt(
                    organization_id=self.organization_id,
                    id=new_id("att"),
                    payment_id=row.id,
                    operation="stk_push",
                    callback_token_sha256="",
                    sent_at=at,
                    in_flight_until=at,
                    checkout_request_id=checkout,
                )
            )
        return row.id

    async def compare(self, *lines: Movement, is_ledger: bool = False, keep_all: bool = True) -> Comparison:
        organization = await organization_by_slug(self.shop.core.store, "acme")
        asked = Asked(
            first=DAY, last=DAY, environment=Environment.SIMULATOR, shortcode=SHORTCODE, has_statement=not is_ledger
        )
        scope = await choose_scope(self.shop.core, organization, asked)
        source = Source(movements=lines, is_ledger=is_ledger, read_at=NOON + timedelta(hours=1))
        return await compare(self.shop.core, scope, source, keep_all=keep_all)

    async def adopt(self, found: Comparison) -> int:
        core = self.shop.core
        taken = await adopt_receipts(
            core, self.organization_id, Environment.SIMULATOR, found.adoptable, actor="operator:tester"
        )
        return len(taken)


def left_over(found: Comparison) -> tuple[Sequence[str], ...]:
    """Receipts, or payment ids where there is none, of what is left over: here, there, amounts, statuses."""
    lists = (found.missing_here, found.missing_there, found.amounts_differ, found.statuses_differ)
    return tuple([each.receipt or each.payment_id or "" for each in found] for found in lists)


NOTHING: tuple[list[str], ...] = ([], [], [], [])


async def test_what_both_sides_have_matches_by_its_receipt(books: Books) -> None:
    push = await books.enter(receipt="SKE0000AA1")
    payout = await books.enter(receipt="SKE0000BB1", kind=PaymentKind.B2C)
    reversal = await books.enter(receipt="SKE0000CC1", kind=PaymentKind.REVERSAL)
    given_back = await books.enter(receipt="SKE0000AA2", status=PaymentStatus.REVERSED)
    found = await books.compare(
        a_line("SKE0000AA1"),
        a_line("SKE0000AA2"),
        a_line("SKE0000BB1", direction=OUT),
        a_line("SKE0000CC1", direction=OUT),
        a_line("SKE0000BB1", direction=OUT, cents=2240, nature=Nature.CHARGE),
    )
    assert left_over(found) == NOTHING
    assert {each.payment_id for each in found.matched} == {push, payout, reversal, given_back}
    assert (found.ours.cents_in, found.ours.cents_out) == (20_000, 20_000)
    assert (found.theirs.cents_in, found.theirs.cents_out, found.charged.cents_out) == (20_000, 20_000, 2240)


async def test_each_kind_of_difference_is_told_with_what_to_do(books: Books) -> None:
    await books.enter(receipt="SKE0000AA2")
    await books.enter(receipt="SKE0000AA3", amount_cents=9_900)
    disputed = await books.enter(receipt="SKE0000AA4", status=PaymentStatus.DISPUTED)
    await books.enter(receipt="SKE0000AA5")
    await books.enter(receipt="SKE0000AA6", kind=PaymentKind.B2C)
    found = await books.compare(
        a_line("SKE0000ZZ1", parties=()),
        a_line("SKE0000AA3"),
        a_line("SKE0000AA4"),
        a_line("SKE0000AA5", nature=Nature.NOT_COMPLETED, theirs="failed"),
        a_line("SKE0000AA6"),
    )
    assert left_over(found) == (
        ["SKE0000ZZ1"],
        ["SKE0000AA2"],
        ["SKE0000AA3", "SKE0000AA6"],
        ["SKE0000AA4", "SKE0000AA5"],
    )
    assert (str(found.amounts_differ[0].amount_ours), str(found.amounts_differ[0].amount_theirs)) == ("99.00", "100.00")
    assert f"payment resolve {disputed} --org acme --as succeeded" in found.statuses_differ[0].what_to_do
    assert all(each.what_to_do for each in found.left_over)


async def test_a_payment_at_midnight_is_missing_on_neither_day(books: Books) -> None:
    before, after = MIDNIGHT - timedelta(seconds=10), MIDNIGHT + timedelta(seconds=5)
    await books.enter(before, receipt="SKE0000AA1", settled_at=after)
    yesterday = before - timedelta(days=1)
    await books.enter(yesterday, receipt="SKE0000AA2", settled_at=yesterday + timedelta(seconds=15))
    found = await books.compare(a_line("SKE0000AA2", yesterday + timedelta(seconds=15)))
    assert left_over(found) == NOTHING
    assert (found.matched_count, found.at_the_edge) == (1, 1)
    with_next_day = await books.compare(a_line("SKE0000AA2", NOON), a_line("SKE0000AA1", after))
    assert left_over(with_next_day) == NOTHING
    assert with_next_day.matched_count == 2


async def test_a_payment_of_late_evening_that_a_longer_file_lacks_is_missing(books: Books) -> None:
    before = MIDNIGHT - timedelta(seconds=10)
    await books.enter(before, receipt="SKE0000AA1", settled_at=MIDNIGHT + timedelta(seconds=5))
    found = await books.compare(a_line("SKE0000ZZ1", MIDNIGHT + timedelta(hours=1)), a_line("SKE0000ZZ2"))
    assert left_over(found) == (["SKE0000ZZ2"], ["SKE0000AA1"], [], [])


async def test_lines_and_payments_of_other_days_are_not_told(books: Books) -> None:
    await books.enter(NOON - timedelta(days=1), receipt="SKE0000AA1")
    found = await books.compare(
        a_line("SKE0000ZZ1", NOON - timedelta(days=1)),
        a_line("SKE0000ZZ2", NOON + timedelta(days=1)),
        a_line("SKE0000AA1", NOON - timedelta(days=1), shillings=7),
    )
    assert left_over(found) == NOTHING
    assert (found.ours.count, found.theirs.count) == (0, 0)


@pytest.mark.parametrize("party", [PHONE, "2547******01", "2547*****001"])
async def test_a_success_without_a_receipt_is_matched_and_its_receipt_adopted_once(books: Books, party: str) -> None:
    payment_id = await books.enter()
    line = a_line(at=NOON + timedelta(minutes=1), parties=(party,))
    found = await books.compare(line)
    assert left_over(found) == NOTHING
    assert [each.payment_id for each in found.matched_without_receipt] == [payment_id]
    assert (await books.shop.row(payment_id)).receipt is None
    assert await books.adopt(found) == 1
    row = await books.shop.row(payment_id)
    assert (row.receipt, row.status) == ("SKE0000AA1", "succeeded")
    assert await books.adopt(found) == 0
    [told] = await history_of(books.shop.core, books.organization_id, payment_id)
    assert (told.event, told.source, told.after) == ("receipt_adopted", "statement", None)
    async with books.shop.core.store.reading(books.organization_id) as session:
        entries = await session.all(select(AuditEntry).where(AuditEntry.subject == payment_id))
    assert [(entry.actor, entry.action) for entry in entries] == [("operator:tester", "payment.receipt_adopted")]
    assert (await books.compare(line)).matched_count == 1


async def test_a_receipt_is_put_over_no_other_on_no_other_status_and_on_no_second_payment(books: Books) -> None:
    told = await books.enter(receipt="SKE0000AA1")
    unknown = await books.enter(status=PaymentStatus.UNKNOWN)
    second = await books.enter()
    wanted = {told: "SKE0000AA8", unknown: "SKE0000AA9", second: "SKE0000AA1"}
    taken = await adopt_receipts(
        books.shop.core, books.organization_id, Environment.SIMULATOR, wanted, actor="operator:tester"
    )
    assert taken == set()
    assert [(await books.shop.row(each)).receipt for each in wanted] == ["SKE0000AA1", None, None]


async def test_two_alike_are_matched_but_no_receipt_is_adopted(books: Books) -> None:
    for seconds in (0, 60):
        await books.enter(NOON + timedelta(seconds=seconds))
    found = await books.compare(
        a_line("SKE0000AA1", NOON + timedelta(seconds=90)), a_line("SKE0000AA2", NOON + timedelta(seconds=10))
    )
    assert left_over(found) == NOTHING
    assert (len(found.matched_without_receipt), found.adoptable) == (2, {})


async def test_amount_and_time_alone_match_but_do_not_suffice_to_adopt(books: Books) -> None:
    await books.enter()
    found = await books.compare(a_line(parties=()))
    assert left_over(found) == NOTHING
    assert (len(found.matched_without_receipt), found.adoptable) == (1, {})


@pytest.mark.parametrize(
    "line",
    [
        a_line(parties=("254700000002",)),
        a_line(shillings=101),
        a_line(direction=OUT),
        a_line(at=NOON + timedelta(hours=2)),
        a_line(at=NOON - timedelta(minutes=10)),
    ],
)
async def test_another_phone_amount_direction_or_time_is_another_payment(books: Books, line: Movement) -> None:
    payment_id = await books.enter()
    assert left_over(await books.compare(line)) == (["SKE0000AA1"], [payment_id], [], [])


@pytest.mark.parametrize("status", ["unknown", "disputed"])
async def test_money_that_moved_for_what_nobody_knew_names_the_command(books: Books, status: str) -> None:
    payment_id = await books.enter(status=status, settled_at=None)
    found = await books.compare(a_line())
    assert left_over(found) == ([], [], [], ["SKE0000AA1"])
    [told] = found.statuses_differ
    assert (told.payment_id, told.ours, told.theirs) == (payment_id, status, "completed")
    assert told.what_to_do.endswith("--receipt SKE0000AA1")
    assert '--reason "in the statement"' in told.what_to_do
    assert found.adoptable == {}
    assert (await books.shop.row(payment_id)).status == status
    [told] = (await books.compare(a_line(), is_ledger=True)).statuses_differ
    assert '--reason "in the simulator\'s ledger"' in told.what_to_do


@pytest.mark.parametrize("status", ["failed", "expired"])
async def test_money_that_moved_for_a_failure_is_told_and_not_resolved_away(books: Books, status: str) -> None:
    await books.enter(status=status)
    found = await books.compare(a_line())
    assert left_over(found) == ([], [], [], ["SKE0000AA1"])
    assert "Do not ask for it again" in found.statuses_differ[0].what_to_do
    assert left_over(await books.compare(a_line(parties=()))) == (["SKE0000AA1"], [], [], [])


async def test_a_success_takes_the_line_before_a_failure_like_it(books: Books) -> None:
    await books.enter(status=PaymentStatus.FAILED)
    succeeded = await books.enter(NOON + timedelta(seconds=30))
    found = await books.compare(a_line(at=NOON + timedelta(minutes=1)))
    assert left_over(found) == NOTHING
    assert [each.payment_id for each in found.matched_without_receipt] == [succeeded]
    assert found.adoptable == {}


async def test_what_never_moved_on_either_side_is_not_left_over(books: Books) -> None:
    await books.enter(status=PaymentStatus.FAILED)
    await books.enter(status=PaymentStatus.UNKNOWN, settled_at=None)
    found = await books.compare()
    assert left_over(found) == NOTHING
    assert found.undecided == 1


async def test_a_payout_is_known_by_the_id_in_the_line(books: Books) -> None:
    for originator in ("our-id-1", "our-id-2"):
        await books.enter(kind=PaymentKind.B2C, originator_conversation_id=originator)
    found = await books.compare(a_line(direction=OUT, parties=(), text="Business Payment. Original id is our-id-2."))
    [matched] = found.matched_without_receipt
    assert found.adoptable == {matched.payment_id: "SKE0000AA1"}
    assert (await books.shop.row(matched.payment_id or "")).originator_conversation_id == "our-id-2"


async def test_the_ledger_knows_the_checkout_and_a_second_movement_of_one_payment(books: Books) -> None:
    await books.enter(checkout="ws_CO_1")
    second = await books.enter(checkout="ws_CO_2")
    found = await books.compare(a_line(checkout_request_id="ws_CO_2", parties=()), is_ledger=True)
    assert found.adoptable == {second: "SKE0000AA1"}
    assert len(found.missing_there) == 1
    twice = [a_line(receipt, checkout_request_id="ws_CO_2") for receipt in ("SKE0000AA1", "SKE0000AA2")]
    found = await books.compare(*twice, is_ledger=True)
    assert [(each.receipt, each.payment_id) for each in found.missing_here] == [("SKE0000AA2", second)]


async def test_the_ledgers_movements_just_outside_the_period_are_told_only_with_a_payment_of_it(books: Books) -> None:
    late = await books.enter(MIDNIGHT - timedelta(seconds=10), checkout="ws_CO_1")
    await books.enter(MIDNIGHT + timedelta(seconds=10), checkout="ws_CO_2")
    after = MIDNIGHT + timedelta(seconds=30)
    lines = [a_line(f"SKE0000AA{n}", after, checkout_request_id=f"ws_CO_{n}") for n in (1, 2, 3)]
    found = await books.compare(*lines, is_ledger=True)
    assert left_over(found) == NOTHING
    assert [each.payment_id for each in found.matched_without_receipt] == [late]


async def test_what_settles_while_the_ledger_is_read_is_not_missing(books: Books) -> None:
    await books.enter(NOON + timedelta(hours=1), receipt="SKE0000AA1")
    found = await books.compare(is_ledger=True)
    assert (left_over(found), found.at_the_edge) == (NOTHING, 1)


async def test_a_receipt_that_stands_twice_is_left_over(books: Books) -> None:
    await books.enter(receipt="SKE0000AA1")
    found = await books.compare(a_line(), a_line())
    assert left_over(found) == (["SKE0000AA1"], [], [], [])
    assert "twice" in found.missing_here[0].what_to_do


async def test_another_shortcodes_statement_is_said_to_be_one(books: Books) -> None:
    await books.enter(receipt="SKE0000AA1")
    found = await books.compare(a_line("SKE0000ZZ1", parties=("254700000009",)))
    assert left_over(found) == (["SKE0000ZZ1"], ["SKE0000AA1"], [], [])
    assert any("another shortcode" in note for note in found.notes)


async def test_a_statement_of_other_days_is_refused(books: Books) -> None:
    with pytest.raises(PeriodNotCovered, match="2026-11-10 to 2026-11-10"):
        await books.compare(a_line(at=NOON - timedelta(days=6)))


async def test_another_organizations_payments_are_neither_seen_nor_changed(books: Books) -> None:
    stranger = a_row("org_other", NOON, receipt="SKE0000AA1")
    async with books.shop.core.store.session("org_other") as session:
        session.add(stranger)
    assert left_over(await books.compare(a_line())) == (["SKE0000AA1"], [], [], [])
    taken = await adopt_receipts(
        books.shop.core, books.organization_id, Environment.SIMULATOR, {stranger.id: "SKE0000AA9"}, actor="operator:x"
    )
    assert taken == set()


async def test_a_long_statement_is_taken_in_a_chunk_at_a_time(books: Books) -> None:
    """Three chunks of payments and five of charges: three times as much as may wait at any moment."""
    ours = [f"SKE{number:07d}" for number in range(1_200)]
    await store_rows(books.shop, *(a_row(books.organization_id, NOON, receipt=receipt) for receipt in ours))
    waiting = most_waiting = 0

    def lines() -> Iterator[Movement]:
        nonlocal waiting, most_waiting
        for line in (
            *(a_line(receipt) for receipt in ours),
            *(a_line(f"SKC{n:07d}", nature=Nature.CHARGE, direction=OUT) for n in range(1_999)),
            a_line("SKE0000ZZ1", parties=("254700000009",)),
        ):
            waiting += 1
            most_waiting = max(most_waiting, waiting)
            yield line

    def progress(_: int) -> None:
        nonlocal waiting
        waiting = 0

    organization = await organization_by_slug(books.shop.core.store, "acme")
    asked = Asked(first=DAY, last=DAY, environment=None, shortcode=None, has_statement=True)
    scope = await choose_scope(books.shop.core, organization, asked)
    source = Source(movements=lines(), is_ledger=False, read_at=NOON)
    found = await compare(books.shop.core, scope, source, keep_all=False, progress=progress)
    assert (found.matched_count, found.charged.count) == (1_200, 1_999)
    assert left_over(found) == (["SKE0000ZZ1"], [], [], [])
    assert (found.matched, found.charges) == ([], [])
    assert most_waiting <= 1000
