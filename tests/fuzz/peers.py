"""Every reader that bytes of a peer can reach: a server's, a unit's, a partner's, an auditor's, a privacy platform's.

Each comes with valid examples, with the damage that gets deep into it, and with how many damaged inputs it has to stand.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

from fedseg.audit.archive import Member, Role, pack, unpack
from fedseg.audit.certificate import verify_certificate
from fedseg.audit.log import parse_log, verify_log
from fedseg.audit.proof import EquivocationProof
from fedseg.audit.verify import verify_raw
from fedseg.audit.witnesses import contradiction, open_beside
from fedseg.certificate import PAYLOAD_TYPE, ProvenCertificate, open_certificate, open_closing
from fedseg.clustering.request import parse_request, request_bytes
from fedseg.console.guard import read_form
from fedseg.deploy import enrolment
from fedseg.deploy.certificates import new_authority, new_node_key
from fedseg.errors import VerificationError
from fedseg.federation import wire
from fedseg.federation.server_app import run_plan
from fedseg.federation.witness_wire import decode_asked, decode_said, encode_asked, encode_said
from fedseg.ledger.canonical import parse_canonical
from fedseg.ledger.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from fedseg.ledger.cosignature import cosign
from fedseg.ledger.dsse import seal, unseal
from fedseg.ledger.entries import Entry
from fedseg.ledger.export import export_ledger
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.notes import SignatureType, open_note, parse_note
from fedseg.ledger.proof import ConsistencyProof, InclusionProof, follow_key, prove_consistency, prove_inclusion
from fedseg.ledger.raw import RawLedger
from fedseg.ledger.reading import read_ledger
from fedseg.ledger.tiles import export_tiles
from fedseg.ledger.verifier_keys import VerifierKey, open_signed
from fedseg.ledger.witness import Witness
from fedseg.ledger.witness_policy import WitnessPolicy
from fedseg.node.consent.mapping import mapping_document, parse_mapping, shipped_mappings
from fedseg.node.rights.opendsr import order_of, read_request
from fedseg.node.witnessing import Asked, NodeProcess, answer
from fedseg.plan import parse_plan
from fedseg.policy.document import load_policy
from fedseg.privacy.signatures import (
    read_plan_signature,
    read_policy_signatures,
    sign_plan,
    sign_policy,
    signature_path,
    write_plan_signature,
)
from fedseg.privacy.witnessed import open_own
from fedseg.report.officer.noise_file import parse_noise_audit
from fedseg.report.officer.pack import Question, make, parse_document
from fedseg.report.officer.period import Period
from fedseg.segments.segmentation import parse_signed
from fedseg.server.contribution import parse_contribution
from fedseg.server.job import Job
from tests.forged_certificate import closed_certificate, copied, true_certificate, unit_with_rounds
from tests.mutations import BYTES, JSON, TEXT, TOML, Changed
from tests.small_federation import SmallFederation, ask, make_federation, policy_document, some_request

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OPENDSR = Path(__file__).parents[1] / "node" / "opendsr_example.json"
WITNESS = "witness.example/w1"


@dataclass(frozen=True)
class Peer:
    """A reader of what somebody else has written."""

    name: str
    examples: Sequence[bytes]
    read: Callable[[bytes], object]
    ways: Sequence[Changed] = tuple(TEXT)
    share: int = 40
    """How many inputs of the quick tests it gets, in hundreds."""
    refuses: tuple[type[Exception], ...] = ()
    """What it raises beside our own errors, as it says; whoever calls it turns that into one of ours."""
    covers: Sequence[str] = field(default=())
    """The readers in the code, as `module:name`, that stand behind it."""


def text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """A reader of text, as it is called with a file: what is no UTF-8 is refused by whoever has read the file."""

    def reading(data: bytes) -> object:
        with suppress(UnicodeDecodeError):
            return read(data.decode("utf-8"))
        return read(data.decode("latin-1"))

    return reading


def make_peers(path: Path) -> dict[str, Peer]:
    """All of them, with examples from a run that has ended in `path`."""
    federation = make_federation(path / "federation", {"north": 60, "south": 50}).approve_all()
    replies = [
        reply
        for step in range(federation.plan.rounds)
        for reply in ask(federation.copied_to(path / f"asked-{step}").grid(), federation.plan, some_request(federation.plan, step))
    ]  # fmt: skip
    signed = run_plan(federation.grid(), federation.server, federation.document, roster=federation.roster).to_json()
    found = [
        *_of_the_wire(federation, replies),
        *_of_agreement(federation, path),
        *_of_enrolment(),
        *_of_ledgers(federation, path, signed),
        *_of_notes(federation),
        *_of_people(path),
        Peer("segmentation", [signed], parse_signed, JSON, 30, covers=["segments.segmentation:parse_signed"]),
        Peer("form", [b"csrf=a1&plan=b2&reason=not+now", b"csrf="], read_form, BYTES, 10, covers=["console.guard:read_form"]),
        Peer(
            "job", [Job.of(federation.plan, now=NOW).to_json()], Job.from_json, JSON, 10,
            refuses=(ValueError,), covers=["server.job:Job.from_json"],
        ),
    ]  # fmt: skip
    return {one.name: one for one in found}


def _of_the_wire(federation: SmallFederation, replies: Sequence[bytes]) -> list[Peer]:
    plan = federation.plan
    requests = [request_bytes(plan.digest, some_request(plan, step)) for step in range(plan.rounds)]
    asked = Asked(plan.digest, sizes=(0, 1, 2))
    said = answer(federation.home("north"), asked, NodeProcess(), NOW)
    asked = replace(asked, given=(said.growth[0].partition("\n\n")[2],), to_cosign=said.growth)
    return [
        Peer("reply", [*replies, wire.encode_unavailable()], lambda data: wire.decode(data, plan), BYTES, 100,
             covers=["federation.wire:decode"]),
        Peer("release", [one[1:] for one in replies], lambda data: parse_contribution(data, plan), BYTES, 50,
             covers=["server.contribution:parse_contribution"]),
        Peer("request", requests, parse_request, BYTES, 100, covers=["clustering.request:parse_request"]),
        Peer("witness-asked", [encode_asked(asked), encode_asked(Asked(plan.digest))], decode_asked, JSON, 30,
             covers=["federation.witness_wire:decode_asked"]),
        Peer("witness-said", [encode_said(said)], decode_said, JSON, 30,
             covers=["federation.witness_wire:decode_said"]),
        Peer("witness-request", [one.encode() for one in said.growth], _watched_by(federation), TEXT, 15,
             refuses=(ValueError,), covers=["ledger.witness:Witness.add_checkpoint"]),
    ]  # fmt: skip


def _watched_by(federation: SmallFederation) -> Callable[[bytes], object]:
    """A witness that has seen two entries of north's ledger."""
    home = federation.home("north")
    witness = Witness.create(federation.path / "witness", WITNESS, SigningKey.generate())
    raw = read_ledger(home.path / "ledger.db")
    witness.enrol(raw.verifier_key)
    witness.add_checkpoint(f"old 0\n\n{dict(raw.notes)[2]}".encode(), NOW)

    def reading(data: bytes) -> object:
        answered = witness.add_checkpoint(data, NOW)
        if answered.status < HTTPStatus.CONFLICT and answered.status is not HTTPStatus.OK:
            raise ValueError(answered.body)
        return answered

    return reading


