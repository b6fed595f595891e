"""Every recipient of a person's data is told over real HTTPS, again until it acknowledges; until then nothing is done."""

import asyncio
import base64
import multiprocessing
import os
import signal
import socket
import sqlite3
import ssl
import sys
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from fedseg.audit.certificate import verify_certificate
from fedseg.deploy.certificates import issue, new_authority
from fedseg.errors import CertificateError, DataError, PolicyError, RightsRequestError, SettingsError
from fedseg.node.home import LOCAL, RIGHTS_FILE, NodeHome
from fedseg.node.rights import post
from fedseg.node.rights.api import Address, application
from fedseg.node.rights.batch import log_days
from fedseg.node.rights.erasure import conclude, erase, proven_certificate
from fedseg.node.rights.handed_over import HandedOver, record_handed_over
from fedseg.node.rights.identities import FOLDER
from fedseg.node.rights.leftovers import files_below, find_leftovers
from fedseg.node.rights.notice_register import NoticeRegister
from fedseg.node.rights.notify import notify
from fedseg.node.rights.opendsr import read_request
from fedseg.node.rights.platforms import admit
from fedseg.node.rights.post import Sender
from fedseg.node.rights.register import RightsRegister
from fedseg.node.rights.requests import Order, held_about, rectify, set_vetoes
from fedseg.node.rights.seal import Seal
from fedseg.policy.notices import Exemption, Notice, NoticeStatus, is_escalated
from fedseg.policy.rights import Denial, Right, Status, SubjectRequest
from tests.https_endpoint import Endpoint, authority_and_pair, https_endpoint, write_pair
from tests.small_federation import CUSTOMERS_FILE, NOW, blobs, customers_csv, make_unit, names_of, policy_document

NEEDLE = "erika.mustermann@example.com"
ORDER = Order([NEEDLE.encode()], "T-1")
RECIPIENTS = "recipients:\n  - {{id: mailer, kind: processor, endpoint: '{url}/rights'}}\n"
OTHER = "  - {{id: crm, kind: controller, endpoint: '{url}/crm'}}\n"


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """An authority, and a certificate for this machine with its key."""
    return authority_and_pair(tmp_path_factory.mktemp("pems"), ["localhost", "127.0.0.1"])


@pytest.fixture
def sender(pems: tuple[Path, Path, Path]) -> Sender:
    ca, certificate, key = pems
    return Sender.load(certificate, key, "localhost", ca)


@contextmanager
def https_endpoint_of(sender: Sender) -> Generator[Endpoint]:
    """Another server on this machine, whose certificate the sender believes."""
    with TemporaryDirectory() as folder:
        path = Path(folder)
        now = datetime.now(UTC)
        authority = new_authority(now)
        sender.trusted.load_verify_locations(cadata=authority.certificate.decode())
        with https_endpoint(*write_pair(path, issue(authority, ["localhost", "127.0.0.1"], now))) as endpoint:
            yield endpoint


@pytest.fixture
def mailer(pems: tuple[Path, Path, Path]) -> Generator[Endpoint]:
    with https_endpoint(pems[1], pems[2]) as endpoint:
        yield endpoint


def unit(path: Path, recipients: str) -> NodeHome:
    """A unit with the person among its customers."""
    names = [*names_of("north", 30), NEEDLE]
    customers = customers_csv(zip(names, blobs(len(names), 1), strict=True))
    policy = policy_document(approvals=recipients)
    return make_unit(path, "north", consenting=names, customers=customers, policy=policy)


def hand_over(home: NodeHome, folder: Path, *names: str, to: str = "mailer", now: datetime = NOW) -> int:
    path = folder / f"list-{to}.csv"
    path.write_text("segment,customer\n" + "".join(f"2,{one}\n" for one in names), "utf-8")
    return record_handed_over(home, HandedOver(to, path, "customer"), now)


