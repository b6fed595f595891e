"""Who is erased is gone from every file of the unit, is never counted again, and nobody outside can tell."""

import multiprocessing
import shutil
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedseg.audit.certificate import verify_certificate
from fedseg.audit.verify import verify_ledger
from fedseg.certificate import ErasureFacts, open_certificate
from fedseg.clustering.encode import encode
from fedseg.clustering.statistics import summarize
from fedseg.errors import DataError, RightsRequestError, StorageError, VerificationError
from fedseg.node.contribute import contribute
from fedseg.node.gate import decide_now
from fedseg.node.home import LOCAL, RIGHTS_FILE, NodeHome
from fedseg.node.retention import sweep
from fedseg.node.rights import erasure, source_erasure
from fedseg.node.rights.batch import log_days
from fedseg.node.rights.erasure import erase, proven_certificate
from fedseg.node.rights.register import OpenRequest, RightsRegister
from fedseg.node.rights.requests import Order
from fedseg.node.source import open_source, subject_key
from fedseg.node.sources.settings import SourceSettings
from fedseg.policy.document import load_policy
from fedseg.policy.gate import admit
from fedseg.policy.rights import Regulation, Right, Status, SubjectRequest
from fedseg.privacy.noise import SimulatedNoise
from tests.small_federation import CUSTOMERS_FILE, NOW, SmallFederation, consents, some_request

NEEDLE = b"erika.mustermann@example.com"
ROW = NEEDLE + b",17.125,42.0625\n"
ORDER = Order([NEEDLE], "T-1")
TOMORROW = NOW + timedelta(days=1)


@pytest.fixture
def without(federation: SmallFederation) -> NodeHome:
    """A unit that never held the person."""
    return federation.home("north")


@pytest.fixture
def home(without: NodeHome, tmp_path: Path) -> NodeHome:
    """The same unit, with the person among its customers, consenting."""
    return insert(NodeHome.open(Path(shutil.copytree(without.path, tmp_path / "with"))))


def insert(home: NodeHome, row: bytes = ROW) -> NodeHome:
    path = home.path / CUSTOMERS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:20], row, *lines[20:]]))
    agree(home)
    return home


def agree(home: NodeHome, when: datetime = NOW - timedelta(days=3)) -> None:
    with home.register() as register:
        register.append_events(consents(key_of(home), when, NOW + timedelta(days=365)))


def key_of(home: NodeHome, identifier: bytes = NEEDLE) -> bytes:
    return subject_key(identifier, home.subject_secret)


def dump(home: NodeHome) -> list[str]:
    with closing(sqlite3.connect(home.path / LOCAL / "register.db")) as connection:
        return list(connection.iterdump())


def files_with(home: NodeHome, needle: bytes) -> set[str]:
    return {path.name for path in home.path.rglob("*") if path.is_file() and needle in path.read_bytes()}


def is_counted(home: NodeHome, now: datetime = NOW) -> bool:
    policy = load_policy(home.policy_document())
    purpose = next(iter(policy.purposes))
    with home.register() as register:
        decisions = decide_now(home, register, policy, purpose, now)
    return bool(decisions.allow(pa.array([key_of(home)], pa.binary(16)))[0])


def test_after_an_erasure_the_stores_are_those_of_a_unit_that_never_held_the_person(
    home: NodeHome, without: NodeHome
) -> None:
    assert is_counted(home)
    assert dump(home) != dump(without)
    (request,) = erase(home, ORDER, NOW)
    assert (request.right, request.status, request.ended) == (Right.ERASURE, Status.FULFILLED, NOW.date())
    assert (home.path / CUSTOMERS_FILE).read_bytes() == (without.path / CUSTOMERS_FILE).read_bytes()
    assert dump(home) == dump(without)
    assert not is_counted(home)


def test_no_file_names_the_person_and_only_the_register_of_requests_their_pseudonym(home: NodeHome) -> None:
    key = key_of(home)
    erase(home, ORDER, NOW)
    log_days(home, TOMORROW)
    assert not files_with(home, NEEDLE)
    assert files_with(home, key) == {RIGHTS_FILE}
    assert not files_with(home, key.hex().encode())


