"""`fedseg subject platform` and `fedseg subject serve`: a real process, real HTTPS, and where it refuses to listen."""

import base64
import json
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from fedseg.deploy.certificates import issue, new_authority
from fedseg.node.home import LOCAL, NodeHome
from fedseg.node.rights.leftovers import files_below
from tests.cli.conftest import FEDSEG, Workspace

ID = "a7551968-d5d6-44b2-9831-815ac9017798"
SOMEBODY, SECRET = "north-7", "jane-doe-4711"
URL = "https://localhost"


@pytest.fixture
def pems(workspace: Workspace) -> Workspace:
    """A workspace with ca.pem, cert.pem for localhost, and key.pem."""
    now = datetime.now(UTC)
    authority = new_authority(now)
    issued = issue(authority, ["localhost", "127.0.0.1"], now)
    workspace.write("ca.pem", authority.certificate)
    workspace.write("cert.pem", issued.certificate)
    workspace.write("key.pem", issued.key).chmod(0o600)
    return workspace


def serve(workspace: Workspace, *where: object) -> list[str]:
    pair = ["--url", URL, "--cert", "cert.pem", "--key", "key.pem"]
    return [str(one) for one in ("subject", "serve", "--node", workspace.home(), *pair, *where)]


def admitted(workspace: Workspace, name: str = "tool") -> str:
    ended = workspace.cli.here("subject", "platform", name, "--node", workspace.home(), "--format", "json")
    assert ended.code == 0, ended.err
    token: str = ended.envelope["data"]["token"]
    return token


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def erasure(who: str, id_: str = ID) -> bytes:
    identity = {"identity_type": "controller_customer_id", "identity_value": who, "identity_format": "raw"}
    asked = {
        "regulation": "gdpr",
        "subject_request_id": id_,
        "subject_request_type": "erasure",
        "subject_identities": [identity],
        "submitted_time": f"{datetime.now(UTC) - timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}",
    }
    return json.dumps(asked).encode()


@dataclass
class Running:
    """The service as a process."""

    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def running(workspace: Workspace, *where: object) -> Generator[Running]:
    log = workspace.folder / "service.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [FEDSEG, *serve(workspace, *where)],
            cwd=workspace.folder,
            env=workspace.cli.clean({}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        until = time.monotonic() + 60
        while b"takes requests for north" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        yield Running(process, log)
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.processes
def test_a_platform_hands_in_a_request_over_https_and_an_officer_answers_it(pems: Workspace) -> None:
    token, port, home = admitted(pems), free_port(), pems.home()
    trusted = ssl.create_default_context(cafile=str(pems.folder / "ca.pem"))
    with (
        running(pems, "--port", port) as service,
        httpx.Client(verify=trusted, base_url=f"https://localhost:{port}/v2") as client,
    ):
        assert client.get("/discovery").status_code == 401
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.get("/discovery").json()["processor_certificate"] == f"{URL}/certificate.pem"
        answer = client.post("/requests", content=erasure(SOMEBODY))
        assert answer.status_code == 201
        assert base64.b64decode(answer.json()["encoded_request"]) == erasure(SOMEBODY)
        key = x509.load_pem_x509_certificate(client.get("/certificate.pem").content).public_key()
        assert isinstance(key, EllipticCurvePublicKey)
        key.verify(base64.b64decode(answer.headers["X-OpenDSR-Signature"]), answer.content, ECDSA(SHA256()))
        assert client.get(f"/requests/{ID}").json()["request_status"] == "pending"
        listed = pems.cli.here("subject", "status", "--node", home, "--format", "json").envelope["data"]["requests"]
        assert [(one["ticket"], one["status"]) for one in listed] == [(f"tool/{ID}", "open")]
        pems.write("ids.txt", f"{SOMEBODY}\n")
        taken_up = ["--id-file", "ids.txt", "--ticket", f"tool/{ID}", "--node", home]
        assert pems.cli.here("subject", "erase", *taken_up, "--yes").code == 0
        assert client.get(f"/requests/{ID}").json()["request_status"] == "completed"
        service.process.send_signal(signal.SIGTERM)
        service.process.wait(timeout=30)


@pytest.mark.processes
def test_no_log_and_no_file_of_the_process_names_anybody(pems: Workspace) -> None:
    token, port = admitted(pems), free_port()
    trusted = ssl.create_default_context(cafile=str(pems.folder / "ca.pem"))
    with (
        running(pems, "--port", port) as service,
        httpx.Client(verify=trusted, base_url=f"https://localhost:{port}") as client,
    ):
        client.headers["Authorization"] = f"Bearer {token}"
        other = "475974fa-6b42-4370-bb56-b5d845686bb5"
        sent = [erasure(SECRET), erasure(SECRET)[:-1], SECRET.encode(), erasure(SECRET, SECRET)]
        assert [client.post("/requests", content=one).status_code for one in sent] == [201, 400, 400, 400]
        assert client.get(f"/requests/{SECRET}").status_code == 404
        assert client.post(f"/{SECRET}", content=b"x").status_code == 404
        with (
            socket.create_connection(("127.0.0.1", port)) as raw,
            trusted.wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            tls.sendall(f"GET {SECRET}\r\n\r\n".encode())  # no HTTP
            assert b"400" in tls.recv(4096)
        # What the unit can no longer store: an error of its own, in the middle of a request.
        register = NodeHome.open(pems.home()).path / LOCAL / "rights.db"
        kept = register.read_bytes()
        register.write_bytes(b"damaged" * 999)
        assert client.post("/requests", content=erasure(SECRET, other)).status_code == 503
        register.write_bytes(kept)
        log = service.log.read_bytes()
    assert b"request.noted ticket=tool/" + ID.encode() in log
    needles = [
        SECRET.encode(),
        base64.b64encode(SECRET.encode()),
        base64.b64encode(erasure(SECRET))[120:160],
        token.encode(),
    ]
    for one in [service.log, *files_below(pems.home())]:
        assert not any(needle in one.read_bytes() for needle in needles), one


@pytest.mark.processes
def test_behind_a_proxy_it_listens_at_a_socket_that_others_may_not_use(pems: Workspace) -> None:
    token, at = admitted(pems), pems.folder / "rights.sock"
    with running(pems, "--socket", at) as service:
        assert at.stat().st_mode & 0o007 == 0
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(at)), base_url="http://localhost") as client:
            assert client.get("/discovery").status_code == 401
            found = client.get("/discovery", headers={"Authorization": f"Bearer {token}"})
            assert (found.status_code, found.headers["X-OpenDSR-Processor-Domain"]) == (200, "localhost")
        service.process.send_signal(signal.SIGINT)
        service.process.wait(timeout=30)
    assert not at.exists()


