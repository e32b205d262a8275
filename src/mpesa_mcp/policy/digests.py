"""What an approval is bound to: a digest of exactly what will be sent. Pure.

Two things to send have the same digest only if every field of theirs is the same. A person who approves a digest has
approved those fields and no others.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

# Part of every digest, so that one made by other rules is never taken for one of these.
_VERSION = b"mpesa-mcp approval 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One movement as it will be sent: every field that reaches Safaricom or chooses where it goes."""

    kind: str
    environment: str
    shortcode: str
    phone: str
    amount_cents: int
    reference: str
    description: str
    remarks: str
    purpose: str
    occasion: str
    reversed_receipt: str | None


def digest_of(sendings: Iterable[Sending]) -> str:
    """SHA-256, hex, over these movements in this order: one of a payment, all lines of a batch."""
    hashed = hashlib.sha256(_VERSION)
    for sending in sendings:
        # One line each: JSON escapes line breaks, so that no text can pass for the next movement.
        hashed.update(json.dumps(asdict(sending), sort_keys=True, separators=(",", ":")).encode() + b"\n")
    return hashed.hexdigest()
