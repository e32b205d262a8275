"""SecurityCredential: the initiator's password, encrypted with the certificate of the environment.

PKCS#1 v1.5 over the raw password (daraja/security.md §1). Only the certificate's public key matters: the sandbox's
expired in 2016 and is still the one in use, so dates, chain and names are never checked.
"""

import asyncio
import base64
import time
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Final

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from mpesa_mcp.daraja.oauth import DarajaUnreachable
from mpesa_mcp.daraja.operations import DarajaApp
from mpesa_mcp.daraja.transport import Reply, exchange
from mpesa_mcp.errors import Advice, InputError, ProviderError
from mpesa_mcp.values import Environment, Secret

SIMULATOR_CERTIFICATE_PATH: Final = "/_sim/certificate"
_SIMULATOR_SECONDS: Final = 0.5
_PADDING_BYTES: Final = 11  # what PKCS#1 v1.5 needs beside the message


class InvalidCertificate(InputError):
    """The bytes are no X.509 certificate with an RSA key."""

    code = "invalid_certificate"

    def __init__(self) -> None:
        super().__init__("The certificate must be X.509 with an RSA key, as PEM or DER (CER).", field="certificate")


class CertificateMissing(ProviderError):
    """Production needs a certificate that only the operator can provide."""

    code = "certificate_missing"
    advice = Advice.ASK_A_PERSON

    def __init__(self) -> None:
        super().__init__(
            "Safaricom's production certificate is not configured, so nothing was sent. "
            "The operator must set DARAJA_CERTIFICATE to the file from the Daraja portal."
        )


class PasswordUnusable(InputError):
    """No certificate can encrypt this password."""

    code = "initiator_password"

    def __init__(self) -> None:
        super().__init__("The initiator password is empty or too long.", field="initiator_password")


class Certificates:
    """Which public key encrypts for an app.

    The sandbox's is in the package, production's is the operator's. The simulator makes a new key at each start, so
    it is asked for it, and what it said is good for less time than a start takes: a stale key would lock the initiator.
    """

    def __init__(
        self, *, production: bytes | None, http: httpx2.AsyncClient, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises InvalidCertificate."""
        self._production = None if production is None else load_certificate(production)
        self._http = http
        self._monotonic = monotonic
        self._of_simulators: dict[str, tuple[float, RSAPublicKey]] = {}
        self._asking = asyncio.Lock()

    async def key_for(self, app: DarajaApp) -> RSAPublicKey:
        """Raises CertificateMissing, and for the simulator DarajaUnreachable."""
        match app.environment:
            case Environment.SANDBOX:
                return _sandbox_key()
            case Environment.PRODUCTION:
                if self._production is None:
                    raise CertificateMissing
                return self._production
            case Environment.SIMULATOR:
                return await self._simulator_key(app.base_url)

    async def _simulator_key(self, base_url: str) -> RSAPublicKey:
        async with self._asking:  # of many who need it at once, one asks
            return self._fresh(base_url) or await self._ask_simulator(base_url)

    def _fresh(self, base_url: str) -> RSAPublicKey | None:
        good_until, key = self._of_simulators.get(base_url, (0.0, None))
        return key if self._monotonic() < good_until else None

    async def _ask_simulator(self, base_url: str) -> RSAPublicKey:
        now = self._monotonic()
        reply = await exchange(self._http, "GET", base_url + SIMULATOR_CERTIFICATE_PATH, headers={})
        if not isinstance(reply, Reply):
            raise DarajaUnreachable(reply.code)
        try:
            key = load_certificate(reply.body)
        except InvalidCertificate as unreadable:
            raise DarajaUnreachable("unreadable") from unreadable
        self._of_simulators[base_url] = now + _SIMULATOR_SECONDS, key
        return key


def security_credential(password: Secret, key: RSAPublicKey) -> str:
    """The encrypted password in base64, one line. Differs at each call, since the padding is random.

    Raises PasswordUnusable when the password is too long for the key.
    """
    plain = password.reveal().encode()
    if not 0 < len(plain) <= key.key_size // 8 - _PADDING_BYTES:
        raise PasswordUnusable
    return base64.b64encode(key.encrypt(plain, PKCS1v15())).decode()


def load_certificate(certificate: bytes) -> RSAPublicKey:
    """The public key of an X.509 certificate, PEM or DER. Raises InvalidCertificate."""
    key = _parse(certificate).public_key()
    if not isinstance(key, RSAPublicKey):
        raise InvalidCertificate
    return key


def certificate_sha256(certificate: bytes) -> str:
    """The fingerprint people compare, `94:17:91:…`. Raises InvalidCertificate."""
    return _parse(certificate).fingerprint(SHA256()).hex(":").upper()


@cache
def _sandbox_key() -> RSAPublicKey:
    return load_certificate(sandbox_certificate())


def sandbox_certificate() -> bytes:
    """The public certificate of Safaricom's sandbox, as it is in the package."""
    return (files("mpesa_mcp.daraja") / "certificates" / "sandbox.cer").read_bytes()


def _parse(certificate: bytes) -> x509.Certificate:
    load = x509.load_pem_x509_certificate if b"-----BEGIN" in certificate else x509.load_der_x509_certificate
    try:
        return load(certificate)
    except ValueError as unreadable:
        raise InvalidCertificate from unreadable
