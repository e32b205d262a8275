"""Ids and randomness. Nothing else in the program calls a random generator or makes an id."""

import hashlib
import secrets

from ulid import ULID


def new_id(prefix: str) -> str:
    """An id that sorts by time of making and names its noun: `pay_01k...`, always lower case."""
    return f"{prefix}_{str(ULID()).lower()}"


def random_hex(bits: int) -> str:
    """`bits` of randomness as lower-case hex: for callback paths, where a word Safaricom forbids cannot arise."""
    return secrets.token_hex(bits // 8)


def random_bytes(count: int) -> bytes:
    return secrets.token_bytes(count)


def sha256_hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def jitter(spread: float) -> float:
    """A factor between 1 - spread and 1 + spread, so that many waiting rows do not all ask at once."""
    return 1 + spread * (secrets.randbelow(2001) - 1000) / 1000


BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def random_base62(length: int) -> str:
    """`length` random characters out of letters and digits: survives double-click, URLs and shells unquoted."""
    return "".join(secrets.choice(BASE62) for _ in range(length))


def base62(number: int, *, length: int) -> str:
    """A number from 0 up in base 62, padded with zeros to `length`."""
    digits = ""
    while number:
        number, digit = divmod(number, len(BASE62))
        digits = BASE62[digit] + digits
    return digits.rjust(length, BASE62[0])
