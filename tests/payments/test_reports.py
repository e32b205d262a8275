"""Reports: totals against rows made by hand, on Nairobi's calendar, with what nobody knows kept apart."""

from datetime import UTC, date, datetime, timedelta

import pytest

from mpesa_mcp.errors import InputError
from mpesa_mcp.payments.reports import GroupBy, Report, Tally, transaction_report
from mpesa_mcp.payments.requests import PaymentFilter
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.values import Environment, FrozenClock, Msisdn

from .factories import Shop, a_principal, a_row, make_organization, store_rows

pytestmark = pytest.mark.anyio

# Half past eleven on Monday, 16 November 2026, in Nairobi.
NOON = datetime(2026, 11, 16, 8, 30, tzinfo=UTC)
TODAY = date(2026, 11, 16)


async def report(
    shop: Shop,
    *,
    from_date: date = TODAY,
    to_date: date = TODAY,
    group_by: GroupBy = GroupBy.DAY,
    narrowed: PaymentFilter | None = None,
) -> Report:
    return await transaction_report(
        shop.core,
        shop.principal,
        from_date=from_date,
        to_date=to_date,
        group_by=group_by,
        narrowed=narrowed or PaymentFilter(),
    )


async def test_each_status_and_kind_is_counted_where_it_belongs(shop: Shop) -> None:
    organization_id = shop.principal.organization_id
    await store_rows(
        shop,
        *(a_row(organization_id, NOON, shillings=2**n, status=status) for n, status in enumerate(PaymentStatus)),
        a_row(organization_id, NOON, shillings=5000, kind=PaymentKind.B2C),
        a_row(organization_id, NOON, shillings=7000, kind=PaymentKind.REVERSAL),
        a_row(organization_id, NOON, shillings=9000, kind=PaymentKind.B2C, status=PaymentStatus.FAILED),
    )
    shillings = {status: 2**n * 100 for n, status in enumerate(PaymentStatus)}
    totals = (await report(shop)).totals
    assert totals == Tally(
        count=14,
        succeeded=4,  # succeeded and reversed pushes, the payout, the reversal
        failed=4,
        unknown=2,
        in_progress=4,
        collected=shillings[PaymentStatus.SUCCEEDED] + shillings[PaymentStatus.REVERSED],
        paid_out=5000_00,
        reversed=7000_00,
        unknown_amount=shillings[PaymentStatus.UNKNOWN] + shillings[PaymentStatus.DISPUTED],
    )
    assert totals.success_rate == 0.5


async def test_groups_add_up_to_the_totals(shop: Shop) -> None:
    organization_id = shop.principal.organization_id
    await store_rows(
        shop,
        a_row(organization_id, NOON, shillings=10, reference="A"),
        a_row(organization_id, NOON, shillings=20, reference="A", status=PaymentStatus.UNKNOWN),
        a_row(organization_id, NOON, shillings=40, reference="B", kind=PaymentKind.B2C),
    )
    by_reference = await report(shop, group_by=GroupBy.REFERENCE)
    assert [(name, tally.count, tally.collected, tally.paid_out) for name, tally in by_reference.groups] == [
        ("A", 2, 10_00, 0),
        ("B", 1, 0, 40_00),
    ]
    assert [name for name, _ in (await report(shop, group_by=GroupBy.KIND)).groups] == ["b2c", "stk_push"]
    assert [name for name, _ in (await report(shop, group_by=GroupBy.STATUS)).groups] == ["succeeded", "unknown"]
    for group_by in GroupBy:
        made = await report(shop, group_by=group_by)
        assert sum(tally.count for _, tally in made.groups) == made.totals.count == 3
        assert sum(tally.collected for _, tally in made.groups) == 10_00
        assert sum(tally.unknown_amount for _, tally in made.groups) == made.totals.unknown_amount == 20_00


async def test_a_day_in_nairobi_begins_at_nine_in_the_evening_utc(shop: Shop) -> None:
    organization_id = shop.principal.organization_id
    begins = datetime(2026, 11, 15, 21, 0, tzinfo=UTC)
    await store_rows(
        shop,
        a_row(organization_id, begins - timedelta(microseconds=1), shillings=1),
        a_row(organization_id, begins, shillings=2),
        a_row(organization_id, begins + timedelta(hours=24, microseconds=-1), shillings=4),
        a_row(organization_id, begins + timedelta(hours=24), shillings=8),
    )
    assert (await report(shop)).totals.collected == 6_00
    days = await report(shop, from_date=date(2026, 11, 15), to_date=date(2026, 11, 17))
    assert [(name, tally.collected) for name, tally in days.groups] == [
        ("2026-11-15", 1_00),
        ("2026-11-16", 6_00),
        ("2026-11-17", 8_00),
    ]


