"""What a shortcode is used for, and which of its secrets that needs. Pure."""

from enum import StrEnum
from typing import assert_never

from mpesa_mcp.credentials.vault import SecretField


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


class ShortcodeUse(StrEnum):
    """What an organization may have a default shortcode for, one for each in an environment.

    A reversal is none of them: it goes through the shortcode that received the payment. An inquiry is a balance, or the
    status of a receipt that is no payment of ours.
    """

    STK_PUSH = "stk_push"
    B2C = "b2c"
    INQUIRY = "inquiry"

    @property
    def need(self) -> ShortcodeNeed:
        return ShortcodeNeed.PASSKEY if self is ShortcodeUse.STK_PUSH else ShortcodeNeed.INITIATOR
