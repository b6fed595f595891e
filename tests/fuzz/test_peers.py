"""Whatever a peer sends, its reader answers with a value or with an error of ours, soon, and in little memory.

The damage is seeded, so a failure comes again; `FEDSEG_SOAK=1` makes it twelve times as much, with other seeds.
"""

import ast
import os
import random
import re
import resource
import signal
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedseg.errors import FedsegError
from tests.fuzz.peers import Peer, make_peers
from tests.mutations import damaged

SOAK = os.environ.get("FEDSEG_SOAK") == "1"
TIMES, SEED = (12, 20_27) if SOAK else (1, 20_26)
SECONDS = 5.0
"""Longest time for one input, on a machine that has much else to do."""
MEMORY_BYTES = 512 * 1024 * 1024
"""How much more address space than before a reader may ask for."""
GROWTH_BYTES = 96 * 1024 * 1024
"""How much the process may grow while a reader reads thousands of inputs one after another."""

NAMES = [
    *("reply", "release", "request", "plan", "policy", "plan-signature", "policy-signatures", "consent-mapping"),
    *(
        "enrolment-request",
        "enrolment-answer",
        "entry",
        "canonical-json",
        "ledger-export",
        "ledger-file",
        "ledger-tiles",
    ),
    *("officers-report", "noise-audit"),
    *("audit-bundle", "note", "own-note", "signed-note", "checkpoint", "own-checkpoint", "inclusion-proof"),
    *("consistency-proof", "equivocation-proof", "verifier-key", "witness-policy", "rights-request"),
    *("witness-asked", "witness-said", "witness-request", "cosigned", "cosigned-beside", "form"),
    *(
        "erasure-certificate",
        "envelope",
        "certificate",
        "closing-statement",
        "certificate-statement",
        "segmentation",
        "job",
    ),
]


class StuckError(BaseException):
    """A reader has taken too long; no handler of ours may catch it."""


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Peer]:
    return make_peers(tmp_path_factory.mktemp("peers"))


@contextmanager
def bounded() -> Generator[None]:
    """Little more memory than there is now, and an alarm clock."""

    def stuck(_sign: int, _frame: FrameType | None) -> None:
        raise StuckError

    before, rung = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, stuck)
    now = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, rung)
        resource.setrlimit(resource.RLIMIT_AS, before)


def is_read(peer: Peer, data: bytes) -> bool:
    """Whether the reader makes something of these bytes; what it must not do fails the test, with the bytes."""
    refusals: tuple[type[Exception], ...] = (FedsegError, *peer.refuses)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        peer.read(data)
    except refusals:
        return False
    except BaseException as error:
        raise AssertionError(f"{peer.name}: {type(error).__name__} for {data[:2000]!r}, {len(data)} bytes") from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_damaged_bytes_are_read_or_refused_soon_and_in_little_memory(
    name: str, peers: dict[str, Peer], capsys: pytest.CaptureFixture[str]
) -> None:
    peer, coins = peers[name], random.Random(f"{SEED} {name}")
    count, read = 100 * peer.share * TIMES, 0
    assert all(is_read(peer, one) for one in peer.examples)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with bounded():
        for _ in range(count):
            read += is_read(peer, damaged(coins, peer.examples, peer.ways))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < GROWTH_BYTES
    assert read < count
    with capsys.disabled():
        if SOAK:
            print(  # noqa: T201 (the count is the point)
                f"\n{name}: {count} inputs, {read} read, {count - read} refused, {time.monotonic() - began:.0f} s, "
                f"{grown / 2**20:.0f} MiB more",
                end="",
            )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_bytes_from_nowhere_are_read_or_refused(name: str, peers: dict[str, Peer]) -> None:
    json = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                        lambda of: st.lists(of, max_size=4) | st.dictionaries(st.text(max_size=8), of, max_size=4))  # fmt: skip

    @settings(max_examples=600 if SOAK else 60, suppress_health_check=list(HealthCheck), database=None)
    @given(
        st.binary(max_size=300) | st.text(max_size=100).map(str.encode) | json.map(lambda value: repr(value).encode())
    )
    def read_or_refused(data: bytes) -> None:
        is_read(peers[name], data)

    with bounded():
        read_or_refused()


