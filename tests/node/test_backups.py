"""A backup ends with the key of its month, brings nobody back who was erased, and never makes anybody count who said no."""

import io
import shutil
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.errors import DataError, PolicyError, SettingsError, StorageError, VerificationError
from fedseg.ledger.canonical import Json
from fedseg.node.backup import copies as backups
from fedseg.node.backup.copies import back_up, restore
from fedseg.node.backup.keys import KEYS, month_keys, shred_keys
from fedseg.node.backup.sealed_file import FRAME_BYTES, SealedReader, SealingWriter
from fedseg.node.consent.intake import import_consents
from fedseg.node.consent.register import Register
from fedseg.node.gate import decide_now
from fedseg.node.home import LOCAL, NodeHome
from fedseg.node.retention import sweep
from fedseg.node.rights.erasure import erase
from fedseg.node.rights.requests import Order, set_vetoes
from fedseg.node.source import subject_key
from fedseg.policy.document import load_policy
from fedseg.policy.rights import Right
from tests.node.test_erasure import dump
from tests.small_federation import CUSTOMERS_FILE, NOW, make_federation, policy_document

SOMEBODY = Order([b"north-7"], "T-1")
POLICY = policy_document().replace(b"raw_days: 730", b"raw_days: 730\n  backup_days: 30")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    """A unit whose policy keeps backups for 30 days."""
    return make_federation(tmp_path_factory.mktemp("backups") / "f", {"north": 30}, policy=POLICY).home("north")


@pytest.fixture
def home(original: NodeHome, tmp_path: Path) -> NodeHome:
    return NodeHome.open(Path(shutil.copytree(original.path, tmp_path / "north")))


def counted(home: NodeHome, identifier: bytes = b"north-7") -> bool:
    policy = load_policy(home.policy_document())
    with home.register() as register:
        decisions = decide_now(home, register, policy, next(iter(policy.purposes)), NOW + timedelta(seconds=1))
    return bool(decisions.allow(pa.array([subject_key(identifier, home.subject_secret)], pa.binary(16)))[0])


def lose_everything(home: NodeHome) -> None:
    (home.path / CUSTOMERS_FILE).unlink()
    (home.path / LOCAL / "register.db").unlink()
    Register.create(home.path / LOCAL / "register.db").close()


def test_what_is_missing_comes_back_as_it_was(home: NodeHome, tmp_path: Path) -> None:
    customers, consents = (home.path / CUSTOMERS_FILE).read_bytes(), dump(home)
    month = back_up(home, tmp_path / "b", NOW)
    assert (month.month, month.unreadable_after) == ("2025-06", date(2025, 7, 30))
    (home.path / CUSTOMERS_FILE).unlink()
    found = restore(home, tmp_path / "b", NOW)
    assert (found.customers, found.events, found.denied) == (True, 0, 0)
    assert (home.path / CUSTOMERS_FILE).read_bytes() == customers
    assert [line for line in dump(home) if '"import"' not in line] == consents


def test_what_is_there_is_not_replaced(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "b", NOW)
    (home.path / CUSTOMERS_FILE).write_bytes(b"customer,visits,spend\nnew,1,2\n")
    set_vetoes(home, SOMEBODY, Right.OBJECTION, NOW)
    found = restore(home, tmp_path / "b", NOW)
    assert (found.customers, found.events) == (False, 0)
    assert (home.path / CUSTOMERS_FILE).read_bytes() == b"customer,visits,spend\nnew,1,2\n"
    assert not counted(home)
    assert counted(home, b"north-8")


def test_after_a_loss_nobody_counts_before_their_consents_are_imported_anew(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "b", NOW)
    set_vetoes(home, SOMEBODY, Right.OBJECTION, NOW)
    lose_everything(home)
    found = restore(home, tmp_path / "b", NOW)
    assert (found.customers, found.events, found.denied) == (True, 30, 30)
    assert not counted(home, b"north-8")
    export = tmp_path / "consents.csv"
    head = "identifier,purpose,kind,event_time,valid_until,notice_version\n"
    export.write_text(head + "north-7,*,objection,2025-06-01T11:00:00Z,,0\n", "utf-8")
    import_consents(home, export, "canonical-csv", now=NOW, corrects=found.import_id)
    assert counted(home, b"north-8")
    assert not counted(home)


def test_who_was_erased_since_does_not_come_back(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "b", NOW)
    erase(home, SOMEBODY, NOW)
    lose_everything(home)
    restore(home, tmp_path / "b", NOW)
    assert not counted(home)
    assert b"north-7," not in (home.path / CUSTOMERS_FILE).read_bytes()
    with home.register() as register:
        assert not register.events_of(subject_key(b"north-7", home.subject_secret))


def test_a_backup_names_nobody_in_the_clear(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "b", NOW)
    data = (tmp_path / "b").read_bytes()
    assert b"north-" not in data
    assert subject_key(b"north-7", home.subject_secret) not in data
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600


def test_it_ends_with_the_key_of_its_month(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "june", NOW)
    back_up(home, tmp_path / "july", NOW + timedelta(days=30))
    assert [one.month for one in month_keys(home)] == ["2025-06", "2025-07"]
    assert shred_keys(home, date(2025, 7, 30)) == []
    sweep(home, datetime(2025, 7, 31, tzinfo=UTC))
    assert [one.month for one in month_keys(home)] == ["2025-07"]
    assert [path.name for path in (home.path / LOCAL / KEYS).iterdir()] == ["2025-07.key"]
    with pytest.raises(VerificationError, match="was destroyed when its time was over"):
        restore(home, tmp_path / "june", NOW)
    restore(home, tmp_path / "july", NOW)


