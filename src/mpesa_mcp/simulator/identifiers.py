"""The ids Daraja hands out, in the formats of 2026 (daraja/api.md §0, identifier formats).

The same seed gives the same ids in the same order. Each kind of id draws from its own stream, so that an extra poll
or a refreshed token does not change the receipts of a run.
"""

import random
import string
from datetime import datetime

from mpesa_mcp.values import EAT, Clock

_RECEIPT_ALPHABET = string.digits + string.ascii_uppercase
_LOWER = string.digits + string.ascii_lowercase
_NOT_HEX = "ghijklmnopqrstuvwxyz"
_RECEIPT_TAILS = 36**7
# Coprime to 36**7 (neither even nor a multiple of three), so that stepping visits every tail before repeating one.
_RECEIPT_STEP = 28_433_123_417


class Identifiers:
    def __init__(self, seed: int, clock: Clock) -> None:
        self._clock = clock
        self._tokens = random.Random(f"{seed}:tokens")
        self._requests = random.Random(f"{seed}:requests")
        self._merchants = random.Random(f"{seed}:merchants")
        self._conversations = random.Random(f"{seed}:conversations")
        self._receipt_tail = random.Random(f"{seed}:receipts").randrange(_RECEIPT_TAILS)
        self._checkout_suffix = random.Random(f"{seed}:checkouts").randrange(1000)

    def access_token(self) -> str:
        """28 alphanumerics."""
        return "".join(self._tokens.choices(string.ascii_letters + string.digits, k=28))

    def request_id(self) -> str:
        """The `requestId` of an error."""
        return _dash_hex(self._requests)

    def merchant_request_id(self) -> str:
        """MerchantRequestID, or an OriginatorConversationID that Daraja makes itself."""
        return _dash_hex(self._merchants)

    def checkout_request_id(self, msisdn: str) -> str:
        """`ws_CO_`, the moment in EAT, three digits, the last nine digits of the phone."""
        self._checkout_suffix = (self._checkout_suffix + 1) % 1000
        return f"ws_CO_{self._eat():%d%m%Y%H%M%S}{self._checkout_suffix:03d}{msisdn[-9:]}"

    def conversation_id(self) -> str:
        """`AG_`, the day, and twenty characters whose end is not hexadecimal any more."""
        digits = "".join(self._conversations.choices(string.digits, k=6))
        tail = "".join(self._conversations.choices(_LOWER, k=9)) + self._conversations.choice(_NOT_HEX)
        return f"AG_{self._eat():%Y%m%d}_0100{digits}{tail}"

    def receipt(self) -> str:
        """Ten characters: year, month and day letters, then seven that no other receipt of this run has."""
        self._receipt_tail = (self._receipt_tail + _RECEIPT_STEP) % _RECEIPT_TAILS
        rest, tail = self._receipt_tail, ""
        for _ in range(7):
            rest, digit = divmod(rest, 36)
            tail = _RECEIPT_ALPHABET[digit] + tail
        return self._day_letters() + tail

    def placeholder(self) -> str:
        """What stands for a receipt where no money moved, e.g. `UIS0000000` (quirk 34)."""
        return self._day_letters() + "0000000"

    def _day_letters(self) -> str:
        now = self._eat()
        year = string.ascii_uppercase[(now.year - 2006) % 26]  # 2017 was L
        month = string.ascii_uppercase[now.month - 1]
        day = _RECEIPT_ALPHABET[now.day]  # 1 to 9, then A for the tenth
        return year + month + day

    def _eat(self) -> datetime:
        return self._clock.now().astimezone(EAT)


def _dash_hex(source: random.Random) -> str:
    """`2654-4b64-97ff-b827b542881d3130`: 4-4-4-12 hexadecimal characters, then three to seven digits."""
    text = f"{source.getrandbits(96):024x}"
    counter = source.randrange(100, 10_000_000)
    return f"{text[:4]}-{text[4:8]}-{text[8:12]}-{text[12:]}{counter}"
