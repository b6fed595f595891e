"""Witnesses that are no units, at an address; and the server's own log, which the units witness."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from fedseg.audit.contradiction import PROOFS
from fedseg.audit.proof import EquivocationProof
from fedseg.deploy.witness import application
from fedseg.errors import RolledBackError, RoundError
from fedseg.federation.loopback import LoopbackGrid
from fedseg.federation.server_app import run_plan
from fedseg.federation.witness_post import posts
from fedseg.federation.witnessing import Post
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.notes import SignatureType
from fedseg.ledger.verifier_keys import VerifierKey, open_signed
from fedseg.ledger.witness import Witness
from fedseg.node.contribute import contribute
from fedseg.node.witnessing import ROLLED_BACK_FILE, Reply, as_witness
from fedseg.privacy.noise import SimulatedNoise
from fedseg.server.own_log import COSIGNED_FILE
from tests.federation.serving import served
from tests.small_federation import SmallFederation, make_federation, policy_document, some_request
from tests.witnessed_federation import Kinds, have_witnessed, witnessed
from tests.wrapped_grid import WrappedGrid

SIZES = {"north": 60, "south": 50}
NAME = "witness.example/w1"


def run(federation: SmallFederation, grid: LoopbackGrid | WrappedGrid, asked: dict[str, Post] | None = None) -> None:
    run_plan(
        grid, federation.server, federation.document, roster=federation.roster, posts=asked, clock=grid.clock,
        sleep=grid.sleep,
    )  # fmt: skip


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose name leaves room for a socket's."""
    return tmp_path_factory.mktemp("w")


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness.create(tmp_path / "witness", NAME, SigningKey.generate())


@pytest.fixture
def outside(tmp_path: Path, witness: Witness) -> SmallFederation:
    """Units whose only witness is one with an address, and which have approved a plan."""
    stated = f"witnesses:\n  quorum: 1\n  keys:\n    auditor: {witness.verifier_key.to_text()}\n".encode()
    made = make_federation(tmp_path / "federation", SIZES, witnessed=True, policy=policy_document() + stated)
    for home in made.homes:
        name = f"fedseg/unit/{home.settings.unit}"
        witness.enrol(VerifierKey(name, SignatureType.ED25519, home.key.public))
    return made.approve_all()


def at_0(witness: Witness) -> Starlette:
    """The real service, where the proxy brings what is for the first address."""
    return Starlette(routes=[Mount("/0", application(witness))])


@contextmanager
def asking(app: Starlette, folder: Path) -> Generator[dict[str, Post]]:
    """How to ask what answers there."""
    with served(app, folder) as path:
        yield dict(posts(path, [NAME]))


def test_with_a_witness_at_an_address_no_unit_is_asked_between_rounds(
    outside: SmallFederation, witness: Witness, short: Path
) -> None:
    grid = Kinds(outside.grid())
    with asking(at_0(witness), short) as asked:
        run(outside, grid, asked)
    assert grid.sent == ["witness", "release", "release", "release"]
    assert sorted(witness.logs()) == ["fedseg/unit/north", "fedseg/unit/south"]


def test_a_witness_at_an_address_that_does_not_answer_lets_nothing_pass(outside: SmallFederation, short: Path) -> None:
    nonsense: dict[str, Post] = {NAME: lambda _request: Reply(200, f"— {NAME} AAAA\n", "")}
    with asking(Starlette(), short) as nobody:
        for asked in ({}, nobody, nonsense):
            with pytest.raises(RoundError):
                run(outside, outside.grid(), asked)
    for home in outside.homes:
        with home.ledger() as ledger:
            assert "release" not in {entry.kind for entry in ledger.entries()}


def test_a_witness_at_an_address_tells_a_restored_unit_how_far_its_ledger_had_come(
    outside: SmallFederation, witness: Witness, tmp_path: Path, short: Path
) -> None:
    north = outside.home("north")
    shutil.copytree(north.path, tmp_path / "yesterday")
    with asking(at_0(witness), short) as asked:
        run(outside, outside.grid(), asked)
        shutil.rmtree(north.path)
        shutil.copytree(tmp_path / "yesterday", north.path)
        del outside.processes[north.path]
        assert not have_witnessed(outside, asked)
    assert (north.path / ROLLED_BACK_FILE).exists()
    request = some_request(outside.plan, 0)
    with pytest.raises(RolledBackError):
        contribute(
            north, outside.plan.digest, request, "ab" * 32, now=datetime.now(UTC), source=SimulatedNoise(1),
            process=outside.processes[north.path],
        )  # fmt: skip


@pytest.fixture
def federation(tmp_path: Path) -> SmallFederation:
    return witnessed(tmp_path / "federation", SIZES)


def test_units_cosign_the_servers_own_log(federation: SmallFederation) -> None:
    run(federation, federation.grid())
    server = federation.server
    keys = [VerifierKey("fedseg/server", SignatureType.ED25519, server.key.public)]
    keys += [as_witness(home).verifier_key for home in federation.homes]
    opened = open_signed((server.path / COSIGNED_FILE).read_text("utf-8"), keys)
    assert {one.key.name for one in opened.signed} == {"fedseg/server", "fedseg/witness/north", "fedseg/witness/south"}
    with server.ledger() as ledger:
        assert int(opened.text.splitlines()[1]) > 1
        assert int(opened.text.splitlines()[1]) <= ledger.signed()[0].size


def test_a_server_that_shows_two_histories_is_found_by_a_unit_which_keeps_the_proof(
    federation: SmallFederation, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(federation.path / "server", tmp_path / "first")
    run(federation, federation.grid())
    shutil.rmtree(federation.path / "server")
    shutil.copytree(tmp_path / "first", federation.path / "server")
    with federation.server.ledger() as ledger:
        for number in range(6):  # as many entries as the units have seen of the first history
            with ledger.transaction() as transaction:
                transaction.append("plan", {"plan_sha256": f"{number:064}"})
    run(federation, federation.grid())
    assert "own_log.rolled_back" in caplog.text
    kept = [path for home in federation.homes for path in (as_witness(home).path / PROOFS).glob("*.json")]
    proofs = [EquivocationProof.from_json(path.read_bytes()) for path in kept]
    assert proofs
    assert {one.origin for one in proofs} == {"fedseg/server"}
    assert {one.public_key for one in proofs} == {federation.server.key.public}


def test_a_damaged_key_of_the_server_keeps_nobody_from_releasing(federation: SmallFederation) -> None:
    for home in federation.homes:
        (home.path / "server.pub").write_bytes(b"\xff no key")
    run(federation, federation.grid())
    assert not (federation.server.path / COSIGNED_FILE).exists()
