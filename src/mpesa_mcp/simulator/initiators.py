"""The API operator of every shortcode, and the key pair its password travels under (daraja/security.md §1).

Daraja acknowledges a call before it looks at the password, so a wrong one shows up in the result only; after three
wrong ones in a row the operator of that shortcode is locked.
"""

import base64
import binascii
import hmac
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from mpesa_mcp.simulator.bounded import Bounded
from mpesa_mcp.values import Clock

INITIATOR_NAME = "testapi"
INITIATOR_PASSWORD = "Safaricom999!*!"  # noqa: S105 - Safaricom's public sandbox password (daraja/api.md §0)
WRONG_INITIATOR = "2001"
LOCKED_INITIATOR = "8006"
TRIES_BEFORE_LOCK = 3
MAX_SHORTCODES = 10_000


class CredentialKey:
    """The RSA key behind SecurityCredential. Made anew by every simulator; a seed does not fix it."""

    def __init__(self, clock: Clock) -> None:
        self._private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "apicrypt.simulator.invalid")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(clock.now() - timedelta(days=1))
            .not_valid_after(clock.now() + timedelta(days=3650))
            .sign(self._private, hashes.SHA256())
        )
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)

    def open(self, credential: str) -> bytes:
        """The password inside, or b"" when there is none to be read."""
        try:
            return self._private.decrypt(base64.b64decode(credential, validate=True), padding.PKCS1v15())
        except (binascii.Error, ValueError):
            return b""


class Initiators:
    def __init__(self, key: CredentialKey) -> None:
        self._key = key
        self._wrong_tries: Bounded[str, int] = Bounded(MAX_SHORTCODES)

    def refusal(self, *, shortcode: str, name: str, credential: str) -> str | None:
        """The ResultCode that refuses this operator, or None when it may act. Counts wrong tries."""
        tries = self._wrong_tries.get(shortcode, 0)
        if tries >= TRIES_BEFORE_LOCK:
            return LOCKED_INITIATOR
        right_password = hmac.compare_digest(self._key.open(credential), INITIATOR_PASSWORD.encode())
        if name == INITIATOR_NAME and right_password:
            self._wrong_tries.pop(shortcode, None)
            return None
        self._wrong_tries[shortcode] = tries + 1
        return WRONG_INITIATOR
