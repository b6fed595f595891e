"""The gate at a unit decides some customers at a time as it would on all at once, from every register and from none."""

import resource
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import ModuleType

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedseg.errors import PolicyError, StorageError
from fedseg.node import gate, keys_on_disk
from fedseg.node.consent import register as register_module
from fedseg.node.consent.register import Delivery, ImportNote, Register
from fedseg.node.gate import decide_now
from fedseg.node.home import LOCAL, RIGHTS_FILE, NodeHome
from fedseg.node.rights.register import RightsRegister
from fedseg.policy.consent import EVERY_PURPOSE, ConsentEvent, ConsentState, events_table, fold
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.gate import Decisions, Reason, decide
from fedseg.policy.purposes import Purpose
from fedseg.table import SUBJECT_TYPE
from tests.policy.conftest import EventMaker
from tests.policy.test_gate_model import POLICIES, histories
from tests.small_federation import make_unit, policy_document

NOW = EventMaker.now
STATISTICS = Purpose.SEGMENT_STATISTICS
SALT = bytes(range(32))
PEOPLE = range(1, 9)
NOTE = ImportNote("one", NOW - timedelta(days=1), "crm", "m" * 64, "f" * 64, 0, 0, 0)

event = EventMaker()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> NodeHome:
    path = tmp_path_factory.mktemp("gate") / "unit"
    return make_unit(path, "unit", consenting=(), customers=b"", policy=policy_document())


def anew(home: NodeHome, events: Sequence[ConsentEvent], unread: frozenset[bytes], erased: Sequence[bytes]) -> None:
    """Give the unit registers with exactly this in them."""
    rights = home.path / LOCAL / RIGHTS_FILE
    for path in (home.register_file, rights):
        path.unlink()
    with Register.create(home.register_file) as register:
        register.append_events(events)
        register.take_in(Delivery(NOTE, lambda: iter([]), unread=unread))
    with RightsRegister.create(rights) as requests:
        requests.change([], lambda one: one, suppress=erased)


def at_once(home: NodeHome, policy: Policy, now: datetime) -> Decisions:
    """The same decisions, from one table of all events in any order."""
    with home.register() as register, home.rights() as rights:
        erased = [ConsentEvent(one, EVERY_PURPOSE, "suppressed", now, now) for one in rights.suppressed().to_pylist()]
        return decide(
            fold(pa.concat_tables([events_table(erased), register.events(STATISTICS)]), now), policy, STATISTICS, now
        )


def now_decided(home: NodeHome, policy: Policy, now: datetime = NOW) -> Decisions:
    with home.register() as register:
        return decide_now(home, register, policy, STATISTICS, now)


def listed(decisions: Decisions) -> list[tuple[bytes, int]]:
    found = ((some.to_pylist(), codes.tolist()) for some, codes in decisions.pieces(2))
    return [one for some, codes in found for one in zip(some, codes, strict=True)]


@st.composite
def registers(draw: st.DrawFn) -> tuple[list[ConsentEvent], frozenset[bytes], list[bytes]]:
    """What is said of some people, of whom a line cannot be read, and who was erased: in part people of no event."""
    who = st.integers(PEOPLE[0], PEOPLE[-1])
    said = [
        replace(one, subject=subject)
        for subject in draw(st.lists(who.map(event.subject), max_size=4))
        for one in draw(histories(event))
    ]
    people = st.lists(who.map(event.subject), max_size=4, unique=True)
    return said, frozenset(draw(people)), draw(people)


CUTS = st.fixed_dictionaries(
    {
        (register_module, "CHUNK_ROWS"): st.integers(1, 5),
        (gate, "EVENTS_AT_ONCE"): st.integers(1, 6),
        (keys_on_disk, "MEMORY_BYTES"): st.sampled_from([0, 30, 2**24]),
    }
)


