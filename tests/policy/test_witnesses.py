"""Witnesses in a policy: a quorum that no two histories can reach, or the declaration that there are none."""

import pytest

from fedseg.errors import PolicyDocumentError
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.notes import SignatureType
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.policy.document import Policy, load_policy
from fedseg.policy.explain import explain
from tests.small_federation import policy_document

KEYS = [
    VerifierKey(f"w{number}", SignatureType.ED25519_COSIGNATURE, SigningKey.generate().public).to_text()
    for number in range(4)
]


def with_witnesses(quorum: int, *keys: str) -> Policy:
    lines = "".join(f"    w{number}: {key}\n" for number, key in enumerate(keys))
    named = f"  keys:\n{lines}" if keys else ""
    return load_policy(policy_document() + f"witnesses:\n  quorum: {quorum}\n{named}".encode())


@pytest.mark.parametrize(("quorum", "named"), [(1, 1), (2, 2), (2, 3), (3, 3), (3, 4), (4, 4), (0, 0)])
def test_more_than_half_of_the_witnesses_or_none_at_all(quorum: int, named: int) -> None:
    stated = with_witnesses(quorum, *KEYS[:named]).witnesses
    assert stated is not None
    assert (stated.quorum, len(stated.keys)) == (quorum, named)


@pytest.mark.parametrize(("quorum", "named"), [(1, 2), (1, 3), (2, 4), (0, 1), (1, 0), (3, 2), (-1, 0)])
def test_a_quorum_that_two_histories_could_reach_or_nobody_can_is_refused(quorum: int, named: int) -> None:
    with pytest.raises(PolicyDocumentError, match=r"quorum|greater"):
        with_witnesses(quorum, *KEYS[:named])


def test_a_key_counts_once_and_only_if_it_cosigns() -> None:
    key = SigningKey.generate()
    again = [VerifierKey(name, SignatureType.ED25519_COSIGNATURE, key.public).to_text() for name in ("a", "b")]
    with pytest.raises(PolicyDocumentError, match="a key of its own"):
        with_witnesses(2, *again)
    for wrong in (VerifierKey("a", SignatureType.ED25519, key.public).to_text(), "nonsense"):
        with pytest.raises(PolicyDocumentError):
            with_witnesses(1, wrong)


def test_silence_is_no_declaration_and_keeps_its_hash_apart() -> None:
    silent, declared = load_policy(policy_document()), with_witnesses(0)
    assert silent.witnesses is None
    assert silent.digest != declared.digest


def test_it_is_explained_in_words() -> None:
    def said(policy: Policy) -> str:
        return "\n".join(line for one in explain(policy, epsilon_at_cap="1") for line in (one.title, *one.sentences))

    assert "witness" not in said(load_policy(policy_document()))
    assert "Nobody, which is declared here" in said(with_witnesses(0))
    assert "before 2 of these have cosigned the ledger: w0, w1, w2" in said(with_witnesses(2, *KEYS[:3]))