def test_statistics_are_exactly_those_of_a_unit_that_never_held_the_person(
    home: NodeHome, without: NodeHome, federation: SmallFederation
) -> None:
    plan = federation.plan
    request = some_request(plan, 0)

    def exact(unit: NodeHome) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
        policy = load_policy(unit.policy_document())
        with unit.register() as register:
            decisions = decide_now(unit, register, policy, plan.purpose, NOW)
        table = admit(open_source(unit, [one.column for one in plan.encoders]), decisions, policy, plan.purpose)
        return summarize(encode(table, plan.encoders), request, plan.terms[0].lattice)._values  # pyright: ignore[reportPrivateUsage]

    assert not np.array_equal(exact(home), exact(without))
    erase(home, ORDER, NOW)
    assert np.array_equal(exact(home), exact(without))


def test_neither_a_new_import_nor_a_restored_backup_brings_the_person_back(home: NodeHome, tmp_path: Path) -> None:
    saved = [home.path / CUSTOMERS_FILE, home.path / LOCAL / "register.db"]
    for path in saved:
        shutil.copy(path, tmp_path / path.name)
    erase(home, ORDER, NOW)
    for path in saved:
        shutil.copy(tmp_path / path.name, path)
    assert not is_counted(home)
    agree(home, NOW)
    assert not is_counted(home, NOW + timedelta(hours=1))
    with home.register() as register:
        lifted = [
            replace(one, kind="suppressed_lifted", valid_until=None, purpose="*", notice_version=0)
            for one in consents(key_of(home), NOW, NOW)
        ]
        register.append_events(lifted)
    assert not is_counted(home, NOW + timedelta(days=2))


def test_a_sweep_removes_what_came_back(home: NodeHome, without: NodeHome) -> None:
    erase(home, ORDER, NOW)
    insert(home)
    assert dump(home) != dump(without)
    sweep(home, NOW + timedelta(days=2000))
    assert (home.path / CUSTOMERS_FILE).read_bytes() == (without.path / CUSTOMERS_FILE).read_bytes()
    assert dump(home) == dump(without)


def test_somebody_of_whom_the_unit_never_heard_gets_an_answer_of_the_same_shape(without: NodeHome) -> None:
    before = (without.path / CUSTOMERS_FILE).read_bytes(), dump(without)
    (request,) = erase(without, ORDER, NOW)
    assert request.status is Status.FULFILLED
    log_days(without, TOMORROW)
    facts = verify_certificate(proven_certificate(without, request.id), [without.key.public])
    assert facts.erasure.request_id == request.id
    assert ((without.path / CUSTOMERS_FILE).read_bytes(), dump(without)) == before