@pytest.fixture
def home(tmp_path: Path, mailer: Endpoint) -> NodeHome:
    """A unit that has handed the person's data to the mailer."""
    made = unit(tmp_path / "north", RECIPIENTS.format(url=mailer.url))
    hand_over(made, tmp_path, NEEDLE, "north-1", "north-2")
    return made


def state(home: NodeHome) -> tuple[SubjectRequest, list[Notice]]:
    """The one request of the unit, and its notices."""
    with home.rights() as rights:
        (one,) = rights.requests()
        return one.request, rights.notices.notices().get(one.request.id, [])


def files_with_needle(home: NodeHome) -> list[Path]:
    return find_leftovers(files_below(home.path), [NEEDLE.encode()], [])


def keys(home: NodeHome) -> list[Path]:
    return list((home.path / LOCAL / FOLDER).glob("*"))


def test_an_erasure_is_done_when_the_recipient_has_acknowledged(
    home: NodeHome, mailer: Endpoint, sender: Sender, pems: tuple[Path, Path, Path]
) -> None:
    (begun,) = erase(home, ORDER, NOW)
    assert begun.status is Status.IN_PROGRESS
    (told,) = notify(home, sender, NOW).notices
    assert (told.recipient, told.status, told.attempts) == ("mailer", NoticeStatus.ACKNOWLEDGED, 1)
    request, _ = state(home)
    assert (request.id, request.status, request.ended) == (begun.id, Status.FULFILLED, NOW.date())

    (got,) = mailer.received
    assert got.path == "/rights"
    asked = read_request(got.body, "controller_customer_id")
    assert (asked.subject_request_id, asked.right) == (told.id, Right.ERASURE)
    assert [one.identity_value for one in asked.subject_identities] == [NEEDLE]
    assert asked.extensions == {"localhost": {"controller": "Small Retail, Example City"}}
    assert got.headers["x-opendsr-processor-domain"] == "localhost"
    key = x509.load_pem_x509_certificate(pems[1].read_bytes()).public_key()
    assert isinstance(key, EllipticCurvePublicKey)
    key.verify(base64.b64decode(got.headers["x-opendsr-signature"]), got.body, ECDSA(SHA256()))

    log_days(home, NOW + timedelta(days=1))
    certified = verify_certificate(proven_certificate(home, request.id), [home.key.public]).erasure
    assert [(one.recipient, one.status, one.day) for one in certified.recipients] == [
        ("mailer", "acknowledged", "2025-06-01")
    ]
    assert not notify(home, sender, NOW + timedelta(days=9)).notices


def test_nobody_is_named_in_any_file_while_a_recipient_is_waited_for_nor_afterwards(
    home: NodeHome, mailer: Endpoint, sender: Sender
) -> None:
    mailer.answers.append(500)
    erase(home, ORDER, NOW)
    assert files_with_needle(home) == []
    assert len(keys(home)) == 1
    notify(home, sender, NOW)
    assert files_with_needle(home) == []
    notify(home, sender, NOW + timedelta(hours=1))
    assert state(home)[0].status is Status.FULFILLED
    assert files_with_needle(home) == []
    assert keys(home) == []
    with closing(sqlite3.connect(home.path / LOCAL / RIGHTS_FILE)) as register:
        for table in ("identity", "disclosure", "done_here"):
            rows = register.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert rows == ((2,) if table == "disclosure" else (0,)), table


def test_a_dead_endpoint_keeps_the_request_open_and_it_is_escalated_before_it_is_due(
    tmp_path: Path, sender: Sender
) -> None:
    home = unit(tmp_path / "north", RECIPIENTS.format(url="https://localhost:9"))
    hand_over(home, tmp_path, NEEDLE)
    (request,) = erase(home, ORDER, NOW)
    escalated: list[date] = []
    days = (request.due - NOW.date()).days + 1
    for day in range(days):
        now = NOW + timedelta(days=day)
        notify(home, sender, now)
        request, notices = state(home)
        assert (request.status, notices[0].status) == (Status.IN_PROGRESS, NoticeStatus.FAILED)
        assert notices[0].attempts == day + 1
        escalated += [now.date()] if is_escalated(request, notices, now.date()) else []
    assert escalated[0] == request.due - timedelta(days=7)
    assert files_with_needle(home) == []