@pytest.mark.processes
def test_two_posts_of_one_request_at_once_note_it_once(pems: Workspace) -> None:
    token, port = admitted(pems), free_port()
    with running(pems, "--port", port, "--plain"):
        asked = erasure(SOMEBODY).decode()
        command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"Authorization: Bearer {token}"]
        command += ["--data-binary", asked, f"http://127.0.0.1:{port}/requests"]
        many = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(8)]
        assert [one.communicate()[0] for one in many] == [b"201"] * 8
    with NodeHome.open(pems.home()).rights() as rights:
        assert len(rights.requests()) == 1


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ([], "one of --port and --socket says"),
        (["--port", "1", "--socket", "x.sock"], "one of --port and --socket says"),
        (["--port", "8443", "--plain", "--host", "0.0.0.0"], "no loopback address"),
        (["--port", "8443", "--plain", "--host", "localhost"], "no loopback address"),
        (["--port", "8443", "--url", "http://north.example"], "--url is not https"),
        (["--port", "8443", "--url", "https://me@north.example"], "--url is not https"),
        (["--port", "8443", "--url", "https://north.example/v2"], "--url is not https"),
        (["--port", "8443", "--url", "https://north.example:x"], "--url is not https"),
        (["--socket", "ca.pem"], "listening there fails: Address already in use"),
    ],
)
def test_it_does_not_start_where_it_could_be_overheard_or_take_a_files_place(
    pems: Workspace, where: list[str], why: str
) -> None:
    admitted(pems)
    ended = pems.cli(*serve(pems), *where)
    assert (ended.code, ended.error[0]) == (2, "E201: the rights service cannot be started")
    assert why in ended.error[1]
    assert (pems.folder / "ca.pem").read_bytes().startswith(b"-----BEGIN CERTIFICATE")


def test_it_does_not_start_without_a_platform(pems: Workspace) -> None:
    ended = pems.cli(*serve(pems, "--port", "8443"))
    assert (ended.code, ended.error[1]) == (2, "why: no platform has a token yet")
    assert ended.error[2] == "fix: fedseg subject platform NAME --node HOME"


def test_a_token_is_shown_once_and_kept_nowhere(pems: Workspace) -> None:
    ended = pems.cli.here("subject", "platform", "tool", "--node", pems.home())
    assert ended.code == 0
    assert "it is kept nowhere" in ended.err
    token = ended.out.strip()
    assert len(token) == 43
    assert not any(token.encode() in content for content in pems.files().values())
    assert admitted(pems) != token
    assert pems.cli.here("subject", "platform", "A B", "--node", pems.home()).code == 2
