"""A unit's rights service, in this process: who may ask, what is noted, and that nobody is named anywhere."""

import asyncio
import base64
import json
import logging
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from starlette.applications import Starlette

from fedseg.deploy.certificates import issue, new_authority
from fedseg.errors import CertificateError, KeyFileError, SettingsError
from fedseg.node.home import LOCAL, NodeHome
from fedseg.node.rights import api as rights_api
from fedseg.node.rights.api import ASKED_MAX, BODY_BYTES_MAX, Address, LineWithoutCause, application
from fedseg.node.rights.erasure import erase
from fedseg.node.rights.leftovers import files_below
from fedseg.node.rights.platforms import admit, load_platforms
from fedseg.node.rights.requests import Order
from fedseg.node.rights.seal import Seal
from fedseg.policy.rights import Denial, SubjectRequest
from tests.small_federation import NOW, SmallFederation

ID = "a7551968-d5d6-44b2-9831-815ac9017798"
OTHER_ID = "475974fa-6b42-4370-bb56-b5d845686bb5"
SOMEBODY, NOBODY = "north-7", "nobody-heard-of-me"


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for north.example and its key."""
    folder, now = tmp_path_factory.mktemp("pems"), datetime.now(UTC)
    issued = issue(new_authority(now), ["north.example"], now)
    (folder / "cert.pem").write_bytes(issued.certificate)
    (folder / "key.pem").write_bytes(issued.key)
    (folder / "key.pem").chmod(0o600)
    return folder / "cert.pem", folder / "key.pem"


Body = bytes | AsyncIterator[bytes] | None


@dataclass
class Service:
    """The service of a unit, and a platform that speaks to it."""

    home: NodeHome
    made: Starlette
    token: str

    def ask(self, method: str, path: str, content: Body = None, token: str | None = None) -> httpx.Response:
        return self.send(method, path, content, {"Authorization": f"Bearer {token or self.token}"})

    def send(
        self, method: str, path: str, content: Body = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.made, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="https://north.example:8443") as client:
                return await client.request(method, path, content=content, headers=headers)

        return asyncio.run(send())

    def post(self, who: str = SOMEBODY, token: str | None = None, **changes: Any) -> httpx.Response:
        return self.ask("POST", "/requests", body(who, **changes), token)

    def tickets(self) -> list[str]:
        with self.home.rights() as rights:
            return [one.ticket for one in rights.requests()]


def body(who: str = SOMEBODY, **changes: Any) -> bytes:
    identity = {"identity_type": "controller_customer_id", "identity_value": who, "identity_format": "raw"}
    asked = {
        "regulation": "gdpr",
        "subject_request_id": ID,
        "subject_request_type": "erasure",
        "subject_identities": [identity],
        "submitted_time": "2025-05-30T08:00:00Z",
        **changes,
    }
    return json.dumps(asked).encode()


@pytest.fixture
def service(federation: SmallFederation, pems: tuple[Path, Path]) -> Service:
    home = federation.home("north")
    token = admit(home, "tool", "controller_customer_id")
    made = application(home, Seal.load(*pems), Address("https://north.example:8443", "north.example"), lambda: NOW)
    return Service(home, made, token)


def test_a_request_is_noted_with_its_clock_and_answered_in_opendsrs_form(service: Service) -> None:
    answer = service.post()
    assert answer.status_code == 201
    assert answer.json() == {
        "controller_id": "tool",
        "expected_completion_time": "2025-06-30T23:59:59Z",
        "received_time": "2025-06-01T12:00:00Z",
        "encoded_request": base64.b64encode(body()).decode(),
        "subject_request_id": ID,
    }
    assert service.tickets() == [f"tool/{ID}"]
    told = service.ask("GET", f"/requests/{ID}")
    assert (told.status_code, told.json()["request_status"]) == (200, "pending")
    assert told.json().keys() == {
        "controller_id",
        "expected_completion_time",
        "subject_request_id",
        "request_status",
        "api_version",
    }


def test_a_person_at_the_unit_takes_it_up_by_its_ticket(service: Service) -> None:
    service.post()
    (done,) = erase(service.home, Order([SOMEBODY.encode()], f"tool/{ID}"), NOW)
    assert done.due.isoformat() == "2025-06-30"
    assert service.ask("GET", f"/requests/{ID}").json()["request_status"] == "completed"
    assert service.tickets() == [f"tool/{ID}"]


def test_every_answer_is_signed_with_the_certificate_that_discovery_names(service: Service) -> None:
    found = service.ask("GET", "/v2/discovery")
    assert found.json() == {
        "api_version": "2.0",
        "supported_identities": [{"identity_type": "controller_customer_id", "identity_format": "raw"}],
        "supported_subject_request_types": ["access", "portability", "erasure"],
        "processor_certificate": "https://north.example:8443/certificate.pem",
    }
    pem = service.send("GET", "/certificate.pem").content
    key = x509.load_pem_x509_certificate(pem).public_key()
    assert isinstance(key, EllipticCurvePublicKey)
    answers = [found, service.post(), service.ask("GET", f"/requests/{ID}"), service.ask("DELETE", f"/requests/{ID}")]
    assert [one.status_code for one in answers] == [200, 201, 200, 202]
    for one in answers:
        assert one.headers["X-OpenDSR-Processor-Domain"] == "north.example"
        assert one.headers["Cache-Control"] == "no-store"
        key.verify(base64.b64decode(one.headers["X-OpenDSR-Signature"]), one.content, ECDSA(SHA256()))


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic {token}", "{token}"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/discovery"), ("POST", "/requests"), ("GET", f"/requests/{ID}")])
def test_without_the_token_there_is_no_answer(service: Service, header: str | None, method: str, path: str) -> None:
    headers = {} if header is None else {"Authorization": header.format(token=service.token)}
    answer = service.send(method, path, body() if method == "POST" else None, headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json()["error"]["message"] == "Unauthorized"
    assert service.tickets() == []


def test_a_new_token_ends_the_old_one_at_once_and_no_token_is_kept(service: Service) -> None:
    new = admit(service.home, "tool", "controller_customer_id")
    assert service.ask("GET", "/discovery").status_code == 401
    assert service.ask("GET", "/discovery", token=new).status_code == 200
    kept = service.home.path / LOCAL / "platforms.toml"
    assert kept.stat().st_mode & 0o077 == 0
    assert not any(new.encode() in one.read_bytes() for one in files_below(service.home.path))
    kept.write_text("[tool]\ntoken = 1\n")
    assert service.ask("GET", "/discovery", token=new).status_code == 503


def test_a_platform_sees_its_own_requests_alone(service: Service) -> None:
    other = admit(service.home, "other", "controller_customer_id")
    service.post()
    assert service.ask("GET", f"/requests/{ID}", token=other).status_code == 404
    assert service.ask("DELETE", f"/requests/{ID}", token=other).status_code == 404
    assert service.post(NOBODY, other).status_code == 201
    assert sorted(service.tickets()) == [f"other/{ID}", f"tool/{ID}"]
    assert service.ask("DELETE", f"/requests/{ID}", token=other).status_code == 202
    assert service.ask("GET", f"/requests/{ID}").json()["request_status"] == "pending"


def test_the_same_request_again_is_the_same_request(service: Service) -> None:
    first, again = service.post(), service.post()
    assert (again.status_code, again.json()) == (201, first.json())
    assert len(service.tickets()) == 1


@pytest.mark.parametrize(
    ("who", "changes"),
    [
        (NOBODY, {}),
        (SOMEBODY, {"subject_request_type": "access"}),
        (SOMEBODY, {"regulation": "ccpa"}),
        (SOMEBODY, {"submitted_time": "2025-05-29T08:00:00Z"}),
    ],
)
def test_another_request_under_the_same_id_is_refused(service: Service, who: str, changes: dict[str, str]) -> None:
    service.post()
    assert service.post(who, **changes).status_code == 409
    assert len(service.tickets()) == 1


def test_the_id_of_a_request_that_has_ended_is_never_used_again(service: Service) -> None:
    service.post()
    erase(service.home, Order([SOMEBODY.encode()], f"tool/{ID}"), NOW)
    assert service.post().status_code == 409


def test_a_request_is_cancelled_only_while_it_is_pending(service: Service) -> None:
    service.post()
    assert service.ask("DELETE", f"/requests/{ID}").json() == {
        "controller_id": "tool",
        "received_time": "2025-06-01T12:00:00Z",
        "subject_request_id": ID,
        "api_version": "2.0",
    }
    assert service.ask("GET", f"/requests/{ID}").json()["request_status"] == "cancelled"
    assert service.ask("DELETE", f"/requests/{ID}").status_code == 409
    service.post(subject_request_id=OTHER_ID)
    with service.home.rights() as rights:
        rights.change([one.request.id for one in rights.with_ticket(f"tool/{OTHER_ID}")], SubjectRequest.start)
    late = service.ask("DELETE", f"/requests/{OTHER_ID}")
    assert late.status_code == 409
    assert "in_progress" in late.json()["error"]["message"]


def test_a_denial_is_completed_without_results_and_says_why(service: Service) -> None:
    service.post()
    with service.home.rights() as rights:
        (one,) = rights.with_ticket(f"tool/{ID}")
        rights.change([one.request.id], lambda asked: asked.deny(NOW.date(), Denial.NO_MATCH, "what they were told"))
    told = service.ask("GET", f"/requests/{ID}")
    assert (told.json()["request_status"], told.json()["results_count"]) == ("completed", 0)
    assert told.json()["extensions"] == {"north.example": {"status": "denied", "reasons": ["no_match"]}}
    assert "what they were told" not in told.text


def test_people_of_whom_the_unit_never_heard_get_the_same_answers(service: Service) -> None:
    known, unknown = service.post(SOMEBODY), service.post(NOBODY, subject_request_id=OTHER_ID)
    assert (known.status_code, known.headers.keys()) == (unknown.status_code, unknown.headers.keys())
    differ = {name for name, value in known.json().items() if unknown.json()[name] != value}
    assert differ == {"encoded_request", "subject_request_id"}
    states = [service.ask("GET", f"/requests/{one}").json() for one in (ID, OTHER_ID)]
    assert [{**one, "subject_request_id": None} for one in states] == [{**states[0], "subject_request_id": None}] * 2


def test_no_answer_waits_for_the_customers_file(service: Service) -> None:
    (service.home.path / service.home.settings.source.path).unlink()
    assert service.post().status_code == 201


def test_nobody_is_named_in_a_log_a_file_or_an_error(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answers = [
        service.post(NOBODY),
        service.post(NOBODY, subject_request_type="access"),
        service.post(NOBODY, submitted_time=NOBODY),
        service.post(NOBODY, **{NOBODY: NOBODY}),
        service.post(NOBODY, subject_identities=[{NOBODY: NOBODY}]),
        service.post(NOBODY, subject_request_id=NOBODY),
        service.post(NOBODY, extensions={NOBODY: NOBODY}, subject_request_id=OTHER_ID),
        service.ask("POST", "/requests", NOBODY.encode()),
        service.ask("GET", f"/requests/{NOBODY}"),
        service.ask("DELETE", f"/requests/{NOBODY}"),
        service.ask("GET", f"/{NOBODY}"),
    ]
    assert [one.status_code for one in answers] == [201, 409, 400, 400, 400, 400, 201, 400, 404, 404, 404]
    encoded = base64.b64encode(body(NOBODY))
    for one in answers:
        assert NOBODY not in one.text
        if one.status_code != 201:
            assert "encoded_request" not in one.text
            assert one.json()["error"]["code"] == one.status_code
    logged = "\n".join(one.getMessage() for one in caplog.records if not one.name.startswith("httpx"))
    assert f"request.noted ticket=tool/{ID}" in logged
    kept = [logged.encode(), *(one.read_bytes() for one in files_below(service.home.path))]
    needles = (NOBODY.encode(), base64.b64encode(NOBODY.encode()), encoded, encoded[40:80])
    assert not any(needle in one for needle in needles for one in kept)


def test_what_goes_wrong_unforeseen_is_logged_by_its_class_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError(NOBODY)

    monkeypatch.setattr(rights_api, "receive", fail)
    answer = service.post(NOBODY)
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    cause = ZeroDivisionError(NOBODY)
    record = logging.LogRecord("x", logging.ERROR, "", 0, "went\nwrong", None, (type(cause), cause, None))
    line = LineWithoutCause().format(record)
    assert line.endswith("ERROR went wrong ZeroDivisionError")
    assert NOBODY not in line


def test_what_ails_the_unit_is_not_told(service: Service) -> None:
    register = service.home.path / LOCAL / "rights.db"
    register.write_bytes(b"no register" * 99)
    register.chmod(0o600)
    answer = service.post()
    assert answer.status_code == 503
    assert str(service.home.path) not in answer.text
    assert answer.json()["error"]["errors"][0]["reason"] == "E801"


def test_a_body_too_large_is_not_read(service: Service) -> None:
    assert service.post(extensions={"x": "y" * BODY_BYTES_MAX}).status_code == 413
    assert service.tickets() == []


def test_a_body_that_does_not_come_is_not_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rights_api, "BODY_SECONDS", 0.2)

    async def slow() -> AsyncIterator[bytes]:
        yield body()[:20]
        await asyncio.sleep(30)

    assert service.ask("POST", "/requests", slow()).status_code == 408
    assert service.tickets() == []


def test_a_platform_that_asks_too_often_waits_and_no_other_does(service: Service) -> None:
    other = admit(service.home, "other", "controller_customer_id")
    for _ in range(ASKED_MAX):
        assert service.ask("GET", "/discovery").status_code == 200
    refused = service.ask("GET", "/discovery")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 61
    assert service.ask("GET", "/discovery", token=other).status_code == 200


def test_a_platform_needs_a_name_and_a_type(service: Service) -> None:
    for name, kind in (("Tool", "email"), ("../x", "email"), ("tool", "E-Mail")):
        with pytest.raises(SettingsError, match="platforms cannot be used"):
            admit(service.home, name, kind)
    assert load_platforms(service.home).keys() == {"tool"}


def test_a_seal_may_have_an_rsa_key(tmp_path: Path) -> None:
    at = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=north.example", *at],
        check=True,
        capture_output=True,
    )
    (tmp_path / "key.pem").chmod(0o600)
    seal = Seal.load(tmp_path / "cert.pem", tmp_path / "key.pem")
    key = x509.load_pem_x509_certificate(seal.certificate).public_key()
    assert isinstance(key, RSAPublicKey)
    key.verify(base64.b64decode(seal.sign(b"answer")), b"answer", PKCS1v15(), SHA256())


def test_a_seal_is_a_certificate_with_its_own_private_key(pems: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = pems
    other = tmp_path / "other.pem"
    other.write_bytes(new_authority(datetime.now(UTC) - timedelta(days=1)).key)
    with pytest.raises(KeyFileError, match="others may read"):
        Seal.load(certificate, other)
    other.chmod(0o600)
    with pytest.raises(CertificateError, match="another key"):
        Seal.load(certificate, other)
    for wrong in (tmp_path / "none.pem", tmp_path):
        with pytest.raises(CertificateError, match="read as PEM"):
            Seal.load(wrong, key)
    other.write_bytes(b"x")
    with pytest.raises(KeyFileError, match="no private key"):
        Seal.load(certificate, other)
