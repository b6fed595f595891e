"""What witnesses must have seen before a release: every release before it, its own plan's approval, since the process began."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fractions import Fraction

import pytest

from fedseg.errors import BudgetError, NotWitnessedError, RolledBackError
from fedseg.ledger.checkpoint import Checkpoint, sign_checkpoint
from fedseg.ledger.cosignature import cosign
from fedseg.ledger.journal import MemoryLedger
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.notes import SignatureType, sign_note
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.privacy.entries import WitnessRules
from fedseg.privacy.state import AccountState, Caps, Reservation
from fedseg.privacy.witnessed import Cosigned, open_handovers, require_witnessed

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PLAN, OTHER = "1" * 64, "2" * 64
START = "5a" * 16
OWN, WITNESSES = SigningKey.generate(), [SigningKey.generate() for _ in range(3)]
NAMES = ("w1", "w2", "w3")


def rules(quorum: int, keys: Sequence[SigningKey] = WITNESSES) -> WitnessRules:
    named = {
        name: VerifierKey(name, SignatureType.ED25519_COSIGNATURE, key.public).to_text()
        for name, key in zip(NAMES, keys, strict=False)
    }
    return WitnessRules(quorum=quorum, keys=named)


@pytest.fixture
def ledger() -> MemoryLedger:
    """Genesis, the process's start, an approval of the plan."""
    made = MemoryLedger(origin="fedseg/unit/north", key=OWN, body={})
    begin(made, START)
    append(made, "approval")
    return made


def begin(ledger: MemoryLedger, nonce: str) -> None:
    with ledger.transaction() as transaction:
        transaction.append("start", {"nonce": nonce})


def append(ledger: MemoryLedger, kind: str, plan: str = PLAN) -> None:
    with ledger.transaction() as transaction:
        transaction.append(kind, {"plan_sha256": plan})


Cosign = Callable[..., Cosigned]


@pytest.fixture
def seen(ledger: MemoryLedger) -> Cosign:
    """The newest checkpoint, cosigned by the first so many witnesses at a time."""

    def seen(count: int, note: str | None = None, start: str = START) -> Cosigned:
        text = ledger.notes[-1] if note is None else note
        for name, key in zip(NAMES[:count], WITNESSES, strict=False):
            text = cosign(text, name, key, NOW)
        return Cosigned(text, start)

    return seen


def require(ledger: MemoryLedger, rules: WitnessRules | None, cosigned: Cosigned | None, plan: str = PLAN) -> None:
    with ledger.transaction() as transaction:
        require_witnessed(rules, transaction.before, plan, cosigned)


@pytest.mark.parametrize("rules", [None, WitnessRules(quorum=0)], ids=["nothing stated", "declared none"])
def test_a_policy_without_witnesses_asks_for_none(ledger: MemoryLedger, rules: WitnessRules | None) -> None:
    require(ledger, rules, None)


@pytest.mark.parametrize("quorum", [1, 2, 3])
def test_as_many_witnesses_as_the_policy_says_must_have_seen_it(
    ledger: MemoryLedger, seen: Cosign, quorum: int
) -> None:
    require(ledger, rules(quorum), seen(quorum))
    for fewer in range(quorum):
        with pytest.raises(NotWitnessedError, match=f"{fewer} of its witnesses"):
            require(ledger, rules(quorum), seen(fewer))
    with pytest.raises(NotWitnessedError, match="no cosigned checkpoint"):
        require(ledger, rules(quorum), None)


def test_the_last_release_and_the_approval_of_the_plan_must_have_been_seen(ledger: MemoryLedger, seen: Cosign) -> None:
    before = seen(1)
    for harmless in ("rights_batch", "decision", "refusal"):
        append(ledger, harmless)
    append(ledger, "approval", OTHER)
    require(ledger, rules(1), before)
    with pytest.raises(NotWitnessedError, match="last release, or the approval"):
        require(ledger, rules(1), before, OTHER)
    append(ledger, "release", OTHER)
    with pytest.raises(NotWitnessedError, match="last release, or the approval"):
        require(ledger, rules(1), before)
    require(ledger, rules(1), seen(1))


def test_a_word_from_before_the_process_began_does_not_count(ledger: MemoryLedger, seen: Cosign) -> None:
    before = seen(1)
    for other in ("ab" * 16, ""):
        with pytest.raises(NotWitnessedError, match="since this process began"):
            require(ledger, rules(1), Cosigned(before.note, other))
    begin(ledger, "ab" * 16)
    with pytest.raises(NotWitnessedError, match="since this process began"):
        require(ledger, rules(1), Cosigned(before.note, "ab" * 16))
    require(ledger, rules(1), seen(1, start="ab" * 16))


def test_the_ledgers_own_key_is_nobodys_witness(ledger: MemoryLedger) -> None:
    note = cosign(ledger.notes[-1], "w1", OWN, NOW)
    with pytest.raises(NotWitnessedError, match="0 of its witnesses"):
        require(ledger, rules(1, [OWN]), Cosigned(note, START))