def test_a_failing_recipient_is_told_again_with_the_same_id_at_growing_distances(
    home: NodeHome, mailer: Endpoint, sender: Sender
) -> None:
    mailer.answers.extend([500, 503])
    erase(home, ORDER, NOW)
    tried = [bool(notify(home, sender, NOW + timedelta(minutes=one)).notices) for one in (0, 14, 15, 44, 45, 46)]
    assert tried == [True, False, True, False, True, False]
    assert len(set(mailer.ids)) == 1
    assert len({one.body for one in mailer.received}) == 1
    request, (notice,) = state(home)
    assert (request.status, notice.attempts, notice.problem) == (Status.FULFILLED, 3, None)


def test_a_redirect_is_not_followed(home: NodeHome, mailer: Endpoint, sender: Sender) -> None:
    mailer.answers.extend([301, 308])
    mailer.location = f"{mailer.url}/elsewhere"
    erase(home, ORDER, NOW)
    for hour in (0, 1):
        (told,) = notify(home, sender, NOW + timedelta(hours=hour)).notices
        assert told.status is NoticeStatus.FAILED
        assert told.problem is not None
        assert "redirect is not followed" in told.problem
    assert [one.path for one in mailer.received] == ["/rights", "/rights"]


def test_a_certificate_of_another_authority_or_host_gets_nothing(
    home: NodeHome, mailer: Endpoint, sender: Sender, tmp_path: Path, pems: tuple[Path, Path, Path]
) -> None:
    erase(home, ORDER, NOW)
    stranger = ssl.create_default_context()
    (told,) = notify(home, replace(sender, trusted=stranger), NOW).notices
    assert told.problem is not None
    assert "CERTIFICATE_VERIFY_FAILED" in told.problem
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    ca, certificate, key = authority_and_pair(wrong, ["elsewhere.example"])
    mailer_port = int(mailer.url.rsplit(":", 1)[1])
    with https_endpoint(certificate, key) as other:
        policy = (home.path / "policy.yaml").read_text("utf-8")
        (home.path / "policy.yaml").write_text(policy.replace(str(mailer_port), other.url.rsplit(":", 1)[1]), "utf-8")
        trusting = Sender.load(pems[1], pems[2], "localhost", ca)
        (told,) = notify(home, trusting, NOW + timedelta(days=1)).notices
        assert told.problem is not None
        assert "Hostname mismatch" in told.problem
    assert mailer.received == other.received == []


def test_an_endpoint_that_never_ends_its_answer_is_given_up(
    home: NodeHome, mailer: Endpoint, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "SEND_SECONDS", 0.3)
    released = threading.Event()

    def wait() -> None:
        released.wait(20)

    mailer.before_answer = wait
    erase(home, ORDER, NOW)
    (told,) = notify(home, sender, NOW).notices
    released.set()
    assert told.problem == "no answer within 0 s"


def test_a_proxy_of_the_environment_is_not_asked(
    home: NodeHome, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    erase(home, ORDER, NOW)
    (told,) = notify(home, sender, NOW).notices
    assert told.status is NoticeStatus.ACKNOWLEDGED


def _notify_and_be_killed(home: Path, pems: tuple[Path, Path, Path]) -> None:
    ca, certificate, key = pems
    notify(NodeHome.open(home), Sender.load(certificate, key, "localhost", ca), NOW)


def test_killed_between_sending_and_noting_it_sends_again_with_the_same_id(
    home: NodeHome, mailer: Endpoint, sender: Sender, pems: tuple[Path, Path, Path]
) -> None:
    erase(home, ORDER, NOW)
    process = multiprocessing.get_context("spawn").Process(target=_notify_and_be_killed, args=(home.path, pems))

    def kill() -> None:
        mailer.before_answer = lambda: None
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)

    mailer.before_answer = kill
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    request, (notice,) = state(home)
    assert (request.status, notice.status, notice.attempts) == (Status.IN_PROGRESS, NoticeStatus.PENDING, 1)
    assert not notify(home, sender, NOW).notices
    notify(home, sender, NOW + timedelta(minutes=15))
    assert len(mailer.ids) == 2
    assert len(set(mailer.ids)) == 1
    assert state(home)[0].status is Status.FULFILLED


