"""Which shortcode an operation uses, and which environment a new key is for.

Never a guess: the default for the use, else the only one that fits; otherwise an answer that says what a person should
do. A default that lacks a secret is not passed over for another one.
"""

from collections.abc import Sequence

from mpesa_mcp.credentials.records import ShortcodeRecord, shortcodes_of
from mpesa_mcp.credentials.uses import ShortcodeNeed, ShortcodeUse
from mpesa_mcp.errors import Advice, InputError, ProviderError
from mpesa_mcp.identity.organizations import get_organization
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment


class ShortcodeUnavailable(ProviderError):
    """No shortcode can be used for this until a person sets one up. Nothing was stored or sent."""

    code = "credentials_missing"
    advice = Advice.ASK_A_PERSON
    http_status = 409


async def choose_shortcode(
    session: OrganizationSession, *, environment: Environment, use: ShortcodeUse
) -> ShortcodeRecord:
    """The organization's default for this use, else the only one with the secrets needed.

    Raises ShortcodeUnavailable.
    """
    there = await shortcodes_of(session, environment=environment)
    default = next((shortcode for shortcode in there if use in shortcode.default_for), None)
    fitting = [shortcode for shortcode in there if shortcode.secrets >= use.need.fields]
    if default is not None and default in fitting:
        return default
    if default is None and len(fitting) == 1:
        return fitting[0]
    place = f"--org {(await get_organization(session)).slug} --environment {environment}"
    if default is not None:
        raise ShortcodeUnavailable(
            f"The organization's default {environment} shortcode for {use}, {default.shortcode}, has no "
            f"{use.need.words}. A person sets it with: mpesa-mcp credentials set {place} "
            f"--shortcode {default.shortcode} --type {default.type}."
        )
    if fitting:
        raise ShortcodeUnavailable(
            f"The organization has several {environment} shortcodes that could do this, and none is its default. "
            f"A person chooses one: mpesa-mcp credentials default {place} --shortcode N --for {use}."
        )
    raise _nothing_fits(there, environment, use.need, place)


def _nothing_fits(
    there: Sequence[ShortcodeRecord], environment: Environment, need: ShortcodeNeed, place: str
) -> ShortcodeUnavailable:
    tools = " and ".join((", ".join(need.tools[:-1]), need.tools[-1])) if len(need.tools) > 1 else need.tools[0]
    verb = "need" if len(need.tools) > 1 else "needs"
    if there:
        lacking = f"No {environment} shortcode of the organization has the {need.words} that {tools} {verb}."
    else:
        lacking = (
            f"The organization has no {environment} shortcode; {tools} {verb} one with consumer key, consumer secret "
            f"and {need.words}."
        )
    number, kind = (there[0].shortcode, there[0].type.value) if len(there) == 1 else ("N", "paybill")
    return ShortcodeUnavailable(
        f"{lacking} A person sets it with: mpesa-mcp credentials set {place} --shortcode {number} --type {kind}."
    )


async def require_shortcode(session: OrganizationSession, shortcode_id: str, *, need: ShortcodeNeed) -> ShortcodeRecord:
    """This very shortcode, with what is needed. Raises ShortcodeUnavailable."""
    for shortcode in await shortcodes_of(session):
        if shortcode.shortcode_id == shortcode_id and shortcode.secrets >= need.fields:
            return shortcode
    slug = (await get_organization(session)).slug
    raise ShortcodeUnavailable(
        f"The shortcode that received this payment has no {need.words} any more. "
        f"A person sets it with: mpesa-mcp credentials set --org {slug}."
    )


async def default_environment(session: OrganizationSession) -> Environment:
    """The only environment the organization has shortcodes for; the simulator when it has none yet.

    Raises InputError when there are several.
    """
    environments = {shortcode.environment for shortcode in await shortcodes_of(session)}
    if len(environments) > 1:
        named = ", ".join(environment for environment in Environment if environment in environments)
        raise InputError(
            f"The organization has shortcodes in several environments ({named}): say which environment this is for.",
            field="environment",
        )
    return environments.pop() if environments else Environment.SIMULATOR
