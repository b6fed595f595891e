"""`fedseg audit`: put what a run has left into one file, and check such files with nothing but public keys."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedseg.cli import noise_audit
from fedseg.cli.known_keys import KeyOption, KeysOption, known_keys
from fedseg.cli.output import Format, FormatOption, print_result, show, table
from fedseg.errors import StorageError, VerificationError

if TYPE_CHECKING:
    from fedseg.audit.archive import Member
    from fedseg.audit.certificate import CertificateFacts
    from fedseg.audit.proof import EquivocationProof
    from fedseg.audit.review import CheckedLog, Review
    from fedseg.audit.witnesses import WitnessState

app = typer.Typer(
    help="Audits: evidence of a run in one file, checked offline; and the noise, put to the test.", no_args_is_help=True
)


@app.command()
def bundle(
    from_: Annotated[
        Path,
        typer.Option(
            "--from",
            metavar="DIR",
            help="Any folder that a run has left: a run's, a job's, a server's, a node's or a unit's.",
            exists=True,
            file_okay=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write; the same evidence always gives the same bytes.")],
    format_: FormatOption = Format.TEXT,
) -> None:
    """Put the evidence in a folder into one file: ledgers, plans, policies, segments; no customer, no private key."""
    from fedseg.audit.bundle import collect, write_bundle

    members = collect(from_)
    data = write_bundle(members, out)
    facts = {"out": str(out), "bytes": len(data), "sha256": _sha256(data), "members": [_member(one) for one in members]}
    show(format_, facts, lambda: _describe_bundle(facts))


@app.command()
def verify(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Bundles, also of several parties; equivocation proofs; certificates of erasure."
        ),
    ],
    key: KeyOption = None,
    keys: KeysOption = None,
    remember: Annotated[
        Path | None,
        typer.Option(help="File that keeps the newest checkpoint seen of each log, for next time.", dir_okay=False),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Recompute everything in a bundle, and hold each side against the other. Needs no network and trusts nobody."""
    from fedseg.audit.bundle import read_evidence
    from fedseg.audit.certificate import review_certificates
    from fedseg.audit.memory import Memory, read_memory, write_memory
    from fedseg.audit.review import Review, review
    from fedseg.certificate import FILE_START

    known = known_keys(key or [], keys)
    memory = None if remember is None else read_memory(remember)
    read = {str(path): read_evidence(path) for path in files}
    certificates = {name: data for name, data in read.items() if data.startswith(FILE_START)}
    others = {name: data for name, data in read.items() if name not in certificates}
    nothing = Review((), (), (), (), (), memory or Memory())
    found = review(others, known, memory) if others or not certificates else nothing
    erasures, faults = review_certificates(certificates, known, [log.facts for log in found.logs])
    found = replace(found, findings=(*found.findings, *faults))
    written = [_write_proof(proof, files[0].parent) for proof in found.proofs]
    if remember is not None and not found.findings:
        write_memory(remember, found.memory)
    facts = _facts(found, files, proofs=written, remembered=remember is not None and not found.findings)
    facts["certificates"] = [{"file": name, **_erasure(one)} for name, one in erasures.items()]
    if not found.findings:
        show(format_, facts, lambda: _describe(found, facts))
        return
    if format_ is Format.TEXT:
        print_result(_describe(found, facts))
    raise _refusal(found, facts)


app.command("noise")(noise_audit.noise)


def _refusal(found: "Review", facts: dict[str, Any]) -> VerificationError:
    first, count = found.findings[0], len(found.findings)
    error = VerificationError(
        "the evidence does not check out" if count == 1 else f"the evidence does not check out, in {count} places",
        why=f"{first.fault}: {first.where}: {first.what}",
        fix=first.fault.act,
    )
    error.data = facts
    return error


# Output


def _write_proof(proof: "EquivocationProof", folder: Path) -> str:
    """Write a proof beside the bundle, under a name that its content gives, and return the path."""
    data = proof.to_json()
    path = folder / f"equivocation-{_sha256(data)[:16]}.json"
    try:
        path.write_bytes(data)
    except OSError as error:
        raise StorageError(
            f"the proof that {proof.in_words} cannot be written",
            why=f"{path}: {error.strerror or 'the disk refused'}",
            fix="copy the bundle to a folder that you may write to, and verify it there",
        ) from error
    return str(path)