@settings(max_examples=60, deadline=None)
@given(kept=registers(), cuts=CUTS, place=st.sampled_from(range(len(POLICIES))))
def test_customers_are_decided_on_some_at_a_time_as_all_at_once(
    home: NodeHome,
    kept: tuple[list[ConsentEvent], frozenset[bytes], list[bytes]],
    cuts: Mapping[tuple[ModuleType, str], int],
    place: int,
) -> None:
    anew(home, *kept)
    policy = POLICIES[place]
    expected = at_once(home, policy, NOW)
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), size in cuts.items():
            patch.setattr(module, name, size)
        found = now_decided(home, policy)
    assert listed(found) == listed(expected)
    assert found.commitment(SALT, policy.digest) == expected.commitment(SALT, policy.digest)
    everyone = pa.array([None, *(event.subject(who) for who in range(12))], SUBJECT_TYPE)
    assert found.allow(everyone).tolist() == expected.allow(everyone).tolist()


def test_nobody_who_was_erased_is_allowed_whatever_is_said_of_them(home: NodeHome) -> None:
    said = [event("given", who=who, days_ago=2) for who in (2, 4, 6)]
    lifted = [replace(event("suppressed_lifted", who=4, days_ago=0), purpose=EVERY_PURPOSE)]
    anew(home, [*said, *lifted], frozenset(), [event.subject(who) for who in (1, 4, 5, 7, 8)])
    found = dict(listed(now_decided(home, load_policy(policy_document()))))
    assert [Reason(found[event.subject(who)]) for who in range(1, 9) if who != 3] == [
        Reason.VETOED_SUPPRESSED if who not in (2, 6) else Reason.ALLOWED for who in range(1, 9) if who != 3
    ]
    assert event.subject(3) not in found


def test_a_withdrawal_at_the_very_moment_of_a_consent_counts(home: NodeHome) -> None:
    anew(home, [event("given", days_ago=2), event("withdrawn", days_ago=2)], frozenset(), [])
    assert listed(now_decided(home, load_policy(policy_document()))) == [(event.subject(1), Reason.WITHDRAWN)]


def test_no_more_events_are_folded_at_a_time_than_fit(home: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    anew(
        home,
        [event("given", who=who) for who in range(50)],
        frozenset(),
        [event.subject(99 + who) for who in range(50)],
    )
    folded: list[int] = []

    def noted(piece: pa.Table, now: datetime) -> ConsentState:
        folded.append(piece.num_rows)
        return fold(piece, now)

    monkeypatch.setattr(gate, "fold", noted)
    monkeypatch.setattr(gate, "EVENTS_AT_ONCE", 10)
    monkeypatch.setattr(register_module, "CHUNK_ROWS", 4)
    assert len(now_decided(home, load_policy(policy_document())).codes) == 100
    assert sum(folded) == 100
    assert max(folded) <= 10 + 4


def test_a_purpose_the_policy_does_not_name_is_refused_before_anybody_is_looked_at(
    home: NodeHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "fold", None)
    with home.register() as register, pytest.raises(PolicyError, match="does not allow the purpose"):
        decide_now(home, register, load_policy(policy_document()), "fedseg:Everything", NOW)


def test_the_register_can_be_used_after_a_refusal(home: NodeHome) -> None:
    anew(home, [event("given", who=1)], frozenset(), [])
    policy = load_policy(policy_document())
    with home.register() as register:
        with pytest.raises(ValueError, match="time zone"):
            decide_now(home, register, policy, STATISTICS, NOW.replace(tzinfo=None))
        assert len(decide_now(home, register, policy, STATISTICS, NOW).codes) == 1


def test_a_full_disk_decides_on_nobody(home: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    anew(home, [event("given", who=who) for who in range(100)], frozenset(), [])
    monkeypatch.setattr(keys_on_disk, "MEMORY_BYTES", 0)
    before, (soft, hard) = sorted(home.path.iterdir()), resource.getrlimit(resource.RLIMIT_FSIZE)
    with home.register() as register:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        try:
            with pytest.raises(StorageError, match="File too large; nothing was left"):
                decide_now(home, register, load_policy(policy_document()), STATISTICS, NOW)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(home.path.iterdir()) == before
