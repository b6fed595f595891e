"""A small federation whose units are each other's witnesses, and what happens to it when a unit is put back."""

import random
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Message

from fedseg.audit.histories import fork, signed_checkpoints
from fedseg.audit.memory import LogId, SignedCheckpoint
from fedseg.audit.proof import EquivocationProof
from fedseg.clustering.request import request_sha256
from fedseg.errors import NotWitnessedError, RolledBackError, SettingsError, StepAnsweredError
from fedseg.federation.loopback import LoopbackGrid
from fedseg.federation.witness_wire import decode_asked
from fedseg.federation.witnessing import Carrier, Post
from fedseg.ledger.checkpoint import parse_checkpoint
from fedseg.ledger.notes import Note, parse_note
from fedseg.ledger.reading import read_ledger
from fedseg.node.contribute import contribute
from fedseg.node.home import NodeHome
from fedseg.node.integrity import require_integrity
from fedseg.node.witnessing import SERVER_FILE, answer, as_witness
from fedseg.privacy.noise import SimulatedNoise
from tests.small_federation import SmallFederation, make_federation, policy_document, some_request
from tests.wrapped_grid import WrappedGrid

VICTIM = "north"


def witnessed(path: Path, sizes: Mapping[str, int]) -> SmallFederation:
    """Units of which each has all others as witnesses, of whom more than half must agree; all have approved a plan."""
    made = make_federation(path, sizes, witnessed=True)
    for home in made.homes:
        (home.path / SERVER_FILE).write_text(made.server.key.public.to_text(), "utf-8")
    keys = {home.settings.unit: as_witness(home).verifier_key.to_text() for home in made.homes}
    for home in made.homes:
        others = [f"    {name}: {key}\n" for name, key in keys.items() if name != home.settings.unit]
        stated = f"witnesses:\n  quorum: {len(others) // 2 + 1}\n  keys:\n{''.join(others)}"
        (home.path / "policy.yaml").write_text(policy_document().decode() + stated, "utf-8")
    return made.approve_all()


class Kinds(WrappedGrid):
    """Which kinds of messages are sent, turn by turn."""

    def __init__(self, inner: LoopbackGrid) -> None:
        super().__init__(inner)
        self.sent: list[str] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        pushed = list(messages)
        self.sent += sorted({one.metadata.message_type.rpartition(".")[2] for one in pushed})
        return self.inner.push_messages(pushed)


def have_witnessed(federation: SmallFederation, posts: Mapping[str, Post] | None = None) -> bool:
    """Have the ledgers cosigned and give the units what was signed; whether there was something for all."""
    grid = federation.grid()
    carrier = Carrier(grid, federation.plan.digest, federation.roster, grid.clock, grid.sleep, posts or {})
    carried = carrier.carry(60, lambda: None)
    for unit in federation.roster:
        home = federation.home(unit)
        with suppress(RolledBackError, SettingsError):
            answer(home, decode_asked(carrier.beside(unit)), federation.processes[home.path], datetime.now(UTC))
    return carried


