"""Witnessed plans: nothing leaves a unit before its witnesses have seen what it spent, and a restored unit is caught."""

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flwr.app import Message

from fedseg.clustering.request import request_sha256
from fedseg.errors import (
    ContributionError,
    NotWitnessedError,
    PolicyError,
    RequestError,
    RolledBackError,
    RoundError,
)
from fedseg.federation.flower.messages import WITNESS_BYTES_A_UNIT, largest_body_bytes
from fedseg.federation.loopback import LoopbackGrid
from fedseg.federation.server_app import run_plan
from fedseg.federation.witness_wire import (
    MESSAGE_LIMIT_BYTES,
    WITNESS_TYPE,
    decode_asked,
    decode_said,
    encode_asked,
    encode_said,
)
from fedseg.node.approvals import approve
from fedseg.node.contribute import contribute
from fedseg.node.home import NodeHome
from fedseg.node.integrity import require_integrity
from fedseg.node.witnessing import (
    COSIGNED_FILE,
    ROLLED_BACK_FILE,
    Asked,
    NodeProcess,
    Reply,
    Said,
    answer,
)
from fedseg.privacy.noise import SimulatedNoise
from fedseg.segments.segmentation import SignedSegmentation
from tests.small_federation import NOW, SmallFederation, make_federation, policy_document, some_request
from tests.witnessed_federation import Kinds, have_witnessed, witnessed
from tests.wrapped_grid import WrappedGrid

SIZES = {"north": 60, "south": 50, "west": 40}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    return witnessed(tmp_path_factory.mktemp("witnessed") / "federation", SIZES)


@pytest.fixture
def federation(template: SmallFederation, tmp_path: Path) -> SmallFederation:
    return template.copied_to(tmp_path / "federation")


def run(federation: SmallFederation, grid: LoopbackGrid | WrappedGrid | None = None) -> SignedSegmentation:
    used = federation.grid() if grid is None else grid
    return run_plan(
        used, federation.server, federation.document, roster=federation.roster, clock=used.clock, sleep=used.sleep
    )


def kinds(home: NodeHome) -> list[str]:
    with home.ledger() as ledger:
        return [entry.kind for entry in ledger.entries()]


def ask_once(home: NodeHome, federation: SmallFederation, step: int = 0) -> bytes:
    plan, request = federation.plan, some_request(federation.plan, step)
    return contribute(
        home,
        plan.digest,
        request,
        request_sha256(plan.digest, request),
        now=datetime.now(UTC),
        source=SimulatedNoise(step),
        process=federation.processes[home.path],
    ).payload


def test_a_witnessed_plan_runs_to_its_end_and_every_release_but_the_last_is_cosigned(
    federation: SmallFederation,
) -> None:
    run(federation)
    for home in federation.homes:
        assert kinds(home).count("release") == 3
        with home.ledger() as ledger:
            history, _ = ledger.signed()
        note = (home.path / COSIGNED_FILE).read_text("utf-8")
        assert note.splitlines()[1] == str(history.size - 1)
        assert note.count("— fedseg/witness/") >= 1


def test_nothing_leaves_before_the_approval_is_cosigned(federation: SmallFederation) -> None:
    for home in federation.homes:
        with pytest.raises(NotWitnessedError):
            ask_once(home, federation)
        assert "release" not in kinds(home)


class Mute(WrappedGrid):
    """A server that carries nothing about witnessing."""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        pushed = list(messages)
        kept = [one for one in pushed if one.metadata.message_type != WITNESS_TYPE]
        ids = iter(self.inner.push_messages(kept))
        return ["" if one.metadata.message_type == WITNESS_TYPE else next(ids) for one in pushed]


def test_a_server_that_carries_no_cosignatures_gets_no_release(federation: SmallFederation) -> None:
    with pytest.raises(RoundError):
        run(federation, Mute(federation.grid()))
    assert all("release" not in kinds(home) for home in federation.homes)


def test_a_witness_that_is_gone_is_no_hindrance_to_a_quorum_of_others(tmp_path: Path) -> None:
    federation = witnessed(tmp_path / "federation", SIZES | {"east": 30})
    shutil.rmtree(federation.home("west").path / "LOCAL" / "witness")
    run(federation)
    assert kinds(federation.home("north")).count("release") == 3


def test_without_a_quorum_nothing_leaves(tmp_path: Path) -> None:
    federation = witnessed(tmp_path / "federation", SIZES)
    (federation.home("west").path / "LOCAL" / "witness" / "witness.json").unlink()
    with pytest.raises(RoundError):
        run(federation)
    assert [kinds(home).count("release") for home in federation.homes] == [0, 0, 0]


def restored(federation: SmallFederation, home: NodeHome, copy: Path) -> None:
    """As from a backup: the node was stopped, and begins to run on the copy."""
    shutil.rmtree(home.path)
    shutil.copytree(copy, home.path)
    del federation.processes[home.path]


