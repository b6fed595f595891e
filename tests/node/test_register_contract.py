"""What every consent register promises, wherever it keeps its tables."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fedseg.errors import ConsentEventError, DataError, StorageError
from fedseg.node.consent.postgres import PostgresRegister
from fedseg.node.consent.register import (
    DELIVERY_SCHEMA,
    EVIDENCE,
    UNREAD,
    ConsentRegister,
    Delivery,
    ImportNote,
    Register,
)
from fedseg.policy.consent import EVENT_SCHEMA, EVERY_PURPOSE, ConsentEvent, Veto, events_table, fold
from fedseg.policy.purposes import Purpose
from tests.postgres_server import PostgresServer, running_server

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
STATISTICS, ACTIVATION = Purpose.SEGMENT_STATISTICS, Purpose.SEGMENT_ACTIVATION
ANNA, BEN = b"0123456789abcdef", bytes(16)
GIVEN = ConsentEvent(ANNA, STATISTICS, "given", NOW, NOW, NOW + timedelta(days=730), notice_version=3)
OBJECTION = ConsentEvent(ANNA, EVERY_PURPOSE, "objection", NOW, NOW)
REFUSED = ConsentEvent(ANNA, STATISTICS, "refused", NOW, NOW)


def rows(table: pa.Table) -> list[str]:
    return sorted(map(str, table.to_pylist()))


def delivery(*events: ConsentEvent, import_id: str = "one", at: datetime = NOW, **more: Any) -> Delivery:
    """An import of these events; without times of their own where `dated` or `recorded` is False."""
    dated, recorded = more.pop("dated", True), more.pop("recorded", True)
    columns: dict[str, list[Any]] = {name: [getattr(one, name) for one in events] for name in EVENT_SCHEMA.names}
    columns |= {name: [f"some {name}"] * len(events) for name in EVIDENCE}
    columns["event_time"] = columns["event_time"] if dated else [None] * len(events)
    columns["recorded_at"] = columns["recorded_at"] if recorded else [None] * len(events)
    batch = pa.record_batch([pa.array(columns[one.name], one.type) for one in DELIVERY_SCHEMA], schema=DELIVERY_SCHEMA)
    note = ImportNote(import_id, at, "crm", "m" * 64, "f" * 64, len(events), len(events), 0)
    return Delivery(note, lambda: iter([batch]), **more)


class RegisterContract(ABC):
    """Every register inherits and passes these."""

    @pytest.fixture
    def make(self) -> Callable[[], ConsentRegister]:
        """Makes empty registers."""
        raise NotImplementedError

    @pytest.fixture
    def register(self, make: Callable[[], ConsentRegister]) -> Iterator[ConsentRegister]:
        with make() as made:
            yield made

    @abstractmethod
    def again(self, register: ConsentRegister) -> ConsentRegister:
        """The same register, opened once more."""

    def test_events_come_back_as_they_went_in(self, register: ConsentRegister) -> None:
        events = [GIVEN, OBJECTION, replace(GIVEN, subject=BEN), replace(OBJECTION, kind="objection_lifted")]
        assert register.append_events(events) == 4
        stored = register.events(STATISTICS)
        assert stored.schema == EVENT_SCHEMA
        assert rows(stored) == rows(events_table(events))

    @pytest.mark.parametrize("subject", [bytes(16), b"\xff" * 16, b"\\N\t\n\r" + bytes(11)])
    @pytest.mark.parametrize("time", [datetime(1, 1, 1), NOW + timedelta(microseconds=1), datetime(9999, 12, 31)])  # noqa: DTZ001
    def test_every_event_is_stored_exactly(self, register: ConsentRegister, time: datetime, subject: bytes) -> None:
        event = replace(REFUSED, subject=subject, event_time=time.replace(tzinfo=UTC), recorded_at=NOW)
        register.append_events([event])
        assert rows(register.events(STATISTICS)) == rows(events_table([event]))

    def test_an_empty_register_has_no_events_in_the_schema_of_the_fold(self, register: ConsentRegister) -> None:
        stored = register.events(STATISTICS)
        assert (stored.num_rows, stored.schema, register.imports()) == (0, EVENT_SCHEMA, [])

    def test_a_purpose_gets_its_own_events_and_those_for_every_purpose(self, register: ConsentRegister) -> None:
        register.append_events([GIVEN, OBJECTION, replace(GIVEN, purpose=ACTIVATION)])
        assert sorted(register.events(STATISTICS)["purpose"].to_pylist()) == ["*", "fedseg:SegmentStatistics"]
        assert sorted(register.events(ACTIVATION)["purpose"].to_pylist()) == ["*", "fedseg:SegmentActivation"]

    def test_events_come_in_the_byte_order_of_their_subjects(
        self, register: ConsentRegister, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("register", "postgres"):
            monkeypatch.setattr(f"fedseg.node.consent.{module}.CHUNK_ROWS", 3)
        people = [bytes([first]) + bytes([last] * 15) for first in (0x80, 0, 0x7F, 0xFF) for last in (1, 0, 255)]
        register.append_events([replace(one, subject=who) for who in people for one in (GIVEN, OBJECTION, REFUSED)])
        register.take_in(delivery(unread=frozenset({people[0], people[5], b"\x01" * 16, b"\xfe" * 16})))
        batches = list(register.events_in_order(STATISTICS))
        assert len(batches) > 5
        assert all(batch.num_rows <= 3 and batch.schema == EVENT_SCHEMA for batch in batches)
        said = [one for batch in batches for one in batch.to_pylist()]
        assert [one["subject"] for one in said] == sorted(one["subject"] for one in said)
        assert rows(register.events(STATISTICS)) == sorted(map(str, said))
        assert sum(one["kind"] == UNREAD for one in said) == 4

    def test_events_that_nobody_asks_for_any_more_keep_nobody_waiting(
        self, register: ConsentRegister, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("register", "postgres"):
            monkeypatch.setattr(f"fedseg.node.consent.{module}.CHUNK_ROWS", 1)
        register.append_events([GIVEN, replace(GIVEN, subject=BEN)])
        events = register.events_in_order(STATISTICS)
        assert next(events).num_rows == 1
        events.close()
        assert register.append_events([OBJECTION]) == 1

    def test_an_event_that_arrives_twice_is_stored_once(self, register: ConsentRegister) -> None:
        assert register.append_events([GIVEN, GIVEN, OBJECTION]) == 2
        assert register.append_events([OBJECTION, replace(GIVEN, notice_version=4)]) == 1
        assert register.events(STATISTICS).num_rows == 3

    def test_events_that_fail_halfway_leave_nothing(self, register: ConsentRegister) -> None:
        def breaking() -> Iterator[ConsentEvent]:
            yield GIVEN
            yield replace(GIVEN, kind="unheard-of")

        register.append_events([OBJECTION])
        with pytest.raises(ConsentEventError):
            register.append_events(breaking())
        assert register.events(STATISTICS)["kind"].to_pylist() == ["objection"]
        assert register.append_events([GIVEN]) == 1, "the register can be used afterwards"

    def test_what_was_stored_is_there_for_whoever_opens_it_next(self, register: ConsentRegister) -> None:
        register.take_in(delivery(GIVEN, unread=frozenset({BEN})))
        salt = register.gate_salt("release-1")
        with self.again(register) as other:
            assert rows(other.events(STATISTICS)) == rows(register.events(STATISTICS))
            assert other.gate_salt("release-1") == salt
            assert other.imports() == register.imports()

    def test_an_import_is_stored_with_its_evidence_and_a_note(self, register: ConsentRegister) -> None:
        brought = delivery(GIVEN, OBJECTION)
        assert register.take_in(brought) == 2
        assert register.imports() == [brought.note]
        found = register.events_of(ANNA)
        assert [(one["kind"], one["record_id"]) for one in found] == [
            ("given", "some record_id"),
            ("objection", "some record_id"),
        ]
        assert (found[0]["event_time"], found[1]["valid_until"]) == (NOW.isoformat(), None)
        assert register.events_of(BEN) == []

    def test_an_import_that_comes_again_adds_nothing(self, register: ConsentRegister) -> None:
        register.take_in(delivery(GIVEN, OBJECTION))
        later = NOW + timedelta(days=7)
        assert register.take_in(delivery(GIVEN, OBJECTION, at=later)) == 0
        assert register.take_in(delivery(GIVEN, OBJECTION, at=later, recorded=False, import_id="two")) == 0
        assert register.events(STATISTICS).num_rows == 2
        assert [(one.id, one.imported_at) for one in register.imports()] == [("one", later), ("two", later)]

    def test_the_unit_came_to_know_when_it_first_heard(self, register: ConsentRegister) -> None:
        first, later = NOW + timedelta(days=1), NOW + timedelta(days=9)
        assert register.take_in(delivery(GIVEN, GIVEN, at=first, recorded=False)) == 1
        assert register.take_in(delivery(GIVEN, at=later, recorded=False)) == 0
        assert register.events(STATISTICS)["recorded_at"].to_pylist() == [first]

    def test_what_is_on_record_for_a_later_day_is_not_taken_for_known(self, register: ConsentRegister) -> None:
        register.append_events([replace(REFUSED, recorded_at=NOW + timedelta(days=400))])
        assert register.take_in(delivery(REFUSED, recorded=False)) == 1

    def test_an_undated_event_is_news_unless_it_is_the_last_word(self, register: ConsentRegister) -> None:
        def week(number: int, event: ConsentEvent, *, dated: bool) -> int:
            at = NOW + timedelta(weeks=number)
            return register.take_in(delivery(event, at=at, dated=dated, recorded=False, import_id=str(number)))

        assert [week(0, REFUSED, dated=False), week(1, REFUSED, dated=False)] == [1, 0]
        again = replace(GIVEN, event_time=NOW + timedelta(days=10))
        assert [week(2, again, dated=True), week(3, REFUSED, dated=False), week(4, REFUSED, dated=False)] == [1, 1, 0]
        assert week(5, replace(REFUSED, purpose=ACTIVATION), dated=False) == 1

    def test_an_import_that_fails_leaves_nothing(self, register: ConsentRegister) -> None:
        def breaking() -> Iterator[pa.RecordBatch]:
            yield from delivery(GIVEN).batches()
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="gone"):
            register.take_in(Delivery(delivery(GIVEN).note, breaking, frozenset({BEN})))
        assert (register.events(STATISTICS).num_rows, register.imports()) == (0, [])
        assert register.take_in(delivery(GIVEN)) == 1

    def test_whoever_has_an_unread_line_is_denied_until_it_is_corrected(self, register: ConsentRegister) -> None:
        register.take_in(delivery(GIVEN, unread=frozenset({ANNA, BEN})))
        state = fold(register.events(STATISTICS), NOW).by_purpose[STATISTICS]
        assert all(flags & Veto.UNREADABLE for flags in state.vetoes.tolist())
        register.take_in(delivery(GIVEN, import_id="two", unread=frozenset({BEN})))
        register.take_in(delivery(import_id="three", corrects="one"))
        assert [row["subject"] for row in register.events(STATISTICS).to_pylist() if row["kind"] == UNREAD] == [BEN]

    def test_it_says_of_how_many_customers_there_is_any_event(self, register: ConsentRegister) -> None:
        register.append_events([GIVEN, OBJECTION])
        assert [register.knows([]), register.knows([ANNA, BEN]), register.knows([BEN])] == [0, 1, 0]

    def test_of_whom_is_forgotten_nothing_is_left(self, register: ConsentRegister) -> None:
        register.append_events([replace(GIVEN, subject=BEN)])
        register.take_in(delivery(GIVEN, OBJECTION, unread=frozenset({ANNA, BEN})))
        register.forget_subjects([ANNA, b"nobody with this"])
        assert set(register.events(STATISTICS)["subject"].to_pylist()) == {BEN}
        assert register.events(STATISTICS).num_rows == 2

    def test_exactly_the_events_named_are_forgotten(self, register: ConsentRegister) -> None:
        register.take_in(delivery(GIVEN, OBJECTION, replace(GIVEN, subject=BEN), unread=frozenset({ANNA})))
        later = replace(GIVEN, event_time=NOW + timedelta(microseconds=1))
        register.append_events([later])
        assert register.forget_events(events_table([GIVEN, OBJECTION, replace(GIVEN, notice_version=4)])) == 2
        left = [one for one in register.events(STATISTICS).to_pylist() if one["kind"] != UNREAD]
        assert sorted(map(str, left)) == rows(events_table([replace(GIVEN, subject=BEN), later]))
        assert register.events(STATISTICS).num_rows == 3
        assert register.forget_events(events_table([])) == 0

    def test_a_salt_is_fresh_for_each_release_the_same_for_one_and_gone_when_forgotten(
        self, register: ConsentRegister
    ) -> None:
        first, second = register.gate_salt("release-1"), register.gate_salt("release-2")
        assert len({first, second}) == 2
        assert (len(first), register.gate_salt("release-1")) == (32, first)
        register.forget_salt("release-1")
        register.forget_salt("nonesuch")
        assert register.gate_salt("release-1") != first
        assert register.gate_salt("release-2") == second

    def test_no_error_names_a_customer(self, register: ConsentRegister) -> None:
        register.close()
        with pytest.raises(Exception) as caught:  # noqa: PT011 (any: each has its own)
            register.append_events([GIVEN])
        assert str(ANNA) not in repr(caught.value)
        assert ANNA.hex() not in repr(caught.value)

    def test_threads_share_one_register_and_two_registers_share_the_tables(self, register: ConsentRegister) -> None:
        with self.again(register) as other:

            def work(number: int) -> None:
                place = register if number % 2 else other
                subject = number.to_bytes(16, "big")
                place.append_events([replace(GIVEN, subject=subject), OBJECTION])
                place.events(STATISTICS)
                place.gate_salt("shared")

            threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
            for one in threads:
                one.start()
            for one in threads:
                one.join()
            assert register.events(STATISTICS).num_rows == 9
            assert register.gate_salt("shared") == other.gate_salt("shared")


class TestRegister(RegisterContract):
    """One file in the unit's home."""

    @pytest.fixture
    def make(self, tmp_path: Path) -> Callable[[], ConsentRegister]:
        return lambda: Register.create(tmp_path / "register.db")

    def again(self, register: ConsentRegister) -> ConsentRegister:
        assert isinstance(register, Register)
        return Register(register._path)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_server() as running:
        yield running


