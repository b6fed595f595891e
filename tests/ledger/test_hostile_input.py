"""Whatever bytes come from outside, a reader answers with its one error or with a value that is written the same."""

import base64

from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import VerificationError
from fedseg.ledger.checkpoint import Checkpoint, parse_checkpoint
from fedseg.ledger.notes import parse_note
from fedseg.ledger.proof import PROOF_HEADER, ConsistencyProof, InclusionProof
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.ledger.witness_policy import WitnessPolicy

HASH = base64.b64encode(bytes(32)).decode()
EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
KEY = EXAMPLE_KEY.split("+", 2)
WITNESS_KEY = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2"

pieces = st.sampled_from(
    [
        "\n",
        "\n\n",
        "— ",
        " ",
        "old ",
        "index ",
        "extra ",
        PROOF_HEADER,
        HASH,
        "AAAA",
        "0",
        "7",
        "a.example",
        "+",
        "\0",
        "ø",
    ]
)
texts = st.lists(pieces | st.text(max_size=4), max_size=14).map("".join)
words = st.sampled_from(
    [b"log", b"witness", b"group", b"quorum", b"any", b"all", b"1", b"2", b"a", b"b", b"none", b"\xff", b"#",
     EXAMPLE_KEY.encode(), WITNESS_KEY.encode()]
)  # fmt: skip
lines = st.lists(words, max_size=5).map(b" ".join)


@given(texts)
def test_a_note_is_read_as_it_is_written_or_refused(text: str) -> None:
    try:
        note = parse_note(text)
    except VerificationError:
        return
    assert note.to_text() == text


@given(texts)
def test_a_checkpoint_is_read_as_it_is_written_or_refused(text: str) -> None:
    try:
        checkpoint = parse_checkpoint(text)
    except VerificationError:
        return
    assert text.startswith(checkpoint.to_text().removesuffix("\n"))


@given(texts, st.booleans())
def test_a_proof_is_read_as_it_is_written_or_refused(text: str, headed: bool) -> None:
    whole = f"{PROOF_HEADER}\n{text}" if headed else text
    for kind in (InclusionProof, ConsistencyProof):
        try:
            proof = kind.from_text(whole)
        except VerificationError:
            continue
        assert proof.to_text() == whole


@given(st.lists(st.text(max_size=30) | st.sampled_from(KEY), max_size=5).map("+".join))
def test_a_verifier_key_is_read_as_it_is_written_or_refused(text: str) -> None:
    try:
        key = VerifierKey.from_text(text)
    except ValueError:
        return
    assert key.to_text() == text


@given(st.lists(lines, max_size=8).map(lambda parts: b"".join(part + b"\n" for part in parts)) | st.binary(max_size=60))
def test_a_policy_is_a_policy_or_refused_and_never_counts_whom_it_does_not_know(data: bytes) -> None:
    try:
        policy = WitnessPolicy.from_bytes(data)
    except ValueError:
        return
    known = {b"none", *policy.witnesses, *policy.groups}
    assert policy.quorum in known
    assert all(1 <= group.threshold <= len(group.members) for group in policy.groups.values())
    assert all(member in known for group in policy.groups.values() for member in group.members)


@given(st.integers(0, 10**17), st.binary(min_size=32, max_size=32), texts)
def test_only_the_first_three_lines_of_a_checkpoint_are_its_own(size: int, root: bytes, more: str) -> None:
    checkpoint = Checkpoint("a.example", size, root)
    try:
        assert parse_checkpoint(checkpoint.to_text() + more) == checkpoint
    except VerificationError:
        assert "\n\n" in f"\n{more}\n"