def test_a_unit_restored_as_a_whole_learns_of_it_and_never_releases_again(
    federation: SmallFederation, tmp_path: Path
) -> None:
    north = federation.home("north")
    shutil.copytree(north.path, tmp_path / "yesterday")
    run(federation)
    restored(federation, north, tmp_path / "yesterday")
    assert not have_witnessed(federation)
    assert (north.path / ROLLED_BACK_FILE).exists()
    for refused in (lambda: ask_once(north, federation), lambda: require_integrity(north)):
        with pytest.raises(RolledBackError, match="another history"):
            refused()
    # Nobody else is held up, and being asked again changes nothing.
    assert all(kinds(home).count("release") == 3 for home in federation.homes[1:])
    assert not have_witnessed(federation)


def test_a_ledger_restored_alone_is_found_before_anybody_is_asked(federation: SmallFederation, tmp_path: Path) -> None:
    north = federation.home("north")
    shutil.copy(north.path / "ledger.db", tmp_path / "yesterday.db")
    run(federation)
    shutil.copy(tmp_path / "yesterday.db", north.path / "ledger.db")
    with pytest.raises(RolledBackError):
        require_integrity(north)
    with pytest.raises(RolledBackError):
        ask_once(north, federation)


def test_a_witness_that_knows_more_is_asked_again_from_there(federation: SmallFederation) -> None:
    assert have_witnessed(federation)
    # A server that was restarted knows nothing any more, and finds out.
    assert have_witnessed(federation)
    ask_once(federation.home("north"), federation)
    assert have_witnessed(federation)


def test_a_unit_whose_policy_declares_that_it_has_no_witness_is_asked_for_none(tmp_path: Path) -> None:
    alone = make_federation(
        tmp_path / "alone", SIZES, policy=policy_document() + b"witnesses: {quorum: 0}\n", witnessed=False
    ).approve_all()
    ask_once(alone.home("north"), alone)


def test_a_policy_with_witnesses_lets_no_plan_pass_that_is_not_witnessed(
    template: SmallFederation, tmp_path: Path
) -> None:
    plain = make_federation(tmp_path / "plain", SIZES)
    home = plain.home("north")
    policy = template.home("north").policy_document()
    (home.path / "policy.yaml").write_bytes(policy)
    with pytest.raises(PolicyError, match=r"witnesses\.quorum"):
        approve(home, plain.plan, plain.document, now=NOW)


def test_a_unit_cosigns_for_units_of_its_plans_and_for_nobody_else(federation: SmallFederation, tmp_path: Path) -> None:
    stranger = make_federation(tmp_path / "strangers", {"far": 20, "away": 20}).home("far")
    own = Asked(federation.plan.digest)
    shown = [
        answer(home, own, NodeProcess(), datetime.now(UTC)).growth[0] for home in (federation.home("south"), stranger)
    ]
    said = answer(
        federation.home("north"), Asked(own.plan_sha256, to_cosign=tuple(shown)), NodeProcess(), datetime.now(UTC)
    )
    assert [one.status for one in said.replies] == [200, 404]


def test_what_a_unit_is_given_and_cannot_use_changes_nothing(federation: SmallFederation) -> None:
    north = federation.home("north")
    with north.ledger() as ledger:
        _, own = ledger.signed()
    for note in ("nonsense", own, as_other(own)):
        said = answer(north, Asked(federation.plan.digest, given=(note,)), NodeProcess(), datetime.now(UTC))
        assert not said.satisfied
    assert not (north.path / COSIGNED_FILE).exists()
    assert (
        answer(north, Asked(federation.plan.digest, sizes=(0, 1, 99)), NodeProcess(), datetime.now(UTC))
        .growth[1]
        .startswith("old 1\n")
    )


def as_other(note: str) -> str:
    return note.replace("north", "south")


def test_words_of_several_witnesses_are_gathered_and_older_ones_do_not_replace_newer(tmp_path: Path) -> None:
    federation = witnessed(tmp_path / "federation", SIZES)
    assert have_witnessed(federation)
    north = federation.home("north")
    note = (north.path / COSIGNED_FILE).read_text("utf-8")
    assert note.count("— fedseg/witness/") == 2
    ask_once(north, federation)
    assert have_witnessed(federation)
    newer = (north.path / COSIGNED_FILE).read_text("utf-8")
    assert newer != note
    answer(north, Asked(federation.plan.digest, given=(note,)), NodeProcess(), datetime.now(UTC))
    assert (north.path / COSIGNED_FILE).read_text("utf-8") == newer


def test_a_word_from_before_the_process_began_does_not_open_the_door(federation: SmallFederation) -> None:
    assert have_witnessed(federation)
    del federation.processes[federation.home("north").path]
    with pytest.raises(NotWitnessedError, match="since this process began"):
        ask_once(federation.home("north"), federation)
    assert have_witnessed(federation)
    ask_once(federation.home("north"), federation)


