"""The table of the inbox, which dispatch reads too and so stands in `payments.models`; and an attempt's addresses."""

from enum import StrEnum

from mpesa_mcp.payments.models import UNAPPLIED, Callback, CallbackStatus

__all__ = ["UNAPPLIED", "Callback", "CallbackStatus", "Channel"]


class Channel(StrEnum):
    """Which of an attempt's addresses was called."""

    RESULT = "result"
    TIMEOUT = "timeout"
