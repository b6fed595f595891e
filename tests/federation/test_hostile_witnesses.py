"""What a unit, a server or a witness that lies about witnessing can reach: a delay, and nothing for anybody else."""

import gzip
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from fedseg.clustering.request import request_sha256
from fedseg.errors import ContributionError, NotWitnessedError, RolledBackError
from fedseg.federation import wire
from fedseg.federation.loopback import LoopbackGrid
from fedseg.federation.server_app import run_plan
from fedseg.federation.witness_post import posts
from fedseg.federation.witness_wire import WITNESS_TYPE, decode_asked, decode_said, encode_said
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.notes import SignatureType, sign_note
from fedseg.ledger.proof import ConsistencyProof
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.node.approvals import approve
from fedseg.node.contribute import contribute
from fedseg.node.home import NodeHome
from fedseg.node.witnessing import ROLLED_BACK_FILE, Asked, NodeProcess, Reply, Said, answer, as_witness
from fedseg.privacy.noise import SimulatedNoise
from tests.federation.serving import served
from tests.small_federation import SmallFederation, policy_document, some_request
from tests.witnessed_federation import have_witnessed, witnessed
from tests.wrapped_grid import WrappedGrid

SIZES = {"north": 40, "south": 30, "west": 30, "east": 30}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallFederation:
    return witnessed(tmp_path_factory.mktemp("witnessed") / "federation", SIZES)


@pytest.fixture
def federation(template: SmallFederation, tmp_path: Path) -> SmallFederation:
    return template.copied_to(tmp_path / "federation")


def release(federation: SmallFederation, step: int, seed: int = 0) -> bytes:
    """What north answers to a request of its own for a step."""
    home, plan, request = federation.home("north"), federation.plan, some_request(federation.plan, step, seed)
    return contribute(
        home, plan.digest, request, request_sha256(plan.digest, request), now=datetime.now(UTC),
        source=SimulatedNoise(seed), process=federation.processes[home.path],
    ).payload  # fmt: skip


def name_witnesses(federation: SmallFederation, names: Iterable[str], quorum: int) -> None:
    """From now on these are north's."""
    keys = {home.settings.unit: as_witness(home).verifier_key.to_text() for home in federation.homes}
    stated = "".join(f"    {name}: {keys[name]}\n" for name in names)
    home = federation.home("north")
    document = policy_document() + f"witnesses:\n  quorum: {quorum}\n  keys:\n{stated}".encode()
    (home.path / "policy.yaml").write_bytes(document)
    approve(NodeHome.open(home.path), federation.plan, federation.document, now=datetime.now(UTC))


def put_back(federation: SmallFederation, copy: Path) -> None:
    home = federation.home("north")
    shutil.rmtree(home.path)
    shutil.copytree(copy, home.path)
    del federation.processes[home.path]


# A change of witnesses


def test_a_unit_that_is_put_back_to_before_its_witnesses_were_others_spends_nothing_again(
    federation: SmallFederation, tmp_path: Path
) -> None:
    name_witnesses(federation, ["south", "west"], 2)
    assert have_witnessed(federation)
    release(federation, 0)
    assert have_witnessed(federation)
    shutil.copytree(federation.home("north").path, tmp_path / "before")
    name_witnesses(federation, ["east"], 1)
    for step in (1, 2):
        assert have_witnessed(federation)
        release(federation, step)
    put_back(federation, tmp_path / "before")
    for _ in range(2):
        have_witnessed(federation)
        with pytest.raises(RolledBackError):
            release(federation, 1, seed=7)
    assert (federation.home("north").path / ROLLED_BACK_FILE).exists()


def test_without_the_word_of_those_before_the_new_witnesses_open_no_door(federation: SmallFederation) -> None:
    name_witnesses(federation, ["south", "west"], 2)
    name_witnesses(federation, ["east"], 1)
    gone = [federation.home(name).path / "LOCAL" / "witness" / "witness.json" for name in ("south", "west")]
    kept = [file.read_bytes() for file in gone]
    gone[0].unlink()
    have_witnessed(federation)
    with pytest.raises(NotWitnessedError, match="others take their place"):
        release(federation, 0)
    gone[0].write_bytes(kept[0])
    have_witnessed(federation)
    release(federation, 0)
    # Once they have said it, they are asked no more.
    for file in gone:
        file.unlink()
    have_witnessed(federation)
    release(federation, 1)


# One unit among others

Lie = Callable[[SmallFederation, Said, Asked], Said]


class Lying(WrappedGrid):
    """West says something else of witnessing than its program does."""

    def __init__(self, inner: LoopbackGrid, federation: SmallFederation, lie: Lie) -> None:
        super().__init__(inner)
        self.federation, self.lie = federation, lie
        self.asked: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        pushed = list(messages)
        names = list(self.inner.push_messages(pushed))
        self.asked |= dict(zip(names, pushed, strict=True))
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._changed(reply) for reply in self.inner.pull_messages(message_ids)]

    def _changed(self, reply: Message) -> Message:
        message = self.asked[reply.metadata.reply_to_message_id]
        record = wire.RECORD if message.metadata.message_type == WITNESS_TYPE else wire.BESIDE
        if message.metadata.dst_node_id == self.federation.roster["west"] and record in reply.content:
            asked, said = (str_of(one.content[record]) for one in (message, reply))
            with suppress(ContributionError):  # it says nothing any more
                changed = self.lie(self.federation, decode_said(said), decode_asked(asked))
                reply.content[record] = ConfigRecord({wire.FIELD: encode_said(changed)})
        return reply