def test_a_request_whose_process_died_before_its_end_is_ended_by_the_next_run(
    home: NodeHome, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    erase(home, ORDER, NOW)
    with monkeypatch.context() as patch:
        patch.setattr("fedseg.node.rights.notify.conclude", die)
        with pytest.raises(KeyboardInterrupt):
            notify(home, sender, NOW)
    assert state(home)[0].status is Status.IN_PROGRESS
    conclude(home, NOW)
    assert state(home)[0].status is Status.FULFILLED
    assert keys(home) == []


_CONNECTED: list[tuple[str, int]] = []
_WATCHING = threading.Event()


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect" and _WATCHING.is_set():
        address = arguments[1]
        if isinstance(address, tuple) and isinstance(arguments[0], socket.socket):
            _CONNECTED.append((str(address[0]), int(address[1])))


def test_no_connection_is_made_but_to_the_recipient_and_no_ledger_says_anything(
    home: NodeHome, mailer: Endpoint, sender: Sender
) -> None:
    sys.addaudithook(_watch)
    before = (home.path / "ledger.db").read_bytes()
    _CONNECTED.clear()
    _WATCHING.set()
    erase(home, ORDER, NOW)
    notify(home, sender, NOW)
    _WATCHING.clear()
    assert {port for _, port in _CONNECTED} == {int(mailer.url.rsplit(":", 1)[1])}
    assert (home.path / "ledger.db").read_bytes() == before


def test_two_recipients_are_told_apart_and_one_that_is_silent_delays_no_other(
    tmp_path: Path, mailer: Endpoint, sender: Sender
) -> None:
    home = unit(tmp_path / "north", RECIPIENTS.format(url="https://localhost:9") + OTHER.format(url=mailer.url))
    hand_over(home, tmp_path, NEEDLE, "north-1")
    hand_over(home, tmp_path, NEEDLE, to="crm")
    requests = erase(home, Order([NEEDLE.encode(), b"north-1", b"north-2"], "T-1"), NOW)
    assert [one.status for one in requests] == [Status.IN_PROGRESS, Status.IN_PROGRESS, Status.FULFILLED]
    told = notify(home, sender, NOW).notices
    assert sorted((one.recipient, one.status) for one in told) == [("crm", "acknowledged"), ("mailer", "failed")]
    assert [one.path for one in mailer.received] == ["/crm"]
    with home.rights() as rights:
        notices = [one for found in rights.notices.notices().values() for one in found]
    assert len({one.id for one in notices}) == 3


def test_an_officer_records_why_a_recipient_is_not_told(tmp_path: Path, sender: Sender) -> None:
    home = unit(tmp_path / "north", RECIPIENTS.format(url="https://localhost:9"))
    hand_over(home, tmp_path, NEEDLE)
    erase(home, ORDER, NOW)
    notify(home, sender, NOW)
    request, (notice,) = state(home)
    with home.rights() as rights:
        with pytest.raises(RightsRequestError, match="explained"):
            rights.notices.settle(notice.id, lambda one: one.exempt(Exemption.IMPOSSIBLE, " ", NOW))
        rights.notices.settle(notice.id, lambda one: one.exempt(Exemption.IMPOSSIBLE, "the company is no more", NOW))
        with pytest.raises(RightsRequestError, match="impossible since"):
            rights.notices.settle(notice.id, lambda one: one.exempt(Exemption.DISPROPORTIONATE, "again", NOW))
    conclude(home, NOW)
    assert state(home)[0].status is Status.FULFILLED
    assert keys(home) == []
    log_days(home, NOW + timedelta(days=1))
    certified = verify_certificate(proven_certificate(home, request.id), [home.key.public]).erasure
    assert [(one.recipient, one.status) for one in certified.recipients] == [("mailer", "impossible")]


def test_restriction_and_rectification_are_told_and_objection_is_not(
    home: NodeHome, mailer: Endpoint, sender: Sender
) -> None:
    (objected,) = set_vetoes(home, ORDER, Right.OBJECTION, NOW)
    assert objected.status is Status.FULFILLED
    (restricted,) = set_vetoes(home, ORDER, Right.RESTRICTION, NOW)
    (rectified,) = rectify(home, ORDER, NOW)
    assert restricted.status is rectified.status is Status.IN_PROGRESS
    notify(home, sender, NOW)
    assert sorted(one.content["subject_request_type"] for one in mailer.received) == ["rectification", "restriction"]
    with home.rights() as rights:
        assert {one.request.status for one in rights.requests()} == {Status.FULFILLED}
        assert [one.recipient for one in rights.notices.recipients_of(subject(home))] == ["mailer"]
    (nobody,) = rectify(home, Order([b"never heard of"], "T-2"), NOW)
    assert nobody.status is Status.FULFILLED


def subject(home: NodeHome, name: str = NEEDLE) -> bytes:
    (found,) = Order([name.encode()], "T").subjects(home)
    return found


def test_a_person_is_told_about_recipients(home: NodeHome, mailer: Endpoint, sender: Sender) -> None:
    mailer.answers.append(500)
    set_vetoes(home, ORDER, Right.RESTRICTION, NOW)
    notify(home, sender, NOW)
    _, held = held_about(home, ORDER, Right.ACCESS, NOW)
    told = [{"right": "restriction", "status": "failed"}]
    assert held["recipients"] == [{"recipient": "mailer", "handed_over": "2025-06-01", "told": told}]
    _, nothing = held_about(home, Order([b"never heard of"], "T-9"), Right.ACCESS, NOW)
    assert nothing["recipients"] == []


def test_an_erasure_asked_for_again_tells_nobody_twice(home: NodeHome, mailer: Endpoint, sender: Sender) -> None:
    erase(home, ORDER, NOW)
    (again,) = erase(home, ORDER, NOW)
    assert len(notify(home, sender, NOW).notices) == 1
    assert state(home)[0].id == again.id
    assert len(mailer.received) == 1


def test_an_erasure_is_not_done_by_its_recipients_before_the_unit_has_done_its_own_part(
    home: NodeHome, mailer: Endpoint, sender: Sender
) -> None:
    note = home.path / LOCAL / "notes.txt"
    note.write_text(f"called {NEEDLE}", "utf-8")
    with pytest.raises(Exception, match="still names somebody"):
        erase(home, ORDER, NOW)
    (told,) = notify(home, sender, NOW).notices
    assert told.status is NoticeStatus.ACKNOWLEDGED
    assert state(home)[0].status is Status.IN_PROGRESS
    note.unlink()
    (done,) = erase(home, ORDER, NOW)
    assert done.status is Status.FULFILLED
    assert len(mailer.received) == 1


def test_no_request_is_fulfilled_while_a_recipient_has_to_be_told(home: NodeHome) -> None:
    (request,) = erase(home, ORDER, NOW)
    with home.rights() as rights, pytest.raises(RightsRequestError, match="mailer got the person's data"):
        rights.change([request.id], lambda one: one.fulfil(NOW.date()))


def test_nothing_is_sent_for_a_request_that_was_denied(home: NodeHome, mailer: Endpoint, sender: Sender) -> None:
    (request,) = set_vetoes(home, ORDER, Right.RESTRICTION, NOW)
    with home.rights() as rights:
        rights.change([request.id], lambda one: one.deny(NOW.date(), Denial.SUSPECTED_FRAUD, "it was not you"))
    assert not notify(home, sender, NOW).notices
    assert mailer.received == []
    assert keys(home) == []


def test_an_identity_whose_key_is_lost_is_sealed_anew_when_the_command_is_run_again(
    home: NodeHome, mailer: Endpoint, sender: Sender
) -> None:
    erase(home, ORDER, NOW)
    for path in keys(home):
        path.unlink()
    (told,) = notify(home, sender, NOW).notices
    assert told.problem is not None
    assert "same ticket" in told.problem
    erase(home, ORDER, NOW)
    (told,) = notify(home, sender, NOW + timedelta(hours=1)).notices
    assert told.status is NoticeStatus.ACKNOWLEDGED
    assert len(mailer.received) == 1


def test_a_recipient_that_the_policy_names_no_more_is_not_told_and_stays_open(
    home: NodeHome, mailer: Endpoint, sender: Sender
) -> None:
    erase(home, ORDER, NOW)
    (home.path / "policy.yaml").write_bytes(policy_document())
    (told,) = notify(home, sender, NOW).notices
    assert (told.status, told.problem) == (NoticeStatus.FAILED, "the policy names it no more")
    assert mailer.received == []


def test_identities_go_to_no_address_that_the_officers_have_not_signed(
    home: NodeHome, mailer: Endpoint, sender: Sender
) -> None:
    erase(home, ORDER, NOW)
    officers = f'approvals:\n  officers: {{anna: "{home.key.public.to_text()}"}}\n  required: 1\n'
    (home.path / "policy.yaml").write_bytes(policy_document(approvals=RECIPIENTS.format(url=mailer.url) + officers))
    with pytest.raises(PolicyError, match="too few officers"):
        notify(home, sender, NOW)
    assert mailer.received == []


def test_the_certificate_that_signs_is_for_the_domain_that_is_stated(pems: tuple[Path, Path, Path]) -> None:
    ca, certificate, key = pems
    with pytest.raises(CertificateError, match=r"not for elsewhere\.example"):
        Sender.load(certificate, key, "elsewhere.example", ca)
    with pytest.raises(CertificateError, match="no authorities"):
        Sender.load(certificate, key, "localhost", key)


# Platforms

ID = "a7551968-d5d6-44b2-9831-815ac9017798"


def hand_in(home: NodeHome, seal: Seal, token: str, *urls: str) -> httpx.Response:
    """What a platform does, through the unit's service."""
    identity = {"identity_type": "controller_customer_id", "identity_value": NEEDLE, "identity_format": "raw"}
    asked = {
        "regulation": "gdpr",
        "subject_request_id": ID,
        "subject_request_type": "erasure",
        "subject_identities": [identity],
        "submitted_time": "2025-06-01T08:00:00Z",
        "status_callback_urls": urls,
    }
    made = application(home, seal, Address("https://localhost:8443", "localhost"), lambda: NOW)

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(made), base_url="https://localhost:8443") as client:
            return await client.post("/requests", json=asked, headers={"Authorization": f"Bearer {token}"})

    return asyncio.run(send())


