"""`fedseg ledger`: verify a ledger from its bytes, prove parts of it, and export it so that others can verify it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli.budget import account_facts, ledger_file, shown
from fedseg.cli.output import Format, FormatOption, show
from fedseg.errors import SettingsError, VerificationError

if TYPE_CHECKING:
    from fedseg.ledger.checkpoint import Checkpoint
    from fedseg.ledger.proof import ConsistencyProof, InclusionProof
    from fedseg.ledger.raw import RawLedger
    from fedseg.ledger.witness_policy import OpenedCheckpoint, WitnessPolicy

app = typer.Typer(help="Ledgers: tamper-evident logs of everything that left a unit.", no_args_is_help=True)
PathArgument = Annotated[
    Path, typer.Argument(help="A ledger, live or exported, or a home that holds one.", exists=True)
]


@app.command()
def verify(
    path: PathArgument,
    key: Annotated[str | None, typer.Option(help="Public key it must be signed with; as the plan states it.")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Replay a ledger and recompute everything in it: hashes, signatures, charges, totals, outputs."""
    from fedseg.audit.verify import verify_ledger
    from fedseg.ledger.keys import PublicKey

    try:
        expected = None if key is None else PublicKey.from_text(key)
    except ValueError as error:
        raise SettingsError(
            "--key is not a public key", why=str(error), fix="copy it from the plan: public_key of the unit"
        ) from error
    try:
        facts = verify_ledger(ledger_file(path), expected)
    except VerificationError as error:
        error.data |= {
            "verified": False,
            "size": None,
            "root": None,
            "rho_spent": None,
            "rho_cap": None,
            "epsilon_at_cap": None,
            "failures": [{"code": error.fault, "what": f"{error.what}: {error.why}"}],
        }
        if error.fault != error.code:
            error.why = f"{error.fault}: {error.why}"
        raise
    data: dict[str, Any] = {
        "verified": True,
        "origin": facts.origin,
        "size": facts.size,
        "root": facts.root.hex(),
        "public_key": facts.public_key.to_text(),
        "verifier_key": facts.raw.verifier_key.to_text(),
        **account_facts(facts),
        "failures": [],
    }
    vouched = "which has replaced the key you named"
    if expected in (None, facts.public_key):
        vouched = "the key you named" if expected else "named by the file itself: see --key"
    show(format_, data, lambda: _describe(data, f"{facts.public_key.fingerprint()} ({vouched})"))