def _of_agreement(federation: SmallFederation, path: Path) -> list[Peer]:
    key, folder = SigningKey.generate(), path / "signed"
    folder.mkdir()
    plan, policy = folder / "plan.toml", folder / "policy.yaml"
    write_plan_signature(plan, sign_plan(federation.plan.digest, key))
    plan_signature = signature_path(plan).read_bytes()
    officer = sign_policy("0" * 64, "ada", key)
    officers = b'{"signatures":[' + officer.model_dump_json().encode() + b"]}"

    def beside(document: Path, read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def reading(data: bytes) -> object:
            signature_path(document).write_bytes(data)
            return read(document)

        return reading

    return [
        Peer("plan", [federation.document], parse_plan, TOML, 20, covers=["plan:parse_plan", "privacy.budget:parse_fraction"]),
        Peer("policy", [policy_document()], load_policy, TEXT, 10,
             covers=["policy.document:load_policy", "policy.strict_yaml:read_document"]),
        Peer("plan-signature", [plan_signature], beside(plan, read_plan_signature), JSON, 20,
             covers=["privacy.signatures:read_plan_signature"]),
        Peer("policy-signatures", [officers], beside(policy, read_policy_signatures), JSON, 20,
             covers=["privacy.signatures:read_policy_signatures"]),
        Peer("consent-mapping", [mapping_document(name) for name in shipped_mappings()], parse_mapping, TOML, 20,
             covers=["node.consent.mapping:parse_mapping"]),
    ]  # fmt: skip


def _of_enrolment() -> list[Peer]:
    node = enrolment.NodeIdentity("north", SigningKey.generate(), new_node_key("north").private, "seg.example:8443")
    request = enrolment.make_request(node, now=NOW)
    authority = new_authority(NOW).certificate
    answer = enrolment.make_answer(request, SigningKey.generate(), node_id=7, ca=authority, now=NOW)
    return [
        Peer("enrolment-request", [request.to_bytes()], lambda data: enrolment.read_request(data, now=NOW), JSON, 30,
             covers=["deploy.enrolment:read_request", "deploy.enrolment:parse_request"]),
        Peer("enrolment-answer", [answer.to_bytes()], lambda data: enrolment.read_answer(data, request), JSON, 30,
             covers=["deploy.enrolment:read_answer"]),
    ]  # fmt: skip


def _of_ledgers(federation: SmallFederation, path: Path, signed: bytes) -> list[Peer]:
    raw = {name: read_ledger(federation.path / name / "ledger.db") for name in ("north", "server")}
    exports = [export_ledger(one) for one in raw.values()]
    entries = [entry.to_bytes() for one in raw.values() for entry in one.entries]
    members = [
        Member("plan.toml", Role.PLAN, federation.document),
        Member("segmentation.json", Role.SEGMENTATION, signed),
        Member("units/north/policy.yaml", Role.POLICY, policy_document()),
    ]
    database, folder = path / "damaged.db", path / "tiles"
    with federation.home("north").ledger():
        sqlite = (federation.path / "north" / "ledger.db").read_bytes()
    export_tiles(raw["north"], folder)
    tiles = {str(one.relative_to(folder)): one.read_bytes() for one in sorted(folder.rglob("*")) if one.is_file()}

    def of_file(data: bytes) -> RawLedger:
        database.write_bytes(data)
        return verified(read_ledger(database))

    def verified(found: RawLedger) -> RawLedger:
        verify_log(found, None)
        verify_raw(found)
        return found

    def of_tiles(data: bytes) -> RawLedger:
        """The name of a tile, a line feed, and what stands in it."""
        name, _, content = data.partition(b"\n")
        chosen = name.decode("ascii", "replace")
        place = chosen if chosen in tiles else "checkpoint"
        (folder / place).write_bytes(content)
        try:
            return verified(read_ledger(folder))
        finally:
            (folder / place).write_bytes(tiles[place])

    document = make(members, Question("2025", {}, None, None))[1]["report.json"]
    game = {
        "name": "n",
        "question": "q",
        "guesses": 9,
        "allowed": 0.7,
        "right_at_least": 0.6,
        "rho": 1.0,
        "rho_at_least": 0.1,
    }
    said = {"software": "fedseg", "violated": False, "false_alarm": 1e-6, "games": [game]}
    played = json.dumps({"data": said}).encode()
    return [
        Peer("entry", entries, Entry.from_bytes, JSON, 100, refuses=(ValueError,), covers=["ledger.entries:Entry.from_bytes"]),
        Peer("canonical-json", entries, parse_canonical, JSON, 80, refuses=(ValueError,),
             covers=["ledger.canonical:parse_canonical"]),
        Peer("ledger-export", exports, lambda data: verified(parse_log(data)), TEXT, 15,
             covers=["audit.log:parse_log", "ledger.export:parse_export", "audit.verify:verify_ledger"]),
        Peer("ledger-file", [sqlite], of_file, BYTES, 5, covers=["ledger.reading:read_ledger", "audit.log:read_log"]),
        Peer("ledger-tiles", [f"{name}\n".encode() + data for name, data in tiles.items()], of_tiles, BYTES, 5,
             covers=["ledger.tiles:read_tiles", "ledger.tiles:_Files.read", "ledger.tiles:_Files.read_text"]),
        Peer("audit-bundle", [pack(members)], unpack, TEXT, 30, covers=["audit.archive:unpack"]),
        Peer("officers-report", [document], lambda data: Period.parse(parse_document(data).period.text), JSON, 20,
             covers=["report.officer.pack:parse_document", "report.officer.period:Period.parse"]),
        Peer("noise-audit", [played], parse_noise_audit, JSON, 20,
             covers=["report.officer.noise_file:parse_noise_audit"]),
    ]  # fmt: skip


def _of_notes(federation: SmallFederation) -> list[Peer]:
    raw = read_ledger(federation.path / "north" / "ledger.db")
    key, other = federation.home("north").key, SigningKey.generate()
    origin = raw.entries[0].body["origin"]
    assert isinstance(origin, str)
    log = VerifierKey(origin, SignatureType.ED25519, key.public)
    witness = VerifierKey(WITNESS, SignatureType.ED25519_COSIGNATURE, other.public)
    note = cosign(raw.notes[-1][1], WITNESS, other, NOW)
    own = raw.notes[-1][1].encode()
    inclusion = [prove_inclusion(raw, seq).to_text().encode() for seq in range(len(raw.entries))]
    consistency = [prove_consistency(raw, size).to_text().encode() for size, _ in raw.notes]
    fork = sign_checkpoint(Checkpoint(origin, raw.notes[-1][0], bytes(32)), key)
    proof = EquivocationProof.of(origin, key.public, raw.notes[-1][1], fork).to_json()
    keys = [log.to_text().encode(), witness.to_text().encode()]
    policy = b"log %b\nwitness w %b\ngroup g any w\nquorum g\n" % (keys[0], keys[1])

    def proved(found: str) -> object:
        proof = InclusionProof.from_text(found)
        with suppress(VerificationError):  # most prove no change of key
            follow_key(proof, [log])
        opened = open_signed(proof.note, [log])
        proof.verify(proof.extra or b"", parse_checkpoint(opened.text))
        return proof

    def beside(data: bytes) -> object:
        return contradiction(raw, data) or open_beside(data, raw.history())

    return [
        Peer("note", [own, note.encode()], text(parse_note), TEXT, 60, covers=["ledger.notes:parse_note"]),
        Peer("own-note", [own], text(lambda one: open_note(one, key.public, origin)), TEXT, 30,
             covers=["ledger.notes:open_note"]),
        Peer("signed-note", [own, note.encode()], text(lambda one: open_signed(one, [log, witness])), TEXT, 30,
             covers=["ledger.verifier_keys:open_signed"]),
        Peer("cosigned", [note.encode()], text(lambda one: open_own(one, raw.history(), [witness])), TEXT, 30,
             covers=["privacy.witnessed:open_own"]),
        Peer("cosigned-beside", [note.encode(), own], beside, BYTES, 20, covers=["audit.witnesses:open_beside"]),
        Peer("checkpoint", [own.partition(b"\n\n")[0] + b"\n"], text(parse_checkpoint), TEXT, 60,
             covers=["ledger.checkpoint:parse_checkpoint"]),
        Peer("own-checkpoint", [own], text(lambda one: open_checkpoint(one, key.public, origin)), TEXT, 30,
             covers=["ledger.checkpoint:open_checkpoint"]),
        Peer("inclusion-proof", inclusion, text(proved), TEXT, 40,
             covers=["ledger.proof:InclusionProof.from_text"]),
        Peer("consistency-proof", consistency, text(ConsistencyProof.from_text), TEXT, 40,
             covers=["ledger.proof:ConsistencyProof.from_text"]),
        Peer("equivocation-proof", [proof], EquivocationProof.from_json, JSON, 30,
             covers=["audit.proof:EquivocationProof.from_json"]),
        Peer("verifier-key", keys, text(VerifierKey.from_text), TEXT, 60, refuses=(ValueError,),
             covers=["ledger.verifier_keys:VerifierKey.from_text", "ledger.keys:PublicKey.from_text", "ledger.keys:decode_base64"]),
        Peer("witness-policy", [policy], WitnessPolicy.from_bytes, TEXT, 30, refuses=(ValueError,),
             covers=["ledger.witness_policy:WitnessPolicy.from_bytes"]),
    ]  # fmt: skip


def _of_people(path: Path) -> list[Peer]:
    unit = copied(unit_with_rounds(), path / "erasing")
    certificate = true_certificate(unit)
    closing = ProvenCertificate.from_bytes(closed_certificate(copied(unit_with_rounds(), path / "closing"))).closing
    assert closing is not None
    envelope, key = ProvenCertificate.from_bytes(certificate).envelope, unit.key.public

    def asked(body: bytes) -> object:
        return order_of(read_request(body, "email"), "platform", datetime(2018, 10, 2, tzinfo=UTC) + timedelta(days=9))

    return [
        Peer("rights-request", [OPENDSR.read_bytes()], asked, JSON, 40, covers=["node.rights.opendsr:read_request"]),
        Peer("erasure-certificate", [certificate], lambda data: verify_certificate(data, [key]), JSON, 20,
             covers=["certificate:ProvenCertificate.from_bytes", "audit.certificate:verify_certificate"]),
        Peer("envelope", [envelope], lambda data: unseal(data, PAYLOAD_TYPE, key), JSON, 30, covers=["ledger.dsse:unseal"]),
        Peer("certificate", [envelope], lambda data: open_certificate(data, key), JSON, 20,
             covers=["certificate:open_certificate"]),
        Peer("closing-statement", [closing.envelope], lambda data: open_closing(data, key), JSON, 20,
             covers=["certificate:open_closing"]),
        Peer("certificate-statement", [unseal(envelope, PAYLOAD_TYPE, key)],
             lambda data: open_certificate(seal(PAYLOAD_TYPE, data, unit.key), key), JSON, 20),
    ]  # fmt: skip
