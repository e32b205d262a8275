"""Kenyan mobile numbers: read in every form people type, kept in the one form Daraja takes."""

import re
from dataclasses import dataclass
from typing import Self

from mpesa_mcp.errors import InputError

# 07xx, 010x and 011x, and the 014x and 018x ranges opened in August 2026 (daraja/api.md §0). Numbers move between
# networks, so a prefix does not tell whether a line is Safaricom's: Daraja answers that.
_NATIONAL = re.compile(r"7\d{8}|1[0148]\d{7}")
# The usual forms, read without the tables of `phonenumbers`.
_USUAL = re.compile(r"(?:\+?254|0)?(7[0-9]{8}|1[0148][0-9]{7})")
# Digits, and what people and address books put between them: spaces, dashes, dots, brackets, invisible marks of
# writing direction. Anything else (letters, another script's digits, an extension) could mean another number.
_TYPED = re.compile("[0-9+(). \\-\u00a0\u202f\u2009\u2010-\u2015\u200e\u200f\u202a-\u202e]+")
# Digits of a number without 0 or 254 in front.
_FEWEST = 9

ACCEPTED = (
    "phone must be a Kenyan mobile number such as 0712345678, 0110345678, +254712345678 or 254712345678 "
    "(07xx, 010x, 011x, 014x or 018x and nine digits after the leading 0 or 254)."
)


class InvalidMsisdn(InputError):
    """The text is no Kenyan mobile number. The message says what is accepted, never what was typed."""

    code = "invalid_phone"

    def __init__(self) -> None:
        super().__init__(ACCEPTED, field="phone")


@dataclass(frozen=True, slots=True)
class Msisdn:
    """A phone number as Daraja wants it: twelve digits, 254 and then a 7 or a 1, no plus."""

    digits: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads 07.., 7.., +254.., 00254.., 2540.., with spaces, dashes, dots or brackets. Raises InvalidMsisdn."""
        if usual := _USUAL.fullmatch(text):
            return cls("254" + usual.group(1))
        # Imported here: its tables take longer to load than a desktop client takes to shake hands.
        import phonenumbers

        typed = text.strip()
        if len(typed) > 30 or not _TYPED.fullmatch(typed) or typed.count("+") > 1:
            raise InvalidMsisdn
        if typed.startswith("00254"):
            typed = "+" + typed[2:]
        try:
            number = phonenumbers.parse(typed, "KE")
        except phonenumbers.NumberParseException as unreadable:
            raise InvalidMsisdn from unreadable
        national = str(number.national_number)
        if number.country_code != 254 or number.extension or not _NATIONAL.fullmatch(national):
            raise InvalidMsisdn
        return cls("254" + national)

    @property
    def masked(self) -> str:
        """What logs and results show: 2547*****678."""
        return mask_digits(self.digits)

    def __repr__(self) -> str:
        return f"Msisdn({self.masked})"

    def __str__(self) -> str:
        return self.masked


def mask_within(text: str) -> str:
    """Text that is no phone number, with its digits masked as one where they are as many as one has."""
    digits = "".join(filter(str.isdigit, text))
    if len(digits) < _FEWEST:
        return text
    masked = iter(mask_digits(digits))
    return "".join(next(masked) if character.isdigit() else character for character in text)


def mask_digits(digits: str) -> str:
    """Keeps the first four and last three digits of a phone number."""
    if len(digits) < _FEWEST:
        return "*" * len(digits)
    return digits[:4] + "*" * (len(digits) - 7) + digits[-3:]