@pytest.mark.processes
class TestPostgresRegister(RegisterContract):
    """A database with a socket on the unit's machine."""

    url = ""

    @pytest.fixture
    def make(self, server: PostgresServer) -> Callable[[], ConsentRegister]:
        type(self).url = server.new_database()
        return lambda: PostgresRegister.create(self.url, "north")

    def again(self, register: ConsentRegister) -> ConsentRegister:
        return PostgresRegister.open(self.url, "north")

    def test_another_units_register_or_none_is_refused(self, register: ConsentRegister, server: PostgresServer) -> None:
        with pytest.raises(DataError, match="of unit south"):
            PostgresRegister.open(self.url, "south")
        with pytest.raises(DataError, match="holds no register"):
            PostgresRegister.open(server.new_database(), "north")
        with pytest.raises(StorageError, match="SQLSTATE 42P06"):
            PostgresRegister.create(self.url, "north")

    def test_a_database_that_is_not_there_is_a_storage_error(self, server: PostgresServer, tmp_path: Path) -> None:
        for url in (self.url.replace("/unit", "/nonesuch"), f"postgresql:///x?host={tmp_path}"):
            with pytest.raises(StorageError, match="nothing of this change was kept"):
                PostgresRegister.open(url, "north")

    def test_readers_go_on_while_an_import_is_stored(self, register: ConsentRegister) -> None:
        seen: list[int] = []

        def batches() -> Iterator[pa.RecordBatch]:
            yield from delivery(GIVEN).batches()
            with self.again(register) as other:
                seen.append(other.events(STATISTICS).num_rows)

        register.take_in(Delivery(delivery(GIVEN).note, batches))
        assert seen == [0]
        assert register.events(STATISTICS).num_rows == 1
