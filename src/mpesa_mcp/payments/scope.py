"""What is compared: one organization, one environment, some days in Nairobi, and whose statement it is.

Never a guess: where payments of several environments or shortcodes could be meant, a person says which.
"""

from collections.abc import Set
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from mpesa_mcp.credentials.shortcodes import ShortcodeRecord, shortcodes_of
from mpesa_mcp.errors import InputError
from mpesa_mcp.identity.organizations import OrganizationRecord
from mpesa_mcp.payments.booked import places_of_payments
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import Environment, eat_day_bounds, eat_today

_LONGEST = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """`shortcodes` are those whose movements the other side shows."""

    organization_id: str
    slug: str
    environment: Environment
    shortcodes: Set[str]
    first: str
    last: str
    start: datetime
    end: datetime

    def holds(self, at: datetime) -> bool:
        return self.start <= at < self.end

    def is_about(self, shortcode: str) -> bool:
        return shortcode in self.shortcodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person asked to compare. `has_statement`: a file, not the ledger; it may say whose it is."""

    first: date
    last: date
    environment: Environment | None
    shortcode: str | None
    has_statement: bool
    stated_shortcode: str | None = None


async def choose_scope(core: Core, organization: OrganizationRecord, asked: Asked) -> Scope:
    """Raises InputError."""
    _check_days(core, asked)
    start, end = eat_day_bounds(asked.first, asked.last)
    async with core.store.reading(organization.organization_id) as session:
        places = await places_of_payments(session, start, end)
        there = await shortcodes_of(session)
    environment = _environment(core, asked, {*places} or {each.environment for each in there})
    known = [each for each in there if each.environment is environment]
    paid_through = {*places.get(environment, ())}
    if asked.shortcode is not None or asked.stated_shortcode is not None:
        shortcodes = _named(asked, known, paid_through)
    elif not asked.has_statement:
        shortcodes = paid_through | {each.shortcode for each in known}
    else:
        shortcodes = paid_through or {each.shortcode for each in known}
        if len(shortcodes) > 1:
            raise InputError(
                f"The organization has several {environment} shortcodes in this period "
                f"({', '.join(sorted(shortcodes))}): say with --shortcode whose statement this is.",
                field="shortcode",
            )
    if not shortcodes:
        raise InputError(f"The organization has neither payments nor a shortcode in {environment}: nothing to compare.")
    return Scope(
        organization_id=organization.organization_id,
        slug=organization.slug,
        environment=environment,
        shortcodes=shortcodes,
        first=asked.first.isoformat(),
        last=asked.last.isoformat(),
        start=start,
        end=end,
    )


def _check_days(core: Core, asked: Asked) -> None:
    if asked.first > asked.last:
        raise InputError("--from must not be later than --to.", field="from_date")
    if asked.first > eat_today(core.clock):
        raise InputError("--from is in the future: there is nothing to compare yet.", field="from_date")
    if asked.last - asked.first > _LONGEST or asked.last.year < 2000 or asked.last.year > 9000:
        raise InputError("A comparison covers at most 366 days of this century.", field="to_date")


def _environment(core: Core, asked: Asked, candidates: Set[Environment]) -> Environment:
    if not asked.has_statement:
        if core.settings.is_production or asked.environment not in {None, Environment.SIMULATOR}:
            raise InputError(
                "Only the simulator has a ledger. Name a statement exported from the M-PESA portal with --statement.",
                field="statement",
            )
        if candidates and Environment.SIMULATOR not in candidates and asked.environment is None:
            raise InputError(
                "The organization has nothing at the simulator in this period. Name a statement exported from the "
                "M-PESA portal with --statement.",
                field="statement",
            )
        return Environment.SIMULATOR
    if asked.environment is not None:
        return asked.environment
    if len(candidates) > 1:
        named = ", ".join(each for each in Environment if each in candidates)
        raise InputError(
            f"The organization has several environments ({named}): say with --environment which the statement is of.",
            field="environment",
        )
    if not candidates:
        raise InputError("The organization has neither payments nor a shortcode: there is nothing to compare.")
    return next(iter(candidates))


def _named(asked: Asked, known: list[ShortcodeRecord], paid_through: Set[str]) -> Set[str]:
    """The shortcode that the person and the file name; a till is known by its own number as well."""
    ours = {each: each for each in paid_through} | {each.shortcode: each.shortcode for each in known}
    ours |= {each.till: each.shortcode for each in known if each.till}
    meant = {ours.get(each) for each in (asked.shortcode, asked.stated_shortcode) if each is not None}
    if None in meant:
        there = ", ".join(sorted(set(ours.values()))) or "none"
        raise InputError(
            f"This is about a shortcode that is none of the organization's in this environment ({there}).",
            field="shortcode",
        )
    if len(meant) > 1:
        raise InputError("The statement is of another shortcode than --shortcode names.", field="shortcode")
    return {each for each in meant if each is not None}