def test_a_platform_hears_of_each_status_at_its_own_address(home: NodeHome, sender: Sender, mailer: Endpoint) -> None:
    with https_endpoint_of(sender) as platform:
        token = admit(home, "tool", "controller_customer_id", platform.url)
        for _ in range(2):
            assert hand_in(home, sender.seal, token, f"{platform.url}/told").status_code == 201
        assert notify(home, sender, NOW).callbacks == []
        mailer.answers.append(500)
        erase(home, Order([NEEDLE.encode()], f"tool/{ID}"), NOW)
        (called,) = notify(home, sender, NOW).callbacks
        assert (called.ticket, called.status, called.problem) == (f"tool/{ID}", "in_progress", None)
        assert notify(home, sender, NOW).callbacks == []
        platform.answers.append(503)
        later = NOW + timedelta(hours=1)
        (called,) = notify(home, sender, later).callbacks
        assert (called.status, called.problem) == ("completed", "it answered 503")
        assert len(notify(home, sender, later + timedelta(minutes=15)).callbacks) == 1
        assert notify(home, sender, later + timedelta(days=9)).callbacks == []
    told = [one.content for one in platform.received]
    assert [one["request_status"] for one in told] == ["in_progress", "completed", "completed"]
    assert told[0] == {
        "controller_id": "tool",
        "expected_completion_time": "2025-07-01T23:59:59Z",
        "subject_request_id": ID,
        "request_status": "in_progress",
        "api_version": "2.0",
        "status_callback_url": f"{platform.url}/told",
    }
    last = platform.received[-1]
    key = x509.load_pem_x509_certificate(sender.seal.certificate).public_key()
    assert isinstance(key, EllipticCurvePublicKey)
    key.verify(base64.b64decode(last.headers["x-opendsr-signature"]), last.body, ECDSA(SHA256()))


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:{port}/told",
        "https://127.0.0.1:{port}/told",
        "https://localhost:1/told",
        "https://localhost/told",
        "https://localhost:{port}@evil.example/told",
        "https://user@localhost:{port}/told",
        "https://localhost.evil.example:{port}/told",
        "//localhost:{port}/told",
        "https://[localhost:{port}/told",
        "told",
    ],
)
def test_no_address_is_called_but_those_at_the_origin_that_an_officer_has_named(
    home: NodeHome, sender: Sender, url: str
) -> None:
    with https_endpoint_of(sender) as platform:
        token = admit(home, "tool", "controller_customer_id", platform.url)
        port = platform.url.rsplit(":", 1)[1]
        assert hand_in(home, sender.seal, token, url.format(port=port)).status_code == 201
        erase(home, Order([NEEDLE.encode()], f"tool/{ID}"), NOW)
        assert notify(home, sender, NOW).callbacks == []
        assert platform.received == []