async def test_weeks_and_months_are_nairobis_too(shop: Shop, clock: FrozenClock) -> None:
    """The year turns on a Friday: the first days of January belong to week 53 of the year before."""
    organization_id = shop.principal.organization_id
    clock.at = datetime(2027, 1, 10, tzinfo=UTC)
    new_year = datetime(2026, 12, 31, 21, 0, tzinfo=UTC)
    monday = datetime(2027, 1, 3, 21, 0, tzinfo=UTC)
    await store_rows(
        shop,
        a_row(organization_id, new_year - timedelta(seconds=1), shillings=1),
        a_row(organization_id, new_year, shillings=2),
        a_row(organization_id, monday - timedelta(seconds=1), shillings=4),
        a_row(organization_id, monday, shillings=8),
    )
    first, last = date(2026, 12, 1), date(2027, 1, 31)
    months = await report(shop, from_date=first, to_date=last, group_by=GroupBy.MONTH)
    assert [(name, tally.collected) for name, tally in months.groups] == [("2026-12", 1_00), ("2027-01", 14_00)]
    weeks = await report(shop, from_date=first, to_date=last, group_by=GroupBy.WEEK)
    assert [(name, tally.collected) for name, tally in weeks.groups] == [("2026-W53", 7_00), ("2027-W01", 8_00)]


async def test_filters_narrow_by_kind_status_reference_and_phone(shop: Shop) -> None:
    organization_id = shop.principal.organization_id
    await store_rows(
        shop,
        a_row(organization_id, NOON, shillings=1),
        a_row(organization_id, NOON, shillings=2, kind=PaymentKind.B2C),
        a_row(organization_id, NOON, shillings=4, status=PaymentStatus.FAILED),
        a_row(organization_id, NOON, shillings=8, reference="INV-2"),
        a_row(organization_id, NOON, shillings=16, phone="254700000002"),
    )
    for narrowed, count in [
        (PaymentFilter(), 5),
        (PaymentFilter(kind=PaymentKind.B2C), 1),
        (PaymentFilter(status="failed"), 1),
        (PaymentFilter(reference="INV-2"), 1),
        (PaymentFilter(phone=Msisdn("254700000002")), 1),
        (PaymentFilter(reference="INV-2", status="failed"), 0),
    ]:
        assert (await report(shop, narrowed=narrowed)).totals.count == count


async def test_an_empty_range_is_an_empty_report_not_an_error(shop: Shop) -> None:
    made = await report(shop)
    assert (made.totals, list(made.groups), made.totals.success_rate) == (Tally(), [], None)


def test_many_groups_are_read_a_part_at_a_time() -> None:
    named = [(name, Tally(count=1)) for name in ("", "INV-1", "INV-2")]
    made = Report(TODAY, TODAY, GroupBy.REFERENCE, named)
    first = made.page(limit=2, cursor=None)
    assert (first.items, first.next_cursor) == (named[:2], "INV-1")
    second = made.page(limit=2, cursor=first.next_cursor)
    assert (second.items, second.next_cursor) == (named[2:], None)


async def test_other_environments_and_organizations_are_not_in_it(shop: Shop) -> None:
    other = await make_organization(shop.core, "globex")
    await store_rows(shop, a_row(shop.principal.organization_id, NOON, environment=Environment.SANDBOX))
    await store_rows(shop, a_row(other.organization_id, NOON))
    assert (await report(shop)).totals == Tally()
    sandbox = a_principal(shop.principal.organization_id, environment=Environment.SANDBOX)
    made = await transaction_report(
        shop.core, sandbox, from_date=TODAY, to_date=TODAY, group_by=GroupBy.DAY, narrowed=PaymentFilter()
    )
    assert made.totals.count == 1


@pytest.mark.parametrize(
    ("from_date", "to_date", "field"),
    [
        (TODAY + timedelta(days=1), TODAY + timedelta(days=1), "from_date"),
        (TODAY, TODAY - timedelta(days=1), "to_date"),
        (TODAY - timedelta(days=367), TODAY, "to_date"),
    ],
    ids=["not begun", "backwards", "too long"],
)
async def test_a_range_that_makes_no_sense_is_refused(shop: Shop, from_date: date, to_date: date, field: str) -> None:
    with pytest.raises(InputError) as refused:
        await report(shop, from_date=from_date, to_date=to_date)
    assert refused.value.field == field


async def test_a_year_and_a_range_that_reaches_into_the_future_are_taken(shop: Shop, clock: FrozenClock) -> None:
    await store_rows(shop, a_row(shop.principal.organization_id, NOON - timedelta(days=366)))
    assert (await report(shop, from_date=TODAY - timedelta(days=366))).totals.count == 1
    assert (await report(shop, to_date=TODAY + timedelta(days=30))).totals.count == 0
    # In Nairobi it is the seventeenth already, though not in London.
    clock.at = datetime(2026, 11, 16, 21, 0, tzinfo=UTC)
    assert (await report(shop, from_date=date(2026, 11, 17), to_date=date(2026, 11, 17))).totals.count == 0


async def test_sums_stay_exact_beyond_thirty_two_bits(shop: Shop) -> None:
    rows = [a_row(shop.principal.organization_id, NOON, shillings=250_000) for _ in range(200)]
    await store_rows(shop, *rows)
    assert (await report(shop)).totals.collected == 200 * 250_000 * 100
