"""Kenya shillings as integers of cents. There is no float in this module, nor a way in for one."""

import re
from dataclasses import dataclass
from typing import Self

from mpesa_mcp.errors import InputError

CENTS_PER_SHILLING = 100
# Ten billion shillings: above any organization's balance, far below where SQL integers end.
MAX_CENTS = 10_000_000_000 * CENTS_PER_SHILLING

_DECIMAL = re.compile(r"(-?)(\d{1,13})(?:\.(\d{1,}))?")


@dataclass(frozen=True, slots=True, order=True)
class Kes:
    """An amount of Kenya shillings.

    `cents` is the only representation inside the program; `str()` gives the decimal form that leaves it ("1500.00").
    Negative amounts exist (the charges account of an organization is one), bounded like positive ones.
    """

    cents: int

    def __post_init__(self) -> None:
        if type(self.cents) is not int:
            raise TypeError("Kes takes an integer of cents")
        if abs(self.cents) > MAX_CENTS:
            raise InputError("The amount is out of range.", field="amount")

    @classmethod
    def from_shillings(cls, shillings: int) -> Self:
        """Whole shillings, as the model and Daraja's requests speak."""
        if type(shillings) is not int:
            raise TypeError("whole shillings are an integer")
        return cls(shillings * CENTS_PER_SHILLING)

    @classmethod
    def from_decimal(cls, text: str) -> Self:
        """Reads "10", "10.5", "10.00", "-22.40"; refuses fractions of a cent and everything else.

        Raises InputError.
        """
        match = _DECIMAL.fullmatch(text.strip())
        if match is None:
            raise InputError("An amount is written like 1500 or 1500.00.", field="amount")
        sign, whole, fraction = match.group(1), match.group(2), (match.group(3) or "").rstrip("0")
        if len(fraction) > 2:
            raise InputError("An amount has at most two decimals.", field="amount")
        cents = int(whole) * CENTS_PER_SHILLING + int(fraction.ljust(2, "0"))
        return cls(-cents if sign else cents)

    @property
    def is_whole_shillings(self) -> bool:
        return self.cents % CENTS_PER_SHILLING == 0

    @property
    def shillings(self) -> int:
        """Whole shillings, for Daraja's requests, which know no cents (daraja/api.md §0, quirk 60)."""
        if not self.is_whole_shillings:
            raise InputError("Daraja moves whole shillings only.", field="amount")
        return self.cents // CENTS_PER_SHILLING

    def __str__(self) -> str:
        sign = "-" if self.cents < 0 else ""
        whole, cents = divmod(abs(self.cents), CENTS_PER_SHILLING)
        return f"{sign}{whole}.{cents:02d}"