def test_a_platform_that_may_not_be_called_any_more_is_not(home: NodeHome, sender: Sender) -> None:
    with https_endpoint_of(sender) as platform:
        token = admit(home, "tool", "controller_customer_id", platform.url)
        hand_in(home, sender.seal, token, f"{platform.url}/told")
        erase(home, Order([NEEDLE.encode()], f"tool/{ID}"), NOW)
        admit(home, "tool", "controller_customer_id")
        assert notify(home, sender, NOW).callbacks == []
        admit(home, "tool", "controller_customer_id", platform.url)
        assert notify(home, sender, NOW).callbacks == []
        assert platform.received == []


def test_a_platform_that_never_answers_is_given_up_after_a_week(home: NodeHome, sender: Sender) -> None:
    token = admit(home, "tool", "controller_customer_id", "https://localhost:9")
    hand_in(home, sender.seal, token, "https://localhost:9/told")
    erase(home, Order([NEEDLE.encode()], f"tool/{ID}"), NOW)
    calls = [len(notify(home, sender, NOW + timedelta(days=day)).callbacks) for day in range(14)]
    assert calls == [1] * 12 + [0] * 2


@pytest.mark.parametrize("origin", ["http://tool.example", "tool.example", "https://", "https://user@tool.example"])
def test_what_is_no_origin_is_refused(home: NodeHome, origin: str) -> None:
    with pytest.raises(SettingsError, match="cannot be used"):
        admit(home, "tool", "controller_customer_id", origin)


