"""A node asks before it starts: is the server there, is it the right one, and do the clocks agree?"""

import email.utils
import socket
import ssl
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fedseg.deploy.certificates import issue, new_authority
from fedseg.deploy.preflight import ask_health, check_server
from fedseg.deploy.settings import Address
from fedseg.deploy.users import caller
from fedseg.errors import CertificateError, ClockError, UnreachableError

NOW = datetime.now(UTC)
DATE = email.utils.format_datetime(NOW.replace(microsecond=0), usegmt=True)
WELL = f"HTTP/1.1 200 OK\r\nDate: {DATE}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.crt, and server.pem for localhost with its key."""
    made = tmp_path_factory.mktemp("certificates")
    authority = new_authority(NOW)
    issued = issue(authority, ["localhost"], NOW)
    (made / "ca.crt").write_bytes(authority.certificate)
    (made / "other.crt").write_bytes(new_authority(NOW).certificate)
    (made / "server.pem").write_bytes(issued.certificate + issued.key)
    return made


@contextmanager
def server(folder: Path, answer: bytes, *, speaks: Callable[[ssl.SSLContext], object] | None = None) -> Generator[int]:
    """A port on which one request gets these bytes over TLS; `speaks` changes the TLS, or answers in the clear."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    clear = speaks is not None and speaks(context) == "clear"

    def serve() -> None:
        plain, _ = listener.accept()
        with plain:
            try:
                spoken = plain if clear else context.wrap_socket(plain, server_side=True)
                spoken.recv(4096)
                spoken.sendall(answer)
                spoken.close()
            except OSError:  # the other side did not like us
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def test_a_server_that_is_well_tells_its_time(folder: Path) -> None:
    with server(folder, WELL) as port:
        assert ask_health(Address("127.0.0.1", port), "localhost", folder / "ca.crt").date == DATE


@pytest.mark.parametrize(
    "answer",
    [
        WELL.replace(b"200 OK", b"502 Bad Gateway"),
        WELL.replace(b"Date", b"Dote"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
    ids=["another status", "no date", "another protocol", "nothing"],
)
def test_any_other_answer_is_none(folder: Path, answer: bytes) -> None:
    with server(folder, answer) as port, pytest.raises(UnreachableError):
        ask_health(Address("127.0.0.1", port), "localhost", folder / "ca.crt")


def test_a_server_without_tls_is_none(folder: Path) -> None:
    with server(folder, WELL, speaks=lambda _: "clear") as port, pytest.raises(UnreachableError, match=r"TLS 1\.3"):
        ask_health(Address("127.0.0.1", port), "localhost", folder / "ca.crt")


def test_a_server_with_an_older_tls_is_none(folder: Path) -> None:
    def older(context: ssl.SSLContext) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    with server(folder, WELL, speaks=older) as port, pytest.raises(UnreachableError, match=r"TLS 1\.3"):
        ask_health(Address("127.0.0.1", port), "localhost", folder / "ca.crt")


@pytest.mark.parametrize(("name", "ca"), [("localhost", "other.crt"), ("seg.example", "ca.crt")])
def test_a_server_that_nobody_vouches_for_is_a_matter_of_trust(folder: Path, name: str, ca: str) -> None:
    with server(folder, WELL) as port, pytest.raises(CertificateError) as raised:
        ask_health(Address("127.0.0.1", port), name, folder / ca)

    assert raised.value.code == "E707"


def test_without_an_authority_nobody_is_asked(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.crt").touch()
    for ca in (tmp_path / "missing.crt", tmp_path / "empty.crt"):
        with pytest.raises(CertificateError, match=r"cannot be used"):
            ask_health(Address("127.0.0.1", 1), "localhost", ca)


def test_nobody_there_is_unreachable(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnreachableError, match="refused"):
        ask_health(Address("127.0.0.1", port), "localhost", folder / "ca.crt")


@pytest.mark.deployment
@pytest.mark.parametrize(("ahead", "fine"), [(0.5, True), (4.4, True), (6, False), (-299, True), (-302, False)])
def test_a_clock_may_be_4_seconds_ahead_and_300_behind(folder: Path, ahead: float, fine: bool) -> None:
    def clock() -> datetime:
        return NOW.replace(microsecond=0) + timedelta(seconds=ahead)

    with server(folder, WELL) as port:
        if fine:
            check_server(caller(), f"localhost:{port}", folder / "ca.crt", clock=clock)
            return
        with pytest.raises(ClockError, match=rf"{abs(ahead - 0.5):.0f} s (ahead|behind)") as raised:
            check_server(caller(), f"localhost:{port}", folder / "ca.crt", clock=clock)
    assert raised.value.fix.endswith("timedatectl set-ntp true")


@pytest.mark.deployment
def test_what_the_network_user_finds_is_raised_as_it_is(folder: Path) -> None:
    with server(folder, WELL) as port, pytest.raises(CertificateError, match=r"other\.crt"):
        check_server(caller(), f"localhost:{port}", folder / "other.crt")