def test_who_is_to_be_erased_is_not_counted_from_the_first_moment_on(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        assert not is_counted(home)
        raise StorageError("the disk is full", why="no room", fix="make room")

    monkeypatch.setattr(erasure, "erase_rows", fail)
    with pytest.raises(StorageError):
        erase(home, ORDER, NOW)
    assert not is_counted(home)
    monkeypatch.undo()
    with home.rights() as rights:
        (open_request,) = rights.requests()
    assert open_request.request.status is Status.IN_PROGRESS
    (request,) = erase(home, ORDER, NOW)
    assert request.id == open_request.request.id
    assert request.status is Status.FULFILLED


def test_a_request_that_was_received_before_keeps_its_clock(home: NodeHome) -> None:
    with home.rights() as rights:
        received = SubjectRequest("ab" * 16, Right.ERASURE, Regulation.GDPR, date(2025, 5, 20))
        rights.add([OpenRequest(received, "T-1", key_of(home))])
    assert is_counted(home)
    (request,) = erase(home, ORDER, NOW)
    assert (request.id, request.due) == ("ab" * 16, date(2025, 6, 20))
    assert not is_counted(home)


def test_who_asked_is_forgotten_with_the_answer_and_the_evidence_when_its_time_is_over(home: NodeHome) -> None:
    erase(home, ORDER, NOW)
    with home.rights() as rights:
        (ended,) = rights.requests()
        assert (ended.subject, ended.ticket) == (None, "T-1")
        assert rights.forget_evidence(NOW.date() + timedelta(days=1095)) == 0
        assert rights.forget_evidence(NOW.date() + timedelta(days=1096)) == 1


def test_what_still_names_the_person_keeps_the_request_open_and_is_named(home: NodeHome) -> None:
    note = home.path / LOCAL / "notes.txt"
    note.write_bytes(b"called " + NEEDLE)
    with pytest.raises(VerificationError, match=r"notes\.txt"):
        erase(home, ORDER, NOW)
    assert not is_counted(home)
    (request,) = erase(home, ORDER, NOW, skip=[note])
    assert request.status is Status.FULFILLED


def test_a_source_elsewhere_is_erased_from_too(home: NodeHome, tmp_path: Path) -> None:
    elsewhere = tmp_path / "crm" / "customers.csv"
    elsewhere.parent.mkdir()
    (home.path / CUSTOMERS_FILE).rename(elsewhere)
    (elsewhere.parent / "mail.txt").write_bytes(NEEDLE)
    source = home.settings.source.model_copy(update={"path": str(elsewhere)})
    home = replace(home, settings=home.settings.model_copy(update={"source": source}))
    erase(home, ORDER, NOW)
    assert NEEDLE not in elsewhere.read_bytes()


def test_identifiers_are_named_once_and_not_empty() -> None:
    for identifiers in ([NEEDLE, NEEDLE], [b""]):
        with pytest.raises(DataError, match="stands there twice"):
            Order(identifiers, "T-1")


# Rounds


def answer(home: NodeHome, federation: SmallFederation, step: int) -> None:
    plan = federation.plan
    contribute(home, plan.digest, some_request(plan, step), f"{step:064x}", now=NOW, source=SimulatedNoise(step))


def certified(home: NodeHome, request: SubjectRequest) -> ErasureFacts:
    with home.rights() as rights:
        stored = rights.certificate(request.id)
    assert stored is not None
    return open_certificate(stored.envelope, home.key.public)


def test_the_certificate_names_the_rounds_drawn_before_and_their_price(
    home: NodeHome, federation: SmallFederation
) -> None:
    answer(home, federation, 0)
    answer(home, federation, 1)
    (request,) = erase(home, ORDER, NOW)
    answer(home, federation, 2)
    facts = certified(home, request)
    assert [(one.plan_sha256, one.steps) for one in facts.drawn] == [(federation.plan.digest, [0, 1])]
    assert facts.rho == sum(federation.plan.step_rhos[:2])


def test_a_round_that_runs_while_somebody_is_erased_is_in_the_certificate(
    home: NodeHome, federation: SmallFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, go_on = threading.Event(), threading.Event()

    def slow(*arguments: object) -> object:
        passed.set()
        assert go_on.wait(20)
        return summarize(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("fedseg.node.contribute.summarize", slow)
    counting = threading.Thread(target=answer, args=(home, federation, 0))
    counting.start()
    assert passed.wait(20)
    done: list[SubjectRequest] = []
    erasing = threading.Thread(target=lambda: done.extend(erase(home, ORDER, NOW)))
    erasing.start()
    time.sleep(0.3)
    assert not done
    go_on.set()
    counting.join(20)
    erasing.join(20)
    assert [one.steps for one in certified(home, done[0]).drawn] == [[0]]


def _hold_the_gate(home: Path, ready: Event) -> None:
    with NodeHome.open(home).counting():
        ready.set()
        time.sleep(60)


def test_a_killed_round_keeps_no_erasure_waiting(home: NodeHome) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold_the_gate, args=(home.path, ready))
    process.start()
    assert ready.wait(30)
    process.kill()
    process.join()
    home.wait_for_rounds()


# Certificates


def test_a_certificate_is_proven_when_its_day_is_over(home: NodeHome) -> None:
    log_days(home, NOW)
    (request,) = erase(home, ORDER, NOW)
    with pytest.raises(RightsRequestError, match="when its day is over"):
        proven_certificate(home, request.id)
    with pytest.raises(RightsRequestError, match="nothing was erased"):
        proven_certificate(home, "unknown")
    assert log_days(home, TOMORROW) == ["2025-06-01"]
    ledger = verify_ledger(home.path / "ledger.db", home.key.public)
    facts = verify_certificate(proven_certificate(home, request.id), [], ledger)
    assert (facts.period, facts.erasure.completed, facts.held_against_ledger) == ("2025-06-01", "2025-06-01", True)


def test_a_batch_asked_for_again_is_the_same(home: NodeHome) -> None:
    erase(home, ORDER, NOW)
    with home.rights() as rights:
        assert rights.batch_root("2025-06-01", 2**14) == rights.batch_root("2025-06-01", 2**14)
        assert rights.batch_root("2025-06-02", 2**14) != rights.batch_root("2025-06-01", 2**14)


def test_what_does_not_fit_into_a_day_goes_into_the_next(without: NodeHome) -> None:
    requests = erase(without, Order([b"customer-%d" % one for one in range(5)], "T-1"), NOW)
    with without.rights() as rights:
        for period in ("2025-06-01", "2025-06-02", "2025-06-03"):
            rights.batch_root(period, 2)
        stored = [rights.certificate(one.id) for one in requests]
    assert sorted(one.period or "" for one in stored if one) == ["2025-06-01"] * 2 + ["2025-06-02"] * 2 + ["2025-06-03"]


def shape(home: NodeHome) -> list[tuple[int, str, int]]:
    with home.ledger() as ledger:
        return [(entry.seq, entry.kind, len(entry.to_bytes())) for entry in ledger.entries()]


@pytest.mark.parametrize("count", [1, 1000])
def test_the_ledger_of_a_day_with_erasures_is_that_of_a_quiet_day(
    without: NodeHome, tmp_path: Path, count: int
) -> None:
    quiet = NodeHome.open(Path(shutil.copytree(without.path, tmp_path / "quiet")))
    erase(without, Order([b"customer-%d" % one for one in range(count)], "T-1"), NOW)
    for home in (without, quiet):
        log_days(home, TOMORROW)
    assert shape(without) == shape(quiet)


# Sources


def erased(home: NodeHome, customers: bytes) -> bytes:
    path = home.path / CUSTOMERS_FILE
    path.write_bytes(customers)
    source_erasure.erase_rows(home, {key_of(home, b"ann")})
    return path.read_bytes()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"customer,visits\nann,1\nbob,2\n", b"customer,visits\nbob,2\n"),
        (b"customer,visits\nbob,2\nann,1", b"customer,visits\nbob,2\n"),
        (b"\xef\xbb\xbfcustomer,visits\r\nann,1\r\nbob,2\r\n", b"\xef\xbb\xbfcustomer,visits\r\nbob,2\r\n"),
        (b'visits,customer\n1,"ann"\n2,"b,o""b"\n', b'visits,customer\n2,"b,o""b"\n'),
        (b"customer,visits\nann,1\nann,2\nanna,3\n", b"customer,visits\nanna,3\n"),
        (b"customer,visits\nbob,ann\n", b"customer,visits\nbob,ann\n"),
        # Lines that are no record are never counted, and go if they name the person anywhere.
        (b'customer,visits\nann,1,2\n"ann,1\nbob,2,3\n', b"customer,visits\nbob,2,3\n"),
        (b"customer,visits\nann\r1\r\n\xff\xfe,1\n", b"customer,visits\n\xff\xfe,1\n"),
        (b"customer,visits\nbob,2\n", b"customer,visits\nbob,2\n"),
    ],
)
def test_rows_of_a_csv_file_go_and_all_others_stay_byte_for_byte(
    without: NodeHome, before: bytes, after: bytes
) -> None:
    assert erased(without, before) == after