# Lists


def test_the_same_list_again_changes_nothing_and_a_later_one_is_the_last(home: NodeHome, tmp_path: Path) -> None:
    assert hand_over(home, tmp_path, NEEDLE, "north-1", "north-1", now=NOW + timedelta(days=2)) == 2
    assert hand_over(home, tmp_path, NEEDLE, "north-1", "north-2", now=NOW - timedelta(days=2)) == 3
    with home.rights() as rights:
        (got,) = rights.notices.recipients_of(subject(home))
    assert (got.recipient, got.handed) == ("mailer", date(2025, 6, 1))
    assert files_with_needle(home) == [home.path / CUSTOMERS_FILE]


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        ("segment,name\n2,north-1\n", "customer", "0 columns 'customer'"),
        ("customer,customer\nnorth-1,x\n", "customer", "2 columns"),
        ("", "customer", "0 columns"),
        ("customer,segment\nnorth-1,2\nnorth-2\n", "customer", "line 3"),
        ("customer,segment\nnorth-1,2\n,2\n", "customer", "line 3"),
        ("customer,segment\nnorth-1,2\n", "segment", "names no customer"),
        ('customer\nnorth-1\n"north-2\n', "customer", "cannot be read"),
        ("customer\nnorth-1\n\xff\n", "customer", "cannot be read"),
    ],
)
def test_a_list_is_recorded_as_a_whole_or_refused(
    home: NodeHome, tmp_path: Path, text: str, column: str, says: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match="list") as refused:
        record_handed_over(home, HandedOver("mailer", path, column), NOW)
    assert says in str(refused.value)
    assert "north" not in str(refused.value)
    with home.rights() as rights:
        assert len(rights.notices.recipients_of(subject(home, "north-2"))) == 1