def _facts(found: "Review", files: list[Path], *, proofs: list[str], remembered: bool) -> dict[str, Any]:
    """What an audit found, under the keys that scripts rely on."""
    return {
        "verified": not found.findings,
        "files": [str(path) for path in files],
        "members": [{"place": place, **_member(member)} for place, member in found.members],
        "ledgers": [
            {
                "where": log.where,
                "origin": log.facts.origin,
                "size": log.facts.size,
                "root": log.facts.root.hex(),
                "public_key": log.facts.public_key.to_text(),
                "fingerprint": log.facts.public_key.fingerprint(),
                "key_from": str(log.key_source),
                "noise": "simulated" if log.facts.simulated else "system",
            }
            for log in found.logs
        ],
        "witnesses": [_witnesses(log, state) for log, state in found.witnessed],
        "failures": [
            {
                "code": one.fault.code,
                "what": one.what,
                "where": one.where,
                "says": one.fault.says,
                "means": one.fault.means,
                "fix": one.fault.act,
            }
            for one in found.findings
        ],
        "remarks": list(found.remarks),
        "proofs": proofs,
        "remembered": remembered,
    }


def _witnesses(log: "CheckedLog", state: "WitnessState") -> dict[str, Any]:
    from fedseg.report.facts import plain

    return {
        "where": log.where,
        "origin": log.facts.origin,
        "witnessed": state.is_witnessed,
        "in_words": state.in_words,
        **plain(state),
    }


def _erasure(found: "CertificateFacts") -> dict[str, Any]:
    from fedseg.privacy.budget import epsilon_of, fraction_text, shown_epsilon

    said = found.erasure
    return {
        "request": said.request_id,
        "unit": said.unit,
        "controller": said.controller,
        "regulation": said.regulation,
        "ground": said.ground,
        "received": said.received,
        "completed": said.completed,
        "due": said.due,
        "logged_for": found.period,
        "stores": {one.store: one.method for one in said.stores},
        "backups_closed": found.closed,
        "recipients": {one.recipient: f"{one.status} on {one.day}" for one in said.recipients},
        "drawn": [one.model_dump() for one in said.drawn],
        "rho": fraction_text(said.rho),
        "delta": fraction_text(said.delta),
        "epsilon": shown_epsilon(epsilon_of(said.rho, said.delta)),
        "held_against_ledger": found.held_against_ledger,
        "fingerprint": found.public_key.fingerprint(),
    }


def _member(member: "Member") -> dict[str, Any]:
    return {
        "name": member.name,
        "role": str(member.role),
        "size": len(member.data),
        "sha256": _sha256(member.data),
    }


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _describe_bundle(facts: dict[str, Any]) -> str:
    rows = [[one["name"], one["role"], f"{one['size']:,}"] for one in facts["members"]]
    return "\n".join([f"{facts['out']}: {len(rows)} files", f"sha256  {facts['sha256']}", "", table(rows, right=[2])])


_VOUCHED = {
    "given": "the key you named",
    "remembered": "the key you saw before",
    "bundle": "named by the bundle itself",
}


def _describe(found: "Review", facts: dict[str, Any]) -> str:
    count = len(facts["failures"])
    parts = [
        "everything in it checks out" if facts["verified"] else f"FAILED: {count} finding{'s' if count > 1 else ''}",
        _describe_failures(facts),
        _describe_checked(found, facts),
        _describe_witnesses(facts),
        *map(_describe_erasure, facts["certificates"]),
        "\n".join(f"NOTE     {one}." for one in facts["remarks"]),
        _describe_worth(found, facts),
    ]
    return "\n\n".join(part for part in parts if part)


def _describe_failures(facts: dict[str, Any]) -> str:
    lines: list[str] = []
    for one in facts["failures"]:
        lines += [f"{one['code']}  {one['where']}", f"    found  {one['what']}", f"    means  {one['means']}"]
        lines += [f"    do     {one['fix']}"]
    return "\n".join([*lines, *(f"proof written to {one}" for one in facts["proofs"])])


def _describe_checked(found: "Review", facts: dict[str, Any]) -> str:
    lines = ["Checked by itself, from its first byte to its newest signature:"] if facts["ledgers"] else []
    for one, log in zip(facts["ledgers"], found.logs, strict=True):
        heir = ", or one that has replaced it" if len(log.facts.keys) > 1 else ""
        lines.append(f"{one['where']}: {one['size']} entries of {one['origin']}")
        lines.append(f"    root {one['root']}")
        lines.append(f"    key  {one['fingerprint']} ({_VOUCHED[one['key_from']]}{heir})")
    others = [one["place"] for one in facts["members"] if one["role"] != "ledger"]
    return "\n".join(
        [*lines, *([f"Held against the ledgers: {', '.join(others)}"] if others and facts["verified"] else [])]
    )