def test_a_key_half_destroyed_is_destroyed_next_time(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "b", NOW)
    path = home.path / LOCAL / KEYS / "2025-06.key"
    path.rename(path.with_suffix(".ended"))
    assert month_keys(home) == []
    shred_keys(home, date(2025, 6, 2))
    assert not list(path.parent.iterdir())


def test_the_day_is_fixed_when_the_key_is_made(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "one", NOW)
    longer = POLICY.replace(b"backup_days: 30", b"backup_days: 300")
    (home.path / "policy.yaml").write_bytes(longer)
    assert back_up(home, tmp_path / "two", NOW).unreadable_after == date(2025, 7, 30)


def test_a_policy_that_does_not_say_how_long_allows_none(home: NodeHome, tmp_path: Path) -> None:
    (home.path / "policy.yaml").write_bytes(policy_document())
    with pytest.raises(PolicyError, match="how long backups are kept"):
        back_up(home, tmp_path / "b", NOW)
    assert not list(tmp_path.glob("*b*"))


def test_the_certificate_says_until_when_backups_can_be_read(home: NodeHome, tmp_path: Path) -> None:
    from fedseg.certificate import open_certificate

    def said() -> dict[str, str]:
        (request,) = erase(home, SOMEBODY, NOW)
        with home.rights() as rights:
            stored = rights.certificate(request.id)
        assert stored is not None
        return {one.store: one.method for one in open_certificate(stored.envelope, home.key.public).stores}

    assert said()["backups"] == "none are kept"
    back_up(home, tmp_path / "b", NOW)
    assert said()["backups"] == "encrypted, unreadable after 2025-07-30"


@settings(max_examples=60, deadline=None)
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_changed_byte_restores_nothing(
    original: NodeHome, tmp_path_factory: pytest.TempPathFactory, where: float, flip: int
) -> None:
    path = tmp_path_factory.mktemp("changed") / "b"
    back_up(original, path, NOW)
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= flip
    path.write_bytes(data)
    before = dump(original)
    with pytest.raises(VerificationError):
        restore(original, path, NOW)
    assert dump(original) == before


@pytest.mark.parametrize("cut", [0, 3, 16, 19, 60, 200, -1, -17])
def test_a_shortened_backup_restores_nothing(home: NodeHome, tmp_path: Path, cut: int) -> None:
    back_up(home, tmp_path / "b", NOW)
    (tmp_path / "b").write_bytes((tmp_path / "b").read_bytes()[:cut])
    with pytest.raises(VerificationError):
        restore(home, tmp_path / "b", NOW)


def test_a_backup_of_another_unit_restores_nothing(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "b", NOW)
    text = (home.path / "node.toml").read_text("utf-8").replace('"north"', '"south"')
    (home.path / "node.toml").write_text(text, "utf-8")
    with pytest.raises(VerificationError, match="of the unit north"):
        restore(NodeHome.open(home.path), tmp_path / "b", NOW)


def test_a_file_that_is_there_is_not_written_over_and_a_failure_leaves_none(home: NodeHome, tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"precious")
    with pytest.raises(StorageError, match="there already"):
        back_up(home, tmp_path / "b", NOW)
    assert (tmp_path / "b").read_bytes() == b"precious"
    (home.path / CUSTOMERS_FILE).unlink()
    with pytest.raises(StorageError):
        back_up(home, tmp_path / "c", NOW)
    assert not list(tmp_path.glob("*c*"))
    with pytest.raises(StorageError):
        restore(home, tmp_path / "missing", NOW)


def test_a_damaged_key_is_named(home: NodeHome, tmp_path: Path) -> None:
    back_up(home, tmp_path / "b", NOW)
    (home.path / LOCAL / KEYS / "2025-06.key").write_bytes(b"{}")
    with pytest.raises(DataError, match="key of backups"):
        restore(home, tmp_path / "b", NOW)


def test_a_register_in_a_database_is_backed_up_by_the_database(
    home: NodeHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        def close(self) -> None: ...

    monkeypatch.setattr(NodeHome, "register", lambda _home: Other())
    with pytest.raises(SettingsError, match="in a database"):
        backups.back_up(home, tmp_path / "b", NOW)


@pytest.mark.parametrize("size", [0, 1, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES])
def test_a_sealed_file_gives_back_what_went_in(tmp_path: Path, size: int) -> None:
    key, plain = bytes(range(32)), bytes(size)
    path = tmp_path / "sealed"
    with path.open("wb") as file:
        writer = SealingWriter(file, key, {"of": "test"})
        writer.write(plain[: size // 2])
        writer.write(plain[size // 2 :])
        writer.finish()

    def key_for(header: Mapping[str, Json]) -> bytes:
        assert header["of"] == "test"
        return key

    with path.open("rb") as sealed:
        assert io.BufferedReader(SealedReader(sealed, key_for)).read() == plain
    with path.open("rb") as sealed, pytest.raises(VerificationError):
        SealedReader(sealed, lambda _: bytes(32)).read(10)


def test_frames_of_a_sealed_file_cannot_be_left_out_or_moved(tmp_path: Path) -> None:
    path = tmp_path / "sealed"
    with path.open("wb") as file:
        writer = SealingWriter(file, bytes(32), {})
        writer.write(bytes(3 * FRAME_BYTES))
        writer.finish()
    data = path.read_bytes()
    frame = 4 + FRAME_BYTES + 16
    start = len(data) - 3 * frame
    first, second, last = (data[start + one * frame : start + (one + 1) * frame] for one in range(3))
    for body in (
        first + second,
        second + first + last,
        first + last,
        first + first + second + last,
        first + second * 2,
    ):
        path.write_bytes(data[:start] + body)
        with path.open("rb") as sealed, pytest.raises(VerificationError):
            io.BufferedReader(SealedReader(sealed, lambda _: bytes(32))).read()