def test_a_file_without_the_person_is_not_written(without: NodeHome) -> None:
    inode = (without.path / CUSTOMERS_FILE).stat().st_ino
    source_erasure.erase_rows(without, {key_of(without)})
    assert (without.path / CUSTOMERS_FILE).stat().st_ino == inode


def test_mode_and_owner_of_the_file_stay(without: NodeHome) -> None:
    path = insert(without).path / CUSTOMERS_FILE
    path.chmod(0o640)
    owner = path.stat()
    source_erasure.erase_rows(without, {key_of(without)})
    now = path.stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (owner.st_mode, owner.st_uid, owner.st_gid)
    assert now.st_ino != owner.st_ino


@pytest.mark.parametrize(
    "identifiers",
    [
        pa.array(["ann", "bob", None, "eve"]),
        pa.array(["ann", "bob", "", "eve"]).dictionary_encode(),
        pa.array([b"ann", b"bob", b"zoe", b"eve"]),
        pa.array([7, 8, None, 9]),
    ],
)
def test_rows_of_a_parquet_file_go_and_all_others_stay(without: NodeHome, identifiers: pa.Array) -> None:
    path = without.path / LOCAL / "customers.parquet"
    table = pa.table({"customer": identifiers, "visits": pa.array([1.5, 2.5, 3.5, 4.5]), "note": ["a", "b", "c", "d"]})
    pq.write_table(table, path)
    source = SourceSettings(path=f"{LOCAL}/customers.parquet", format="parquet", subject="customer")
    home = replace(without, settings=without.settings.model_copy(update={"source": source}))
    source_erasure.erase_rows(home, {key_of(home, b"ann"), key_of(home, b"7")})
    assert pq.read_table(path).equals(table.slice(1))
    source_erasure.erase_rows(home, {key_of(home, b"nobody")})
    assert pq.read_table(path).equals(table.slice(1))