MEGABYTES = 4 * 1024 * 1024


def giants(example: bytes) -> Iterator[bytes]:
    """What takes long or much where nobody counts: deep, wide, endless, and the same again and again."""
    for start in (b"", example[: len(example) // 2], b'{"payload":', b"a = "):
        for piece in (b"[", b"{", b'{"a":', b"(", b"9", b"\n", b" ", b"\0", b"A", b"- ", b'"'):
            yield start + piece * ((MEGABYTES - len(start)) // len(piece))
    yield example * (MEGABYTES // len(example) + 1)
    yield example + b"\n" * MEGABYTES
    yield b"\n".join(b"k%d = %d" % (number, number) for number in range(300_000))
    yield b"[" * 200_000 + b"]" * 200_000
    yield b'{"a":' * 50_000 + b"1" + b"}" * 50_000


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_giants_are_refused_soon_and_in_little_memory(name: str, peers: dict[str, Peer]) -> None:
    peer = peers[name]
    with bounded():
        for data in giants(max(peer.examples, key=len)):
            is_read(peer, data)


# ------------------------------------------------------------------------------------------------- none is left out

ROOT = Path(__file__).parents[2] / "fedseg"
READS = re.compile(r"(parse|read|load|decode|open|unpack|unseal|verify)(_.*)?|from_(bytes|text|json)")

NOT_OF_PEERS = {
    "ledger.keys:PublicKey.verify": "a signature's bytes go to the cryptography library alone",
    "ledger.keys:MlDsaPublicKey.verify": "a signature's bytes go to the cryptography library alone",
    "ledger.merkle:verify_inclusion": "hashes that the readers of proofs have read",
    "ledger.proof:InclusionProof.verify": "an entry that the reader of entries has read",
    "deploy.settings:parse_host": "the operator's own command line and settings",
    "deploy.settings:parse_address": "the operator's own command line and settings",
    "deploy.settings:parse_unit": "the operator's own command line and settings",
    "cli.approve:read_officer": "the operator's own command line",
    "node.consent.mapping:load_mapping": "a name; what is in the file is read by parse_mapping",
    "node.sources.cell_types:parse_cell_type": "what the unit's own database says of its columns",
    "policy.purposes:Purpose.from_text": "one of four words; within a policy it is read by load_policy",
    "node.consent.postgres:PostgresRegister.open": "the unit's own database",
    "node.consent.postgres:PostgresRegister.open_or_create": "the unit's own database",
    "console.session:Desk.open": "a token, compared with the one that is known",
    "server.jobs:JobStore.read": "a name; what is in the file is read by Job.from_json",
    "server.shared_folder:SharedFolder.read": "a name; the file is bounded, and read by Job.from_json",
}
"""Readers of text or bytes that no peer's bytes reach, with the reason."""


def readers() -> Iterator[str]:
    """All functions that by their name and first parameter read text or bytes, as `module:name`."""
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield from (f"{module}:{name}" for name in _of(ast.parse(path.read_text("utf-8")), ""))


def _of(node: ast.AST, owner: str) -> Iterator[str]:
    for one in ast.iter_child_nodes(node):
        if isinstance(one, ast.ClassDef):
            yield from _of(one, f"{one.name}.")
        elif isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and READS.fullmatch(one.name):
            taken = [arg for arg in one.args.args if arg.arg not in {"self", "cls"}][:1]
            if any(arg.annotation is not None and ast.unparse(arg.annotation) in {"bytes", "str"} for arg in taken):
                yield f"{owner}{one.name}"


def test_every_reader_of_a_peers_bytes_is_here(peers: dict[str, Peer]) -> None:
    assert sorted(peers) == sorted(NAMES)
    covered = {name for peer in peers.values() for name in peer.covers}
    found = set(readers())
    assert found - covered - set(NOT_OF_PEERS) == set(), (
        "a new reader: give it a Peer, or say why no peer's bytes reach it"
    )
    assert set(NOT_OF_PEERS) <= found
    assert not covered & set(NOT_OF_PEERS)


def test_there_are_inputs_enough(peers: dict[str, Peer]) -> None:
    assert sum(100 * peer.share for peer in peers.values()) >= 100_000
