"""A bundle of what a run has left: its evidence as found, in one file that can be checked far away and years later.

Collecting does not judge: a ledger that does not check out is evidence too. Nothing private can come in by accident:
only ledgers, what was cosigned of them, plans, policies and segmentations are taken, each by its name, and never a file
under LOCAL.
"""

import os
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fedseg.audit.archive import BUNDLE_LIMIT_BYTES, Member, Role, pack
from fedseg.audit.entries import failed
from fedseg.audit.faults import Fault
from fedseg.audit.log import read_log
from fedseg.errors import SettingsError, StorageError
from fedseg.ledger.export import export_ledger
from fedseg.ledger.raw import RawLedger
from fedseg.plan import PLAN_BYTES_MAX, parse_plan

LEDGER = "ledger.db"
PLAN = "plan.toml"
POLICY = "policy.yaml"
SEGMENTATION = "segmentation.json"
COSIGNED = ("cosigned.note", "rolled-back.note")
"""In a home: its ledger as witnesses have cosigned it, also where the ledger is found to be an older copy."""
_FILE_LIMIT_BYTES = 64 * 1024 * 1024
_UNIT = "fedseg/unit/"


def collect(folder: Path) -> list[Member]:
    """The evidence in a folder: a run's, a job's, a server's, a node's, or the home of a unit or server.

    Raises:
        SettingsError: If the folder is none of these.
        VerificationError: If a ledger cannot be read, or does not say whose it is.
        StorageError: If a file cannot be read now.
    """
    homes = _homes(folder)
    if not homes:
        raise SettingsError(
            f"{folder} holds no evidence",
            why=f"there is no {LEDGER} in it, nor in any of the folders that a run, a server or a node has",
            fix="name the folder that a run wrote to with --out, or that of a server, a job, a node or a unit",
        )
    members: dict[str, Member] = {}
    # What was cosigned is read before its ledger, which holds all of it then; and a server's ledger before any unit's:
    # so what it holds was charged by the time the unit's is read.
    read = [(home, cosigned_notes(home), read_log(home / LEDGER)) for home in homes]
    for home, notes, raw in read:
        for member in _of_home(home, notes, raw):
            if member.name in members:
                raise SettingsError(
                    f"{folder} holds two ledgers of {raw.origin}",
                    why="a bundle is of one run",
                    fix="bundle each of the folders by itself, and verify the files together",
                )
            members[member.name] = member
    logged = {id_.removeprefix("plan:") for *_, raw in read for id_ in raw.payloads if id_.startswith("plan:")}
    return [*members.values(), *_of_run(folder, ""), *_of_jobs(folder, logged)]


def cosigned_notes(home: Path) -> dict[str, bytes]:
    """What lies in a home as checkpoints that witnesses have cosigned, by the files' names.

    To be read before the ledger: what is cosigned in between would be more than the ledger holds.

    Raises:
        SettingsError: If a file is larger than any file of a bundle may be.
        StorageError: If it cannot be read.
    """
    found = {name: _read(home / name) for name in COSIGNED}
    return {name: note for name, note in found.items() if note is not None}


def read_evidence(path: Path) -> bytes:
    """The bytes of a file; of one that is larger than any evidence, so many that it is refused.

    Raises:
        StorageError: If it cannot be read.
    """
    with _storage(path), path.open("rb") as file:
        return file.read(BUNDLE_LIMIT_BYTES + 1)


def write_bundle(members: list[Member], out: Path) -> bytes:
    """Pack the members into the file `out`, which is there as a whole or not at all; its bytes.

    Raises:
        StorageError: If it cannot be written.
    """
    data = pack(members)
    with _storage(out), tempfile.NamedTemporaryFile(dir=out.absolute().parent, delete=False) as file:
        draft = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            draft.chmod(0o644)
            draft.replace(out)
        except OSError:
            draft.unlink(missing_ok=True)
            raise
    return data


def _homes(folder: Path) -> list[Path]:
    """Every home with a ledger, servers first."""
    job_of = folder.absolute().parent.parent if folder.absolute().parent.name == "jobs" else None
    places = [folder, folder / "server", *([job_of / "server"] if job_of is not None else []), folder / "unit"]
    places += sorted((folder / "nodes").glob("*"))
    return [place for place in places if (place / LEDGER).is_file()]


def _of_home(home: Path, notes: Mapping[str, bytes], raw: RawLedger) -> Iterator[Member]:
    is_unit = raw.origin.startswith(_UNIT)
    place = f"units/{raw.origin.removeprefix(_UNIT)}" if is_unit else "server"
    yield _member(f"{place}/ledger.txt", Role.LEDGER, export_ledger(raw))
    for name, note in notes.items():
        yield _member(f"{place}/{name}", Role.COSIGNED, note)
    if is_unit and (policy := _read(home / POLICY)) is not None:
        yield _member(f"{place}/{POLICY}", Role.POLICY, policy)


def _of_run(folder: Path, prefix: str) -> Iterator[Member]:
    """Plan and segmentation as they lie in a run's or a job's folder."""
    for name, role in ((PLAN, Role.PLAN), (SEGMENTATION, Role.SEGMENTATION)):
        if (data := _read(folder / name)) is not None:
            yield _member(f"{prefix}{name}", role, data)


def _of_jobs(folder: Path, logged: set[str]) -> Iterator[Member]:
    """The jobs of a server's directory that its ledger knows; one still in the queue is no evidence of anything."""
    for place in sorted((folder / "jobs").glob("*")):
        plan = _read(place / PLAN)
        if plan is not None and len(plan) <= PLAN_BYTES_MAX and parse_plan(plan).digest in logged:
            yield from _of_run(place, f"jobs/{place.name}/")


def _member(name: str, role: Role, data: bytes) -> Member:
    try:
        return Member(name, role, data)
    except ValueError as error:
        raise failed(Fault.OWNER, f"nothing in a bundle can be called {name!r}") from error


def _read(path: Path) -> bytes | None:
    """A small file's bytes; None if there is none."""
    with _storage(path):
        if not path.is_file():
            return None
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT_BYTES + 1)
    if len(data) > _FILE_LIMIT_BYTES:
        raise SettingsError(
            f"{path} is not what its name says",
            why=f"it is larger than {_FILE_LIMIT_BYTES} bytes",
            fix="name the folder that a run has left",
        )
    return data


@contextmanager
def _storage(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read or written",
            why=error.strerror or "the disk refused",
            fix="check the path, its permissions and the free space",
        ) from error