def test_a_file_that_somebody_else_writes_meanwhile_is_left_to_them(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = home.path / CUSTOMERS_FILE

    def write(*arguments: object) -> int:
        path.write_bytes(path.read_bytes() + b"new,1,2\n")
        return 1

    monkeypatch.setattr(source_erasure, "_write_csv", write)
    with pytest.raises(StorageError, match="somebody else"):
        erase(home, ORDER, NOW)
    assert NEEDLE in path.read_bytes()
    assert not list(path.parent.glob(".*.erasing"))
    monkeypatch.undo()
    erase(home, ORDER, NOW)
    assert path.read_bytes().endswith(b"new,1,2\n")


def test_a_folder_that_cannot_be_written_leaves_the_source_as_it_was(home: NodeHome) -> None:
    path = home.path / CUSTOMERS_FILE
    (path.parent / f".{path.name}.erasing").mkdir()
    with pytest.raises(StorageError, match="is as it was"):
        erase(home, ORDER, NOW)
    assert NEEDLE in path.read_bytes()
    assert not is_counted(home)


@pytest.fixture
def small_home(without: NodeHome) -> NodeHome:
    (without.path / CUSTOMERS_FILE).write_bytes(b"customer,visits,spend\n")
    return without


def test_a_unit_without_customers_can_be_asked_too(small_home: NodeHome) -> None:
    (request,) = erase(small_home, ORDER, NOW)
    assert request.status is Status.FULFILLED


def test_an_order_of_many_is_answered_with_a_certificate_each(without: NodeHome) -> None:
    people = [b"person-%d@example.com" % one for one in range(200)]
    with (without.path / CUSTOMERS_FILE).open("ab") as file:
        file.writelines(b"%b,1,2\n" % one for one in people)
    requests = erase(without, Order(people, "T-9", received=date(2025, 5, 31)), NOW)
    log_days(without, TOMORROW)
    ledger = verify_ledger(without.path / "ledger.db", without.key.public)
    found = [verify_certificate(proven_certificate(without, one.id), [], ledger) for one in requests[::50]]
    assert len({one.erasure.request_id for one in found}) == 4
    assert b"@example.com" not in (without.path / CUSTOMERS_FILE).read_bytes()


def test_the_registers_file_is_its_owners_alone(home: NodeHome) -> None:
    home.rights().close()
    path = home.path / LOCAL / RIGHTS_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(StorageError, match="not private"):
        home.rights()


def test_a_damaged_or_foreign_register_of_requests_stops_every_round(
    home: NodeHome, federation: SmallFederation
) -> None:
    path = home.path / LOCAL / RIGHTS_FILE
    for content in (b"", b"not a database" * 100, _other_database(path)):
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(DataError, match="register of requests"):
            answer(home, federation, 0)


def _other_database(path: Path) -> bytes:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x)")
    return path.read_bytes()


def test_a_register_that_was_lost_stops_every_round(home: NodeHome, federation: SmallFederation) -> None:
    path = home.path / LOCAL / RIGHTS_FILE
    path.unlink()
    with pytest.raises(DataError, match="register of requests is missing"):
        answer(home, federation, 0)
    with pytest.raises(DataError, match="register of requests is missing"):
        erase(home, ORDER, NOW)
    home.create_rights()
    answer(home, federation, 0)


def test_a_register_is_not_made_where_one_is(home: NodeHome) -> None:
    with pytest.raises(StorageError, match="cannot be created"):
        RightsRegister.create(home.path / LOCAL / RIGHTS_FILE)


def test_requests_are_found_by_the_beginning_of_their_id(home: NodeHome) -> None:
    (request,) = erase(home, ORDER, NOW)
    with home.rights() as rights:
        assert rights.request(request.id[:6]).request == request
        with pytest.raises(RightsRequestError, match="no request begins with x"):
            rights.request("x")
    erase(home, replace(ORDER, ticket="T-2"), NOW)
    with home.rights() as rights, pytest.raises(RightsRequestError, match="several requests"):
        rights.request("")


def test_a_clock_behind_the_ledger_certifies_nothing(home: NodeHome, federation: SmallFederation) -> None:
    answer(home, federation, 0)
    with pytest.raises(Exception, match="clock"):
        erase(home, ORDER, datetime(2025, 1, 1, tzinfo=UTC))


def test_a_round_waits_for_nobody_who_writes_down_requests(home: NodeHome) -> None:
    with home.rights() as rights, closing(sqlite3.connect(home.path / LOCAL / RIGHTS_FILE)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO suppression VALUES (zeroblob(16))")
        begun = time.monotonic()
        assert is_counted(home)
        assert len(rights.requests()) == 0
        assert time.monotonic() - begun < 10, "it waited until the writer was given up"
