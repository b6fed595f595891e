"""Our own authority vouches for the server under its names, for as long as said, and for nobody else."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from fedseg.deploy.certificates import (
    Issued,
    fingerprint,
    issue,
    new_authority,
    new_node_key,
    require_authority,
    valid_until,
)
from fedseg.errors import CertificateError, KeyFileError

NOW = datetime.now(UTC)
KNOWN_KEY = (
    b"ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBJiKx0LcMhcXoNMkvPZJ9sXPtykg+1xLu"
    b"vj/8PrzoKZknxQyBV87yHsqkb25X8O9dns+rqYltA82bN5pBoQcj+mdW97AR1BMV90P6tEz8d6fOtduEGd2k9aqHC9Ph3hjKw== known"
)
KNOWN_FINGERPRINT = "SHA256:PxvN7tgZL94GiIpYEJkdFz/d+I2EdnMdvBIIpgwriFs"
"""As `ssh-keygen -l` of OpenSSH 9.2 shows it."""
HOSTS = ("seg.example", "10.0.0.1", "2001:db8::1")


@pytest.fixture(scope="module")
def authority() -> Issued:
    return new_authority(NOW)


@pytest.fixture(scope="module")
def server(authority: Issued) -> Issued:
    return issue(authority, HOSTS, NOW)


def shake_hands(name: str, authority: Issued, server: Issued, folder: Path) -> None:
    """A TLS handshake in memory, as strict as Python's newest defaults."""
    (folder / "pem").write_bytes(server.certificate + server.key)
    ours = ssl.create_default_context(cadata=authority.certificate.decode())
    ours.verify_flags |= ssl.VERIFY_X509_STRICT
    ours.minimum_version = ssl.TLSVersion.TLSv1_3
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(folder / "pem")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [ours.wrap_bio(down, up, server_hostname=name), theirs.wrap_bio(up, down, server_side=True)]
    for _ in range(3):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("name", HOSTS)
def test_the_certificate_holds_for_each_name_and_address(
    name: str, authority: Issued, server: Issued, tmp_path: Path
) -> None:
    shake_hands(name, authority, server, tmp_path)


@pytest.mark.parametrize("name", ["other.example", "10.0.0.2"])
def test_it_holds_for_no_other_name(name: str, authority: Issued, server: Issued, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(name, authority, server, tmp_path)


def test_another_authority_does_not_vouch_for_it(server: Issued, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands("seg.example", new_authority(NOW), server, tmp_path)


def test_the_authority_lives_for_ten_years_and_the_server_for_825_days(authority: Issued, server: Issued) -> None:
    whole = NOW.replace(microsecond=0)
    assert valid_until(authority.certificate) >= whole.replace(year=whole.year + 10, day=min(whole.day, 28))
    assert valid_until(server.certificate) == whole + timedelta(days=825)


def test_a_node_whose_clock_is_a_day_slow_finds_the_certificate_valid(server: Issued) -> None:
    found = x509.load_pem_x509_certificate(server.certificate)
    assert found.not_valid_before_utc <= NOW - timedelta(hours=23)


def test_the_authority_can_vouch_for_no_further_authority(authority: Issued) -> None:
    found = x509.load_pem_x509_certificate(authority.certificate)
    assert found.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_a_nodes_key_is_on_p384_in_opensshs_format() -> None:
    pair = new_node_key("north")

    private = load_ssh_private_key(pair.private, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1"
    assert load_ssh_public_key(pair.public) == private.public_key()
    assert pair.public.endswith(b" north\n")


def test_the_fingerprint_is_what_ssh_keygen_shows() -> None:
    assert fingerprint(KNOWN_KEY) == KNOWN_FINGERPRINT


@pytest.mark.parametrize("junk", [b"", b"ecdsa", b"ecdsa-sha2-nistp384 ???", b"-----BEGIN PUBLIC KEY-----"])
def test_what_is_no_public_key_has_no_fingerprint(junk: bytes) -> None:
    with pytest.raises(KeyFileError):
        fingerprint(junk)


def test_a_servers_own_certificate_is_no_authority(authority: Issued, server: Issued) -> None:
    require_authority(authority.certificate)
    for wrong in (server.certificate, authority.key, b"", authority.certificate * 2, b"-----BEGIN CERTIFICATE-----"):
        with pytest.raises(CertificateError):
            require_authority(wrong)
