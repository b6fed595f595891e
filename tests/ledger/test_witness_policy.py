"""Witness policies: whose word is enough, and that nobody's counts twice."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.cosignature import cosign
from fedseg.ledger.keys import MlDsaSigningKey, SigningKey
from fedseg.ledger.merkle import EMPTY_ROOT
from fedseg.ledger.notes import Note, SignatureType, parse_note
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.ledger.witness_policy import CLOCK_SKEW, FILE_LIMIT_BYTES, WitnessPolicy

ORIGIN = "unit.example/ledger"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
CHECKPOINT = Checkpoint(ORIGIN, 42, EMPTY_ROOT)
VECTORS = Path(__file__).parent / "vectors"


def signer(seed: int) -> SigningKey:
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


LOG = VerifierKey(ORIGIN, SignatureType.ED25519, signer(99).public)


def witness(number: int) -> VerifierKey:
    return VerifierKey(f"w{number}.example", SignatureType.ED25519_COSIGNATURE, signer(number).public)


def seen_by(*numbers: int, now: datetime = NOW) -> str:
    """The checkpoint with the cosignatures of these witnesses."""
    note = sign_checkpoint(CHECKPOINT, signer(99))
    for number in numbers:
        note = cosign(note, witness(number).name, signer(number), now)
    return note


def policy(*lines: str, witnesses: int = 6) -> WitnessPolicy:
    """The log, so many witnesses X1, X2, ..., and these lines."""
    known = [f"witness X{number} {witness(number).to_text()}" for number in range(1, witnesses + 1)]
    return WitnessPolicy.from_bytes("".join(f"{line}\n" for line in [f"log {LOG.to_text()}", *known, *lines]).encode())


def reached(rule: WitnessPolicy, *numbers: int) -> bool:
    try:
        rule.check(seen_by(*numbers), NOW)
    except VerificationError as error:
        assert "do not reach the quorum" in error.why  # noqa: PT017 - any other refusal is a defect
        return False
    return True


def test_the_two_levels_of_the_specifications_example_are_counted() -> None:
    rule = policy(
        "group X-witnesses 2 X1 X2 X3", "group Y-witnesses any X4 X5 X6", "group X-and-Y all X-witnesses Y-witnesses",
        "quorum X-and-Y",
    )  # fmt: skip
    for numbers in [(1, 2, 4), (3, 1, 6), (1, 2, 3, 4, 5, 6)]:
        assert reached(rule, *numbers)
    for numbers in [(), (1, 2), (1, 2, 3), (4, 5, 6), (1, 4), (1, 1, 4)]:
        assert not reached(rule, *numbers)


def test_a_quorum_may_be_one_witness_or_nobody() -> None:
    assert reached(policy("quorum X2"), 2)
    assert not reached(policy("quorum X2"), 1)
    assert reached(policy("quorum none"))


@pytest.mark.parametrize(("threshold", "needed"), [("any", 1), ("1", 1), ("3", 3), ("all", 4), ("4", 4)])
def test_a_threshold_is_how_many_must_have_seen_it(threshold: str, needed: int) -> None:
    rule = policy(f"group g {threshold} X1 X2 X3 X4", "quorum g")
    for count in range(5):
        assert reached(rule, *range(1, count + 1)) == (count >= needed)


def test_who_has_seen_it_is_told() -> None:
    opened = policy("group g 2 X1 X2 X3", "quorum g").check(seen_by(3, 1), NOW)
    assert opened.checkpoint == CHECKPOINT
    assert opened.seen_by == (witness(1), witness(3))


def test_one_witness_that_cosigns_twice_counts_once() -> None:
    assert not reached(policy("group g 2 X1 X2", "quorum g"), 1, 1)


def test_a_cosignature_from_the_future_is_refused() -> None:
    rule = policy("quorum X1")
    rule.check(seen_by(1, now=NOW + CLOCK_SKEW), NOW)
    with pytest.raises(VerificationError, match="from the future"):
        rule.check(seen_by(1, now=NOW + CLOCK_SKEW + timedelta(seconds=1)), NOW)


def test_a_witness_may_sign_with_ml_dsa() -> None:
    key = MlDsaSigningKey.generate()
    known = VerifierKey("pq.example", SignatureType.ML_DSA_44_COSIGNATURE, key.public)
    rule = policy(f"witness pq {known.to_text()}", "quorum pq")
    assert rule.check(cosign(seen_by(), "pq.example", key, NOW), NOW).seen_by == (known,)
    with pytest.raises(VerificationError, match="quorum"):
        rule.check(seen_by(1), NOW)


def test_a_log_may_sign_with_ml_dsa_too() -> None:
    key = MlDsaSigningKey.generate()
    known = VerifierKey(ORIGIN, SignatureType.ML_DSA_44_COSIGNATURE, key.public)
    rule = WitnessPolicy.from_bytes(f"log {known.to_text()}\nquorum none\n".encode())
    note = parse_note(cosign(seen_by(), ORIGIN, key, NOW))
    assert rule.check(Note(note.text, note.signatures[1:]).to_text(), NOW).checkpoint == CHECKPOINT
    with pytest.raises(VerificationError, match="none of the known"):
        rule.check(seen_by(), NOW)


def test_a_checkpoint_that_only_witnesses_signed_is_refused() -> None:
    note = parse_note(seen_by(1))
    with pytest.raises(VerificationError, match="no log of the policy"):
        policy("quorum X1").check(Note(note.text, note.signatures[1:]).to_text(), NOW)


def test_a_log_cannot_speak_for_another_origin() -> None:
    note = sign_checkpoint(Checkpoint("other.example/ledger", 1, EMPTY_ROOT), signer(99))
    moved = parse_note(sign_checkpoint(CHECKPOINT, signer(99)))
    other = VerifierKey("third.example", SignatureType.ED25519, signer(98).public)
    rule = WitnessPolicy.from_bytes(f"log {other.to_text()}\nlog {LOG.to_text()}\nquorum none\n".encode())
    with pytest.raises(VerificationError):
        rule.check(note, NOW)
    with pytest.raises(VerificationError):
        rule.check(Note(parse_note(note).text, moved.signatures).to_text(), NOW)
    under = parse_note(sign_note_as(other.name, CHECKPOINT.to_text()))
    with pytest.raises(VerificationError, match="no log of the policy"):
        rule.check(under.to_text(), NOW)


def sign_note_as(name: str, text: str) -> str:
    from fedseg.ledger.notes import sign_note

    return sign_note(text, name, signer(98))


def test_public_witnesses_of_a_public_log_satisfy_a_policy() -> None:
    log, *witnesses = (VECTORS / "keys.txt").read_text().splitlines()[:5]
    lines = [f"log {log}", *(f"witness w{place} {key}" for place, key in enumerate(witnesses))]
    rule = WitnessPolicy.from_bytes("\n".join([*lines, "group g 3 w0 w1 w2 w3", "quorum g\n"]).encode())
    note = (VECTORS / "arche2025h1.note").read_text()
    assert len(rule.check(note, NOW).seen_by) == 4
    fewer = "".join(line for line in note.splitlines(keepends=True) if "smartit" not in line and "remora" not in line)
    with pytest.raises(VerificationError, match="quorum"):
        rule.check(fewer, NOW)


def test_a_policy_is_lines_of_words_between_blanks() -> None:
    text = f"\n# logs\n\t log\t {LOG.to_text()}  https://log.example/ \n \t\n  # witnesses: \xe9\n".encode("latin-1")
    text += b"witness \xe9\xff " + witness(1).to_text().encode() + b" https://w1.example/\nquorum\t\xe9\xff\n"
    rule = WitnessPolicy.from_bytes(text)
    assert (rule.logs, list(rule.witnesses), rule.quorum) == ((LOG,), [b"\xe9\xff"], b"\xe9\xff")


BAD_LINES = [
    "log",
    f"log {LOG.to_text()}",  # a second time
    f"log other {LOG.to_text()}",
    f"log {VerifierKey('other.example', SignatureType.ED25519, signer(99).public).to_text()}",  # the same key
    f"log {VerifierKey('other.example', SignatureType.ED25519_COSIGNATURE, signer(5).public).to_text()}",
    "log nonsense",
    "log \N{LATIN SMALL LETTER O WITH STROKE}",
    "witness X9",
    f"witness X1 {witness(9).to_text()}",  # a name that is taken
    f"witness none {witness(9).to_text()}",
    f"witness X9 {witness(1).to_text()}",  # a key that is there
    f"witness X9 {VerifierKey('w9.example', SignatureType.ED25519_COSIGNATURE, signer(1).public).to_text()}",
    f"witness X9 {VerifierKey('w9.example', SignatureType.ED25519_COSIGNATURE, signer(99).public).to_text()}",  # the log's
    f"witness X9 {VerifierKey('w9.example', SignatureType.ED25519, signer(9).public).to_text()}",
    f"witness X9 {witness(9).to_text()} https://a.example/ more",
    "group g any",
    "group g 0 X1 X2",
    "group g 3 X1 X2",
    "group g 01 X1 X2",
    "group g most X1 X2",
    "group g any X1 X1",
    "group g any X1 none",
    "group g any X1 unknown",
    "group g any g",
    "group X1 any X2",
    "group none any X2",
    "quorum X1",  # a second one
    "quorum unknown",
    "monitor X1",
]


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_line_that_the_specification_does_not_allow_is_refused_by_its_number(line: str) -> None:
    with pytest.raises(ValueError, match="line 9 of the policy"):
        policy("quorum none", line)


@pytest.mark.parametrize("line", ["quorum", "quorum X1 X2", "quorum unknown"])
def test_a_quorum_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="line 8 of the policy"):
        policy(line)


def test_a_witness_counts_in_one_group_only() -> None:
    with pytest.raises(ValueError, match="a member already"):
        policy("group g any X1 X2", "group h any X2 X3", "quorum h")


@pytest.mark.parametrize("data", [b"", b"\n", b"quorum none", b"# nothing\n", b"quorum none\r\n", b"quorum\x00none\n",
                                  b"quorum none\n\x7f\n", b"quorum none\n" + b"#" * FILE_LIMIT_BYTES + b"\n"])  # fmt: skip
def test_a_file_that_is_no_policy_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="polic"):
        WitnessPolicy.from_bytes(data)


def test_a_policy_without_logs_needs_one_from_elsewhere() -> None:
    rule = WitnessPolicy.from_bytes(f"witness a {witness(1).to_text()}\nquorum a\n".encode())
    with pytest.raises(ValueError, match="names no log"):
        rule.check(seen_by(1), NOW)
    assert rule.for_log(LOG).check(seen_by(1), NOW).checkpoint == CHECKPOINT
    with pytest.raises(VerificationError, match="quorum"):
        rule.for_log(LOG).check(seen_by(2), NOW)


def test_a_policy_for_one_log_names_it_and_lets_it_not_be_its_own_witness() -> None:
    other = VerifierKey("other.example", SignatureType.ED25519, signer(50).public)
    with pytest.raises(ValueError, match="names other logs"):
        policy("quorum none").for_log(other)
    with pytest.raises(ValueError, match="count twice"):
        WitnessPolicy.from_bytes(f"witness a {witness(1).to_text()}\nquorum a\n".encode()).for_log(
            VerifierKey(ORIGIN, SignatureType.ED25519, signer(1).public)
        )


def test_keys_that_a_note_could_not_tell_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VerifierKey, "id", bytes(4))
    same = [VerifierKey("w.example", SignatureType.ED25519_COSIGNATURE, signer(number).public) for number in (1, 2)]
    lines = [f"witness X{number} {key.to_text()}\n" for number, key in enumerate(same)]
    with pytest.raises(ValueError, match="cannot be told apart"):
        WitnessPolicy.from_bytes("".join([*lines, "quorum none\n"]).encode())


def test_the_time_must_say_its_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        policy("quorum none").check(seen_by(), NOW.replace(tzinfo=None))