@dataclass
class Trial:
    """One history of a unit that is put back or copied, by whoever wants to spend its budget twice."""

    federation: SmallFederation
    coins: random.Random
    rollbacks: int = 0
    """How often an older copy began to run."""
    released: set[tuple[int, bytes]] = field(default_factory=set[tuple[int, bytes]])
    """Step and bytes of every release that left any copy of the unit."""
    refused: int = 0
    """How often a copy said that it is one, at its start or when asked."""
    proofs: list[EquivocationProof] = field(default_factory=list[EquivocationProof])
    """One for each copy that has signed another history than its witnesses were shown."""

    @property
    def spent_twice(self) -> int:
        """Releases beyond one for each step: what no surviving ledger has paid for."""
        return len(self.released) - len({step for step, _ in self.released})

    @property
    def home(self) -> NodeHome:
        """The copy of the unit that the server knows."""
        return self.federation.home(VICTIM)

    @property
    def place(self) -> Path:
        """Where it is."""
        return self.federation.path / VICTIM

    def release(self, home: NodeHome) -> None:
        """Ask a copy for every step, each with a request of its own: it answers as much as its ledger lets it."""
        plan = self.federation.plan
        for step in self.coins.sample(range(plan.rounds), plan.rounds):
            request = some_request(plan, step, self.coins.randrange(1000))
            try:
                made = contribute(
                    home,
                    plan.digest,
                    request,
                    request_sha256(plan.digest, request),
                    now=datetime.now(UTC),
                    source=SimulatedNoise(self.coins.randrange(2**32)),
                    process=self.federation.processes[home.path],
                )
            except (NotWitnessedError, StepAnsweredError):
                continue
            except RolledBackError:
                self.refused += 1
                return
            self.released.add((step, made.payload))

    def be_witnessed(self) -> None:
        """What an honest server does before a round, and with its request."""
        have_witnessed(self.federation)

    def live(self, turns: int) -> None:
        """The unit answers for a while; in each turn it is asked more than the plan asks."""
        for _ in range(turns):
            if self.coins.random() < 0.8:
                self.be_witnessed()
            self.release(self.home)

    def put_back(self, copy: Path, *, whole: bool) -> None:
        """An older copy takes the unit's place: all of its home, or its ledger alone. Half of the time it is restarted."""
        self.rollbacks += 1
        self._prove_after()
        if whole:
            shutil.rmtree(self.place)
            shutil.copytree(copy, self.place)
        else:
            shutil.copy(copy / "ledger.db", self.place / "ledger.db")
        if self.coins.random() < 0.5:
            del self.federation.processes[self.place]
            try:
                require_integrity(self.home)
            except RolledBackError:
                self.refused += 1

    def clone(self, path: Path) -> None:
        """A second copy runs beside the first; the server asks now one, now the other."""
        self.rollbacks += 1
        shutil.copytree(self.place, path)
        if self.coins.random() < 0.5:  # of a machine that runs: the copy goes on in the middle of its process
            self.federation.processes[path] = replace(self.federation.processes[self.place])
        for _ in range(3):
            self.release(NodeHome.open(path))
            self.live(1)
            self._swap(path)
        self._prove(path / "ledger.db", self.place / "ledger.db")

    def _swap(self, path: Path) -> None:
        aside = path.with_name("aside")
        self.place.rename(aside)
        path.rename(self.place)
        aside.rename(path)
        processes = self.federation.processes
        processes[self.place], processes[path] = processes[path], processes[self.place]

    def _prove_after(self) -> None:
        """Keep the ledger that is about to be put away, for who compares it with the one that follows."""
        self._kept = self.place.with_name(f"kept-{self.rollbacks}.db")
        shutil.copy(self.place / "ledger.db", self._kept)

    def compare(self) -> None:
        """Hold the unit's ledger against the one that was put away, and against what its witnesses remember."""
        if hasattr(self, "_kept"):
            self._prove(self._kept, self.place / "ledger.db")

    def _prove(self, one: Path, other: Path) -> None:
        raw, others = read_ledger(one), read_ledger(other)
        log = LogId(raw.origin, raw.public_key.to_text())
        found = fork(log, signed_checkpoints(raw), signed_checkpoints(others)) or fork(
            log, signed_checkpoints(others), self._remembered()
        )
        if found is not None:
            self.proofs.append(EquivocationProof.from_json(found.to_json()))

    def _remembered(self) -> dict[int, SignedCheckpoint]:
        """The unit's newest checkpoint as each witness has it, without the witness's own words."""
        found: dict[int, SignedCheckpoint] = {}
        key = read_ledger(self.place / "ledger.db").public_key
        for home in self.federation.homes:
            log = as_witness(home).logs().get(f"fedseg/unit/{VICTIM}")
            if log is not None and log.note:
                note = parse_note(log.note)
                own = Note(note.text, note.signatures[:1]).to_text()
                found[log.newest.size] = SignedCheckpoint(parse_checkpoint(note.text), own, key)
        return found


def play(template: SmallFederation, folder: Path, seed: int) -> Trial:
    """A trial of this seed: one or two rollbacks of random kinds from random moments, or a clone."""
    coins = random.Random(seed)
    trial = Trial(template.copied_to(folder / "federation"), coins)
    copies: list[Path] = []
    for moment in range(coins.randint(1, 3)):
        trial.live(1)
        copies.append(folder / f"copy-{moment}")
        shutil.copytree(trial.home.path, copies[-1])
    if seed % 3 == 2:
        trial.clone(folder / "clone")
        return trial
    trial.live(coins.randint(0, 2))
    for _ in range(coins.randint(1, 2)):
        trial.put_back(coins.choice(copies), whole=seed % 3 == 1)
        trial.live(coins.randint(1, 3))
        trial.compare()
    return trial
