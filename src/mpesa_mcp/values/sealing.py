"""AES-256-GCM sealing, bound to a context.

A sealed value opens only with the same key and the same context (for a secret: organization, shortcode, field, key
version), so a row copied elsewhere does not open. The format is versioned: 1 byte version, 12 bytes nonce, ciphertext.
"""

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mpesa_mcp.errors import InternalFault
from mpesa_mcp.values.ids import random_bytes

KEY_BYTES = 32
_VERSION = b"\x01"
_NONCE_BYTES = 12


class SealBroken(InternalFault):
    """A sealed value does not open: wrong key, wrong place, or changed."""

    code = "seal_broken"

    def __init__(self) -> None:
        super().__init__("A stored secret cannot be opened. Check that the master key is the one it was sealed with.")


class SealingKey:
    """One 256-bit key. Prints as nothing."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a sealing key has 32 bytes")
        self._key = key

    @classmethod
    def generate(cls) -> "SealingKey":
        return cls(random_bytes(KEY_BYTES))

    def seal(self, plain: bytes, *context: str) -> bytes:
        nonce = random_bytes(_NONCE_BYTES)
        return _VERSION + nonce + AESGCM(self._key).encrypt(nonce, plain, _bound(context))

    def open(self, sealed: bytes, *context: str) -> bytes:
        """Raises SealBroken."""
        if sealed[:1] != _VERSION:
            raise SealBroken
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return AESGCM(self._key).decrypt(nonce, body, _bound(context))
        except (InvalidTag, ValueError) as broken:
            raise SealBroken from broken

    def wrap(self, key: "SealingKey", *context: str) -> bytes:
        """Seals another key with this one."""
        return self.seal(key._key, *context)

    def unwrap(self, wrapped: bytes, *context: str) -> "SealingKey":
        """Raises SealBroken."""
        return SealingKey(self.open(wrapped, *context))

    def digest(self, text: str) -> str:
        """A keyed hash (HMAC-SHA256, hex): equal texts give equal digests, and only the key's holder can tell."""
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()

    def __repr__(self) -> str:
        return "SealingKey(…)"


def _bound(context: tuple[str, ...]) -> bytes:
    # Length-prefixed, so that ("ab", "c") and ("a", "bc") differ.
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in context)
