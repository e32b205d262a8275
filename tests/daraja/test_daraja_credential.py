"""SecurityCredential opens with the private key, and no date, chain or name is looked at."""

import base64
from datetime import UTC, datetime

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mpesa_mcp.daraja.credential import (
    CertificateMissing,
    Certificates,
    InvalidCertificate,
    certificate_sha256,
    load_certificate,
    sandbox_certificate,
    security_credential,
)
from mpesa_mcp.daraja.oauth import DarajaUnreachable
from mpesa_mcp.daraja.operations import DarajaApp
from mpesa_mcp.errors import InputError
from mpesa_mcp.values import Environment, Secret

KEY = rsa.generate_private_key(65537, 2048)


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, encoding: Encoding) -> bytes:
    """Expired long ago, as Safaricom's are."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "apicrypt.example")])
    built = x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=1,
        not_valid_before=datetime(2014, 1, 1, tzinfo=UTC),
        not_valid_after=datetime(2016, 1, 1, tzinfo=UTC),
    )
    return built.sign(key, SHA256()).public_bytes(encoding)


def app(environment: Environment) -> DarajaApp:
    return DarajaApp(environment, "https://daraja.test", "key", Secret("secret"))


def http(handler: object = None) -> httpx2.AsyncClient:
    answer = handler if isinstance(handler, httpx2.Response) else httpx2.Response(500)
    return httpx2.AsyncClient(transport=httpx2.MockTransport(lambda request: answer))


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_the_password_opens_with_the_private_key(encoding: Encoding) -> None:
    public = load_certificate(certificate(KEY, encoding))
    sealed = security_credential(Secret("Pässword 1!"), public)
    assert len(sealed) == 344
    assert "\n" not in sealed
    assert KEY.decrypt(base64.b64decode(sealed), PKCS1v15()).decode() == "Pässword 1!"
    assert sealed != security_credential(Secret("Pässword 1!"), public)


@pytest.mark.parametrize("password", ["", "x" * 246, "ä" * 123])
def test_a_password_that_does_not_fit_is_refused(password: str) -> None:
    with pytest.raises(InputError):
        security_credential(Secret(password), KEY.public_key())


@pytest.mark.parametrize(
    "junk", [b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\x30\x82"]
)
def test_junk_is_no_certificate(junk: bytes) -> None:
    with pytest.raises(InvalidCertificate):
        load_certificate(junk)
    with pytest.raises(InvalidCertificate):
        certificate_sha256(junk)


def test_only_rsa_certificates_encrypt() -> None:
    with pytest.raises(InvalidCertificate):
        load_certificate(certificate(ec.generate_private_key(ec.SECP256R1()), Encoding.PEM))


def test_the_packaged_sandbox_certificate_is_the_known_one() -> None:
    assert load_certificate(sandbox_certificate()).key_size == 2048
    assert certificate_sha256(sandbox_certificate()).startswith("A5:42:C3:C6:7B:59:8A:33")


@pytest.mark.anyio
async def test_each_environment_has_its_own_key() -> None:
    pem = certificate(KEY, Encoding.PEM)
    other = rsa.generate_private_key(65537, 2048)
    async with http(httpx2.Response(200, content=certificate(other, Encoding.PEM))) as client:
        certificates = Certificates(production=pem, http=client)
        production = await certificates.key_for(app(Environment.PRODUCTION))
        simulator = await certificates.key_for(app(Environment.SIMULATOR))
        sandbox = await certificates.key_for(app(Environment.SANDBOX))
    assert production == KEY.public_key()
    assert simulator == other.public_key()
    assert sandbox == load_certificate(sandbox_certificate())


@pytest.mark.anyio
async def test_production_without_a_certificate_is_a_task_for_the_operator() -> None:
    async with http() as client:
        with pytest.raises(CertificateMissing):
            await Certificates(production=None, http=client).key_for(app(Environment.PRODUCTION))


@pytest.mark.anyio
async def test_a_restarted_simulator_is_asked_for_its_new_key() -> None:
    keys = [rsa.generate_private_key(65537, 2048), KEY]
    answers = iter([certificate(key, Encoding.PEM) for key in keys])
    transport = httpx2.MockTransport(lambda request: httpx2.Response(200, content=next(answers)))
    seconds = [0.0]
    async with httpx2.AsyncClient(transport=transport) as client:
        certificates = Certificates(production=None, http=client, monotonic=lambda: seconds[0])
        for key in keys:
            assert await certificates.key_for(app(Environment.SIMULATOR)) == key.public_key()
            seconds[0] += 0.4
            # So soon it cannot have been restarted.
            assert await certificates.key_for(app(Environment.SIMULATOR)) == key.public_key()
            seconds[0] += 0.2


@pytest.mark.anyio
async def test_a_simulator_that_gives_no_certificate_is_unreachable() -> None:
    async with http(httpx2.Response(404, content=b"no")) as client:
        with pytest.raises(DarajaUnreachable):
            await Certificates(production=None, http=client).key_for(app(Environment.SIMULATOR))