@app.command()
def checkpoint(
    path: PathArgument,
    verifier_key: Annotated[
        bool, typer.Option("--verifier-key", help="Print the key that signs it instead, as other tools take keys.")
    ] = False,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Print a ledger's newest checkpoint, a signed note that stands for all of it; see c2sp.org/tlog-checkpoint."""
    raw, newest = _checked(path)
    note, key = raw.notes[-1][1], raw.verifier_key.to_text()
    data = {
        "origin": newest.origin,
        "size": newest.size,
        "root": newest.root.hex(),
        "note": note,
        "verifier_key": key,
    }
    show(format_, data, lambda: key if verifier_key else note.removesuffix("\n"))


@app.command()
def prove(
    path: PathArgument,
    seq: Annotated[int | None, typer.Argument(help="Number of the entry that is in the ledger, from 0.")] = None,
    from_: Annotated[
        int | None, typer.Option("--from", help="Prove instead that the ledger extends its first so many entries.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; printed otherwise.")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Prove that an entry is in a ledger, or that a ledger has only grown, to someone who does not have it.

    The proof of an entry is a file as in c2sp.org/tlog-proof, with the entry in it; the other is what a witness takes.
    """
    from fedseg.ledger.checkpoint import parse_checkpoint
    from fedseg.ledger.notes import parse_note
    from fedseg.simulation.prepare import storage_errors

    if (seq is None) == (from_ is None):
        raise SettingsError(
            "prove takes an entry's number or --from, and not both", why="the two prove different things",
            fix="fedseg ledger prove LEDGER 3, or fedseg ledger prove LEDGER --from 3",
        )  # fmt: skip
    raw, _ = _checked(path)
    proof = _proof(raw, seq, from_)
    text, under = proof.to_text(), parse_checkpoint(parse_note(proof.note).text)
    if out is not None:
        with storage_errors(out):
            out.write_text(text, "utf-8")
    data = {
        "kind": "consistency" if seq is None else "inclusion",
        "index": seq,
        "old_size": from_,
        "origin": under.origin,
        "size": under.size,
        "root": under.root.hex(),
        "hashes": [one.hex() for one in proof.hashes],
        "verifier_key": raw.verifier_key_at(under.size).to_text(),
        "out": None if out is None else str(out),
        "proof": text,
    }
    show(format_, data, lambda: text.removesuffix("\n") if out is None else f"{out}: {under.size} entries")


@app.command("check-proof")
def check_proof(
    file: Annotated[Path, typer.Argument(help="A proof, as prove writes it.", exists=True)],
    key: Annotated[str | None, typer.Option(help="Verifier key of the log: NAME+ID+KEY.")] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="Logs and witnesses whose word is enough, as in c2sp.org/tlog-policy.", exists=True),
    ] = None,
    entry: Annotated[Path | None, typer.Option(help="The entry, if it is not in the proof.", exists=True)] = None,
    old: Annotated[
        Path | None, typer.Option(help="The earlier checkpoint that the log must extend.", exists=True)
    ] = None,
    change: Annotated[
        list[Path] | None,
        typer.Option(
            help="Proof of an entry by which the log has replaced the key you trust; repeatable, in order.", exists=True
        ),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Check a proof from any log, with nothing but the keys that you trust."""
    from fedseg.ledger.proof import InclusionProof

    changes = [InclusionProof.from_text(_read_text(one)) for one in change or []]
    trusted = _Trust(_trusted(key, policy), changes, datetime.now(UTC))
    proof = _read_text(file)
    data = _check_growth(proof, old, trusted) if proof.startswith("old ") else _check_entry(proof, entry, trusted)
    show(format_, data, lambda: _describe_proof(data))


@app.command()
def backup(
    path: PathArgument,
    out: Annotated[Path, typer.Option(help="New file for the copy.")],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Copy a ledger that is in use, and verify the copy. For evidence: a unit never goes on from an older copy."""
    from fedseg.ledger.backup import back_up

    newest = back_up(ledger_file(path), out)
    facts = {"out": str(out), "origin": newest.origin, "size": newest.size, "root": newest.root.hex()}
    show(format_, facts, lambda: f"{out}\nentries    {newest.size}\nroot       {newest.root.hex()}")


@app.command()
def export(
    path: PathArgument,
    out: Annotated[Path | None, typer.Option(help="File to write.")] = None,
    tiles: Annotated[Path | None, typer.Option(help="Folder to write instead, as in c2sp.org/tlog-tiles.")] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Export a ledger as one text file in which any changed byte is found, or as a folder of tiles to be served."""
    from fedseg.audit.verify import verify_ledger
    from fedseg.ledger.export import export_ledger
    from fedseg.ledger.tiles import export_tiles
    from fedseg.simulation.prepare import storage_errors

    place = out or tiles
    if place is None or (out and tiles):
        raise SettingsError(
            "export takes --out or --tiles, and not both", why="a file and a folder are different exports",
            fix="fedseg ledger export LEDGER --out FILE, or fedseg ledger export LEDGER --tiles FOLDER",
        )  # fmt: skip
    if tiles is not None and tiles.is_dir() and any(tiles.iterdir()):
        raise SettingsError(f"{tiles} is not empty", why="two logs in one folder are none", fix="name another --tiles")
    facts = verify_ledger(ledger_file(path))
    with storage_errors(place):
        if tiles is not None:
            export_tiles(facts.raw, tiles)
        else:
            try:
                place.write_bytes(export_ledger(facts.raw))
            except OSError:
                if place.is_file():  # a piece of a ledger is of no use to anyone
                    place.unlink()
                raise
    data = {"out": str(place), "size": facts.size, "root": facts.root.hex()}
    show(format_, data, lambda: f"{place}: {facts.size} entries")


def _checked(path: Path) -> "tuple[RawLedger, Checkpoint]":
    """A ledger whose every byte is covered by a signature, and its newest checkpoint."""
    from fedseg.ledger.reading import check_log, read_ledger

    raw = read_ledger(ledger_file(path))
    return raw, check_log(raw, None)


def _proof(raw: "RawLedger", seq: int | None, old_size: int | None) -> "InclusionProof | ConsistencyProof":
    """Of the entry `seq`, or, if that is None, of growth since `old_size` entries."""
    from fedseg.ledger.proof import prove_consistency, prove_inclusion

    try:
        return prove_consistency(raw, old_size or 0) if seq is None else prove_inclusion(raw, seq)
    except ValueError as error:
        raise SettingsError(
            "the ledger has no such entries",
            why=str(error),
            fix="fedseg ledger checkpoint LEDGER tells how many it has",
        ) from error


def _trusted(key: str | None, policy: Path | None) -> "WitnessPolicy":
    """Whom the user takes the word of."""
    from fedseg.ledger.verifier_keys import VerifierKey
    from fedseg.ledger.witness_policy import WitnessPolicy

    try:
        log = None if key is None else VerifierKey.from_text(key)
        witnesses = None if policy is None else WitnessPolicy.from_bytes(policy.read_bytes())
        if log is not None:
            return WitnessPolicy.of_log(log) if witnesses is None else witnesses.for_log(log)
        if witnesses is None or not witnesses.logs:
            raise ValueError("nothing is trusted: there is no --key, and no --policy that names a log")  # noqa: TRY301 - as those of the parts
    except ValueError as error:
        raise SettingsError(
            "there is nobody to believe: --key or --policy is not right",
            why=str(error),
            fix="ask somebody else than the sender for the key: fedseg ledger checkpoint LEDGER --verifier-key",
        ) from error
    return witnesses


@dataclass(frozen=True, slots=True)
class _Trust:
    """Whose word is taken, and the changes of a log's key that are known."""

    policy: "WitnessPolicy"
    changes: "Sequence[InclusionProof]"
    now: datetime

    def check(self, note: str) -> "OpenedCheckpoint":
        """As `WitnessPolicy.check`, by the key that the log had when it was as long as `note` says."""
        from fedseg.ledger.checkpoint import parse_checkpoint
        from fedseg.ledger.notes import parse_note
        from fedseg.ledger.proof import follow_key

        said, policy = parse_checkpoint(parse_note(note).text), self.policy
        for change in self.changes:
            changed = parse_checkpoint(parse_note(change.note).text)
            if changed.origin == said.origin and changed.size < said.size:
                policy = replace(policy, logs=follow_key(change, policy.logs))
        return policy.check(note, self.now)


def _check_entry(text: str, entry: Path | None, trusted: _Trust) -> dict[str, Any]:
    """Facts of an inclusion proof that holds."""
    from fedseg.ledger.merkle import leaf_hash
    from fedseg.ledger.proof import InclusionProof

    proof = InclusionProof.from_text(text)
    opened = trusted.check(proof.note)
    data = proof.extra if entry is None else entry.read_bytes()
    if data is None:
        raise SettingsError(
            "the entry is not in the proof", why="a proof need not hold it", fix="name the entry's file with --entry"
        )
    proof.verify(data, opened.checkpoint)
    shown_entry = data.decode("utf-8", errors="backslashreplace")
    return _facts("inclusion", opened) | {
        "index": proof.index,
        "leaf_hash": leaf_hash(data).hex(),
        "entry": shown_entry if shown_entry.isprintable() else ascii(shown_entry),
    }


def _check_growth(text: str, old: Path | None, trusted: _Trust) -> dict[str, Any]:
    """Facts of a consistency proof that holds."""
    from fedseg.ledger.proof import ConsistencyProof

    if old is None:
        raise SettingsError(
            "the earlier checkpoint is missing", why="this proof says what a log of then has become",
            fix="name the file of the earlier checkpoint with --old",
        )  # fmt: skip
    proof = ConsistencyProof.from_text(text)
    opened, before = trusted.check(proof.note), trusted.check(_read_text(old)).checkpoint
    proof.verify(before, opened.checkpoint)
    return _facts("consistency", opened) | {"old_size": before.size, "old_root": before.root.hex()}


def _facts(kind: str, opened: "OpenedCheckpoint") -> dict[str, Any]:
    """What both kinds of proof show; and None for what only one does."""
    return {
        "verified": True,
        "kind": kind,
        "origin": opened.checkpoint.origin,
        "size": opened.checkpoint.size,
        "root": opened.checkpoint.root.hex(),
        "witnesses": [key.name for key in opened.seen_by],
        **dict.fromkeys(("index", "leaf_hash", "entry", "old_size", "old_root")),
    }


def _describe_proof(data: dict[str, Any]) -> str:
    lines = [f"verified   {data['origin']}", f"entries    {data['size']}", f"root       {data['root']}"]
    lines.append(f"witnesses  {', '.join(data['witnesses']) or 'none'}")
    if data["kind"] == "inclusion":
        return "\n".join([*lines, f"entry {data['index']:<4} {data['entry']}"])
    return "\n".join([*lines, f"extends    the {data['old_size']} entries of the earlier checkpoint"])


def _read_text(file: Path) -> str:
    """A file of text that somebody else wrote, cut where no proof is longer."""
    from fedseg.ledger.proof import FILE_LIMIT

    try:
        with file.open("rb") as opened:
            return opened.read(FILE_LIMIT + 1).decode("utf-8")
    except UnicodeDecodeError as error:
        raise VerificationError(
            f"{file} is not text", why="it is not UTF-8", fix="get it again from whom it came from"
        ) from error


def _describe(data: dict[str, Any], key: str) -> str:
    lines = [f"verified   {data['origin']}", f"entries    {data['size']}", f"root       {data['root']}"]
    lines.append(f"key        {key}")
    if data["rho_cap"] is not None:
        lines.append(
            f"spent      rho {data['rho_spent']:.5g} of {data['rho_cap']:.5g}; "
            f"epsilon at the cap {shown(data['epsilon_at_cap'])} (delta {data['delta']:g})"
        )
    if data["noise"] != "system":
        lines.append("WARNING    the noise was simulated: not a differentially private release")
    return "\n".join(lines)