def test_a_list_with_a_byte_order_mark_quotes_and_blank_lines_is_read(home: NodeHome, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b'\xef\xbb\xbf"customer",note\r\n"north-3","two\r\nlines"\r\n\r\nnorth-4,\r\n')
    assert record_handed_over(home, HandedOver("mailer", path, "customer"), NOW) == 2


def test_unknown_recipients_and_days_to_come_are_refused(home: NodeHome, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="no recipient nobody"):
        hand_over(home, tmp_path, "north-1", to="nobody")
    with pytest.raises(RightsRequestError, match="in the future"):
        record_handed_over(home, HandedOver("mailer", tmp_path / "x.csv", "customer", date(2025, 6, 2)), NOW)
    with pytest.raises(DataError, match="cannot be read"):
        record_handed_over(home, HandedOver("mailer", tmp_path / "missing.csv", "customer"), NOW)


def test_a_list_with_somebody_who_was_erased_is_refused_as_a_whole(home: NodeHome, tmp_path: Path) -> None:
    erase(home, Order([b"north-5"], "T-5"), NOW)
    with pytest.raises(RightsRequestError, match="LOCAL: 1"):
        hand_over(home, tmp_path, "north-5", "north-6")
    with home.rights() as rights:
        assert rights.notices.recipients_of(subject(home, "north-6")) == []
    assert hand_over(home, tmp_path, "north-6") == 1


def test_a_list_that_changes_while_it_is_read_is_refused(
    home: NodeHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = NoticeRegister.record

    def longer(self: NoticeRegister, recipient: str, handed: date, file: bytes, subjects: object) -> int:
        with (tmp_path / "list-mailer.csv").open("a") as written:
            written.write("2,north-9\n")
        return before(self, recipient, handed, file, subjects)  # type: ignore[arg-type]

    monkeypatch.setattr(NoticeRegister, "record", longer)
    with pytest.raises(DataError, match="changed while it was read"):
        hand_over(home, tmp_path, "north-7")
    with home.rights() as rights:
        assert rights.notices.recipients_of(subject(home, "north-7")) == []


def test_a_register_of_the_first_version_goes_on_with_all_it_holds(home: NodeHome) -> None:
    path = home.path / LOCAL / RIGHTS_FILE
    erase(home, Order([b"north-9"], "T-9"), NOW)
    with closing(sqlite3.connect(path)) as old:
        for table in ("delivery", "disclosure", "notice", "identity", "done_here", "callback", "closing"):
            old.execute(f"DROP TABLE {table}")
        old.execute("PRAGMA user_version = 1")
        old.commit()
    with RightsRegister(path) as rights:
        assert len(rights.suppressed()) == 1
        assert rights.notices.recipients_of(subject(home)) == []
    with RightsRegister(path) as rights:
        assert [one.ticket for one in rights.requests()] == ["T-9"]
