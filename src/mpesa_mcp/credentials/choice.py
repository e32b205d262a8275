"""Which shortcode an operation uses, and which environment a new key is for.

Never a guess: one that fits is taken, none or several is an answer that says what a person should do.
"""

from enum import StrEnum
from typing import assert_never

from mpesa_mcp.credentials.records import ShortcodeRecord, shortcodes_of
from mpesa_mcp.credentials.vault import SecretField
from mpesa_mcp.errors import Advice, InputError, ProviderError
from mpesa_mcp.identity.organizations import get_organization
from mpesa_mcp.store.tenancy import OrganizationSession
from mpesa_mcp.values import Environment


class ShortcodeNeed(StrEnum):
    """What an operation needs of a shortcode besides the consumer key and secret (daraja/api.md §0)."""

    PASSKEY = "passkey"
    INITIATOR = "initiator"

    @property
    def fields(self) -> frozenset[SecretField]:
        match self:
            case ShortcodeNeed.PASSKEY:
                return frozenset({SecretField.PASSKEY})
            case ShortcodeNeed.INITIATOR:
                return frozenset({SecretField.INITIATOR_NAME, SecretField.INITIATOR_PASSWORD})
            case _:
                assert_never(self)

    @property
    def words(self) -> str:
        return "passkey" if self is ShortcodeNeed.PASSKEY else "initiator name and password"

    @property
    def tools(self) -> tuple[str, ...]:
        """The tools that need it."""
        match self:
            case ShortcodeNeed.PASSKEY:
                return ("stk_push",)
            case ShortcodeNeed.INITIATOR:
                return ("b2c_payment", "check_balance", "reverse", "transaction_status")
            case _:
                assert_never(self)


class ShortcodeUnavailable(ProviderError):
    """No shortcode can be used for this until a person sets one up. Nothing was stored or sent."""

    code = "credentials_missing"
    advice = Advice.ASK_A_PERSON


async def choose_shortcode(
    session: OrganizationSession, *, environment: Environment, need: ShortcodeNeed
) -> ShortcodeRecord:
    """The only shortcode of this environment that has what is needed. Raises ShortcodeUnavailable."""
    there = await shortcodes_of(session, environment=environment)
    fitting = [shortcode for shortcode in there if shortcode.secrets >= need.fields]
    if len(fitting) == 1:
        return fitting[0]
    slug = (await get_organization(session)).slug
    if fitting:
        raise ShortcodeUnavailable(
            f"The organization has several {environment} shortcodes that could do this, and none is its default. "
            f"A person keeps one: mpesa-mcp credentials remove --org {slug} --environment {environment} --shortcode N."
        )
    tools = " and ".join((", ".join(need.tools[:-1]), need.tools[-1])) if len(need.tools) > 1 else need.tools[0]
    verb = "need" if len(need.tools) > 1 else "needs"
    if there:
        lacking = f"No {environment} shortcode of the organization has the {need.words} that {tools} {verb}."
    else:
        lacking = (
            f"The organization has no {environment} shortcode; {tools} {verb} one with consumer key, consumer secret "
            f"and {need.words}."
        )
    number = there[0].shortcode if len(there) == 1 else "N"
    raise ShortcodeUnavailable(
        f"{lacking} A person sets it with: mpesa-mcp credentials set --org {slug} --environment {environment} "
        f"--shortcode {number} --type {there[0].type if len(there) == 1 else 'paybill'}."
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
            f"The organization has shortcodes in several environments ({named}): say which with --environment.",
            field="environment",
        )
    return environments.pop() if environments else Environment.SIMULATOR