def str_of(record: object) -> bytes:
    assert isinstance(record, ConfigRecord)
    data = record[wire.FIELD]
    assert isinstance(data, bytes)
    return data


def replying(reply: Reply) -> Lie:
    return lambda _federation, said, asked: replace(said, replies=tuple(reply for _ in asked.to_cosign))


def as_north(federation: SmallFederation, said: Said, _asked: Asked) -> Said:
    return replace(said, witness=as_witness(federation.home("north")).verifier_key.to_text(), replies=())


def growing(size: int, more: str = "") -> Lie:
    """West's own key signs a checkpoint of what it likes, with lines that ours do not have."""

    def lie(federation: SmallFederation, said: Said, _asked: Asked) -> Said:
        root = bytes([len(said.growth), federation.server.path.stat().st_mtime_ns % 251]) * 16
        text = Checkpoint("fedseg/unit/west", size, root).to_text() + more
        note = sign_note(text, "fedseg/unit/west", federation.home("west").key)
        return replace(said, satisfied=False, growth=(ConsistencyProof(0, (), note).to_text(),))

    return lie


def wanting(times: int) -> Lie:
    return lambda _federation, said, _asked: replace(said, satisfied=False, wanted=said.wanted * times)


LIES = {
    "a note with a refusal": replying(Reply(403, "", "x")),
    "a size beyond all": replying(Reply(409, "9" * 18, "")),
    "a size that is none": replying(Reply(409, "\n" * 18 + "5", "")),
    "a signature without end": replying(Reply(200, "x" * 4000, "")),
    "a note without end": replying(Reply(409, "5\n", "x" * 4000)),
    "to be north": as_north,
    "more entries than there are": growing(10**18 - 1),
    "a checkpoint that says more": growing(7, "an extension\n"),
    "a checkpoint of many words": growing(7, "y" * 3000 + "\n"),
    "each witness many times": wanting(100),
}


@pytest.mark.parametrize("name", LIES)
def test_a_unit_that_lies_ends_nobody_elses_run(federation: SmallFederation, name: str) -> None:
    grid = Lying(federation.grid(), federation, LIES[name])
    signed = run_plan(
        grid, federation.server, federation.document, roster=federation.roster, clock=grid.clock, sleep=grid.sleep
    )
    assert {"north", "south", "east"} <= set(signed.segmentation.units)
    assert not any((federation.home(name).path / ROLLED_BACK_FILE).exists() for name in ("north", "south", "east"))


def test_a_peers_log_keeps_the_key_that_it_had_first_whoever_names_another(federation: SmallFederation) -> None:
    assert have_witnessed(federation)
    north, thief = federation.home("north"), SigningKey.generate()
    with north.ledger() as ledger:
        known = as_witness(north).logs()["fedseg/unit/south"].keys
        del ledger
    document = federation.document.replace(
        federation.home("south").key.public.to_text().encode(), thief.public.to_text().encode()
    ).replace(b'name = "small"', b'name = "another"')
    changed = SmallFederation(federation.path, document)
    approve(north, changed.plan, document, now=datetime.now(UTC))
    note = sign_checkpoint(Checkpoint("fedseg/unit/south", 99, bytes(32)), thief)
    asked = Asked(changed.plan.digest, to_cosign=(ConsistencyProof(0, (), note).to_text(),))
    said = answer(north, asked, NodeProcess(), datetime.now(UTC))
    assert [one.status for one in said.replies] == [403]
    assert as_witness(north).logs()["fedseg/unit/south"].keys == known


# Clocks, and witnesses at an address


def test_a_start_by_a_wrong_clock_costs_nothing(federation: SmallFederation) -> None:
    north = federation.home("north")
    later = datetime.now(UTC) + timedelta(days=30_000)
    answer(north, Asked(federation.plan.digest), federation.processes[north.path], later)
    del federation.processes[north.path]
    assert have_witnessed(federation)
    release(federation, 0)


@pytest.mark.parametrize("packed", [0, 1, 2])
def test_what_a_witness_packs_is_not_unpacked(tmp_path_factory: pytest.TempPathFactory, packed: int) -> None:
    body = b"\0" * 2**24
    for _ in range(packed):
        body = gzip.compress(body, 9)

    def bomb(_request: object) -> Response:
        return Response(body, headers={"Content-Encoding": ", ".join(["gzip"] * packed)} if packed else {})

    app = Starlette(routes=[Route("/0/add-checkpoint", bomb, methods=["POST"])])
    with served(app, tmp_path_factory.mktemp("w")) as socket:
        reply = posts(socket, ["w"])["w"]("old 0\n\n")
    assert len(reply.body) <= 4096


def test_a_witness_whose_making_was_interrupted_is_made_by_the_next_attempt(
    federation: SmallFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    north = federation.home("north")
    shutil.rmtree(north.path / "LOCAL" / "witness")

    def full(_key: SigningKey, _path: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SigningKey, "save", full)
        with pytest.raises(Exception, match="No space left"):
            as_witness(north)
    assert as_witness(north).verifier_key.type is SignatureType.ED25519_COSIGNATURE
    assert VerifierKey.from_text(as_witness(north).verifier_key.to_text()) == as_witness(north).verifier_key