def test_a_ledger_that_is_put_back_under_a_running_process_is_found_at_once(
    federation: SmallFederation, tmp_path: Path
) -> None:
    north = federation.home("north")
    shutil.copy(north.path / "ledger.db", tmp_path / "yesterday.db")
    assert have_witnessed(federation)
    shutil.copy(tmp_path / "yesterday.db", north.path / "ledger.db")
    (north.path / COSIGNED_FILE).unlink()
    with pytest.raises(RolledBackError, match="in which the unit's process began"):
        ask_once(north, federation)


def test_a_copy_that_is_restarted_a_moment_later_cannot_go_on_beside_the_first(
    federation: SmallFederation, tmp_path: Path
) -> None:
    north = federation.home("north")
    assert have_witnessed(federation)
    ask_once(north, federation)
    assert have_witnessed(federation)
    shutil.copytree(north.path, tmp_path / "copy")
    ask_once(north, federation, 1)
    assert have_witnessed(federation)
    restored(federation, north, tmp_path / "copy")
    with pytest.raises(NotWitnessedError):
        ask_once(north, federation, 1)
    have_witnessed(federation)
    with pytest.raises(RolledBackError):
        ask_once(north, federation, 1)


def test_a_note_that_was_damaged_on_the_disk_is_replaced_by_the_next_one(federation: SmallFederation) -> None:
    north = federation.home("north")
    assert have_witnessed(federation)
    (north.path / COSIGNED_FILE).write_bytes(b"\x00 no note")
    with pytest.raises(NotWitnessedError):
        ask_once(north, federation)
    assert have_witnessed(federation)
    ask_once(north, federation)


class Restarting(WrappedGrid):
    """A unit's process ends and begins anew after it was given its cosignatures and before it can release."""

    def __init__(self, inner: LoopbackGrid, federation: SmallFederation) -> None:
        super().__init__(inner)
        self.federation, self.left = federation, 1

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        pushed = list(messages)
        if self.left and any(one.metadata.message_type != WITNESS_TYPE for one in pushed):
            self.left -= 1
            del self.federation.processes[self.federation.home("north").path]
        return self.inner.push_messages(pushed)


def test_a_unit_that_restarts_within_a_round_is_witnessed_anew_and_still_takes_part(
    federation: SmallFederation,
) -> None:
    signed = run(federation, Restarting(federation.grid(), federation))
    assert sorted(signed.segmentation.units) == ["north", "south", "west"]
    assert kinds(federation.home("north")).count("start") == 2


def test_two_exchanges_before_the_first_round_and_one_between_rounds_are_enough(federation: SmallFederation) -> None:
    grid = Kinds(federation.grid())
    run(federation, grid)
    assert grid.sent == ["witness", "witness", "release", "witness", "release", "witness", "release"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"kind":"fedseg-witness-asked","version":1}',
        b"[" * 100_000,
        encode_asked(Asked("1" * 64)) + b" ",
        encode_asked(Asked("1" * 64, given=("x" * 65_537,))),
        encode_asked(Asked("1" * 64, sizes=(-1,))),
        encode_asked(Asked("1" * 64, sizes=tuple(range(1025)))),
        b"x" * (MESSAGE_LIMIT_BYTES + 1),
        encode_said(Said("w", (), satisfied=True, replies=(Reply(-1, "", ""),))),
        encode_said(Said("w", (), satisfied=True)).replace(b'"replies":[]', b'"replies":[1]'),
    ],
    ids=range(11),
)
def test_what_is_no_message_about_witnessing_is_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        decode_asked(data)
    with pytest.raises(ContributionError):
        decode_said(data)


def test_messages_about_witnessing_come_back_as_they_were() -> None:
    asked = Asked("1" * 64, ("note",), ("request",), (0, 7))
    said = Said("w", ("a", "b"), satisfied=False, growth=("g",), replies=(Reply(409, "7\n", "newest"),))
    assert decode_asked(encode_asked(asked)) == asked
    assert decode_said(encode_said(said)) == said


def test_what_a_unit_says_fits_into_what_the_servers_proxy_lets_pass(federation: SmallFederation) -> None:
    run(federation)
    requests = tuple(
        answer(home, Asked(federation.plan.digest), NodeProcess(), datetime.now(UTC)).growth[0]
        for home in federation.homes
    )
    said = answer(
        federation.home("north"),
        Asked(federation.plan.digest, to_cosign=requests, sizes=(0, 1, 2, 3)),
        NodeProcess(),
        datetime.now(UTC),
    )
    assert {one.status for one in said.replies} == {404, 409}
    assert len(encode_said(said)) < WITNESS_BYTES_A_UNIT * (len(SIZES) + 1)
    assert largest_body_bytes(federation.plan) > WITNESS_BYTES_A_UNIT * (len(SIZES) + 1)