def _describe_witnesses(facts: dict[str, Any]) -> str:
    """Of each ledger, or of those together about which the same is to be said."""
    said: dict[str, list[str]] = {}
    for one in facts["witnesses"]:
        said.setdefault(one["in_words"], []).append(one["origin"].rpartition("/")[2])
    lines = [f"    {', '.join(names)}: {words}" for words, names in said.items()]
    return "\n".join(["Seen by witnesses, as far as cosignatures are here:", *lines] if lines else [])


def _describe_erasure(one: dict[str, Any]) -> str:
    rounds = sum(len(plan["steps"]) for plan in one["drawn"])
    word = "recomputed from the ledger" if one["held_against_ledger"] else "the unit's word: its ledger was not given"
    lines = [
        f"{one['file']}: erasure for request {one['request']}",
        f"    by      {one['unit']}, {one['controller']}; {one['regulation']} {one['ground']}",
        f"    key     {one['fingerprint']}",
        f"    days    received {one['received']}, completed {one['completed']}, due {one['due']}",
        f"    logged  with the unit's entry for {one['logged_for']}",
        *(f"    erased  {store}: {method}" for store, method in one["stores"].items()),
        *(
            [f"    closed  no backup from before can be read since {one['backups_closed']}"]
            if one["backups_closed"]
            else []
        ),
        *(f"    told    {recipient}: {status}" for recipient, status in one["recipients"].items()),
        f"    before  {rounds} rounds were drawn, epsilon at most {one['epsilon']} for anybody in them; {word}",
    ]
    return "\n".join(lines)


def _describe_worth(found: "Review", facts: dict[str, Any]) -> str:
    """What the evidence proves, if it does, and what it cannot."""
    lines = ["WARNING  the noise was simulated: not a differentially private release", ""] if found.simulated else []
    if facts["verified"]:
        lines += ["This proves:", *(f"- {one}" for one in _proved(facts)), ""]
    return "\n".join([*lines, "It cannot prove:", *(f"- {one}" for one in _unproved(facts))])


def _proved(facts: dict[str, Any]) -> list[str]:
    from fedseg.certificate import PROVES

    origins = {one["origin"] for one in facts["ledgers"]}
    proved: list[str] = list(PROVES) if facts["certificates"] else []
    if proved and not origins:
        return proved
    proved += ["whoever holds these keys has signed all of it, and not a byte was changed since"]
    if origins - {"fedseg/server"}:
        proved += [
            "each release was allowed by the policy in force, approved beforehand and within the cap",
            "each charge is what the stated noise costs, and each total is the sum of its parts",
        ]
    if "fedseg/server" in origins:
        proved.append("each published segment is what the releases that the server counted give")
    if origins > {"fedseg/server"}:
        proved.append("what the server counted of the units here, they have charged, bit for bit")
    if any(said["covers"] for one in facts["witnesses"] for said in one["witnesses"]):
        proved.append("what witnesses have cosigned of a ledger is in it; none of them had cosigned another history")
    if facts["remembered"]:
        proved.append("each ledger goes on where you last saw it, if you have seen it before")
    return proved


def _unproved(facts: dict[str, Any]) -> list[str]:
    from fedseg.certificate import CANNOT_PROVE

    if facts["certificates"] and not facts["ledgers"]:
        return list(CANNOT_PROVE)
    unproved = [
        *(CANNOT_PROVE if facts["certificates"] else ()),
        "that noise was really drawn, that only consented customers were counted, or that they exist",
        "that nothing was sent by other means",
    ]
    if not facts["remembered"]:
        unproved.append("that this is the newest copy, and the only history: verify with --remember FILE each time")
    if unvouched := [one for one in facts["ledgers"] if one["key_from"] == "bundle"]:
        name = unvouched[0]["origin"].rpartition("/")[2]
        unproved.append(
            "whose ledgers these are: identity was taken from the bundle itself, and anybody can make one. Compare "
            f"each fingerprint with its owner by telephone, then verify again with --key {name}=PUBLICKEY"
        )
    return unproved