def test_a_note_of_others_or_none_at_all_says_nothing(ledger: MemoryLedger, seen: Cosign) -> None:
    stranger = MemoryLedger(origin="fedseg/unit/south", key=SigningKey.generate(), body={})
    elsewhere = sign_note(
        ledger.notes[-1].partition("\n\n")[0].replace("north", "south") + "\n", "fedseg/unit/north", OWN
    )
    for note in (stranger.notes[-1], "nonsense", sign_note("a\nb\n", "fedseg/unit/north", OWN), elsewhere):
        with pytest.raises(NotWitnessedError, match="what was cosigned"):
            require(ledger, rules(1), Cosigned(note, START))
    with pytest.raises(NotWitnessedError, match="not this ledger's"):
        require(ledger, rules(1), seen(1, note=stranger.notes[-1]))


def test_what_its_own_key_has_signed_and_it_does_not_hold_shows_an_older_copy(
    ledger: MemoryLedger, seen: Cosign
) -> None:
    newer = MemoryLedger(origin="fedseg/unit/north", key=OWN, body={})
    for _ in range(3):
        append(newer, "release")
    for note in newer.notes[1:]:
        with pytest.raises(RolledBackError, match="another history"):
            require(ledger, rules(1), seen(1, note=note))


def test_a_key_that_was_replaced_closes_nothing_whatever_it_signs(ledger: MemoryLedger, seen: Cosign) -> None:
    newer = SigningKey.generate()
    with ledger.transaction() as transaction:
        transaction.change_key(newer, {"version": 1, "changed_on": "2026-11-22"})
    forged = Checkpoint("fedseg/unit/north", 10**6, bytes(32))
    with pytest.raises(NotWitnessedError, match="not by the key in force"):
        require(ledger, rules(1), seen(1, note=sign_checkpoint(forged, OWN)))
    with pytest.raises(RolledBackError):
        require(ledger, rules(1), seen(1, note=sign_checkpoint(forged, newer)))


def policy_of(ledger: MemoryLedger, rules: WitnessRules | None) -> None:
    body = {} if rules is None else {"witnesses": rules.model_dump(mode="json")}
    with ledger.transaction() as transaction:
        transaction.append("policy", body)


def test_every_change_of_witnesses_is_for_those_before_to_cosign(ledger: MemoryLedger, seen: Cosign) -> None:
    def open_ones(*notes: str) -> list[int]:
        with ledger.transaction() as transaction:
            return [seq for seq, _ in open_handovers(transaction.before, notes)]

    one, other = rules(1, WITNESSES[:1]), rules(1, WITNESSES[1:2])
    for stated in (None, one, one, other, WitnessRules(quorum=0), one, None):
        policy_of(ledger, stated)
    changes = [6, 7, 9]  # from one to other, from other to none, from one to nothing; to begin with there was nobody
    assert open_ones() == changes
    first = cosign(ledger.notes[-1], "w1", WITNESSES[0], NOW)
    second = cosign(ledger.notes[-1], "w1", WITNESSES[1], NOW)
    early = cosign(ledger.notes[5], "w1", WITNESSES[0], NOW)
    assert open_ones("nonsense", early) == changes
    assert open_ones(first) == [7]
    assert open_ones(first, second) == []
    with pytest.raises(NotWitnessedError, match="others take their place"):
        require(ledger, one, Cosigned(first, START))
    require(ledger, one, Cosigned(first, START, (second,)))


def test_only_keys_that_cosign_are_witnesses() -> None:
    log = VerifierKey("fedseg/unit/south", SignatureType.ED25519, OWN.public).to_text()
    with pytest.raises(ValueError, match="must be a key that cosigns"):
        WitnessRules(quorum=1, keys={"south": log})


def reserved(*step_rhos: Fraction, answered: int = 0) -> Reservation:
    steps = {step: f"{step:064}" for step in range(answered)}
    spent = sum(step_rhos[:answered], Fraction(0))
    return Reservation(PLAN, "counting", step_rhos, "3" * 64, "4" * 64, "2026-01-01", answered=steps, rho_spent=spent)


@pytest.mark.parametrize(("witnesses", "kept"), [(rules(1), 2), (WitnessRules(quorum=0), 0), (None, 0)])
def test_where_a_ledger_is_witnessed_the_cap_keeps_one_release_in_reserve(
    witnesses: WitnessRules | None, kept: int
) -> None:
    caps = Caps("3" * 64, Fraction(10), Fraction(1, 10**6), {}, witnesses=witnesses)
    state = AccountState(caps=caps, reservations={PLAN: reserved(Fraction(1), Fraction(2))})
    assert state.residue() == kept
    assert (state.rho_left, AccountState().rho_left) == (Fraction(7 - kept), Fraction(0))
    state.require_room("counting", Fraction(7 - kept), step_rhos=[Fraction(1)])
    with pytest.raises(BudgetError):
        state.require_room("counting", Fraction(8 - kept), step_rhos=[Fraction(1)])
    if kept:
        assert state.residue([Fraction(3)]) == 3
        with pytest.raises(BudgetError):
            state.require_room("counting", Fraction(5), step_rhos=[Fraction(3)])


def test_a_checkpoint_that_only_states_its_size_is_no_proof(ledger: MemoryLedger) -> None:
    wrong = sign_checkpoint(Checkpoint("fedseg/unit/north", 1, bytes(32)), OWN)
    with pytest.raises(RolledBackError):
        require(ledger, rules(1), Cosigned(wrong, START))
