"""Limits that sums rely on, when an approval is finished, and the day that an entry says it was made on."""

from fractions import Fraction
from itertools import product

import pytest

from fedseg.ledger.entries import Entry
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.reading import read_ledger
from fedseg.privacy.entries import Ending, KeyChangeBody, RefusalBody, unit_body
from fedseg.privacy.sensitive import ENTRY_MAX, WIDTH_MAX, sum_of_rows
from fedseg.privacy.state import Reservation
from tests.forged_certificate import unit_with_rounds


def test_no_sum_of_what_may_be_counted_leaves_64_bits() -> None:
    assert (ENTRY_MAX, WIDTH_MAX) == (2**22, 2**15)
    assert WIDTH_MAX * ENTRY_MAX**2 < 2**63
    assert ENTRY_MAX * 2**41 == 2**63


def test_a_block_has_a_largest_width() -> None:
    def empty(width: int) -> int:
        return sum_of_rows([], cells=1, width=width, l2_sensitivity_squared=1).length

    assert empty(WIDTH_MAX) == WIDTH_MAX
    with pytest.raises(ValueError, match="1 to 32768 entries"):
        empty(WIDTH_MAX + 1)


@pytest.mark.parametrize("ending", [None, Ending.REVOKED])
@pytest.mark.parametrize(("late", "all_answered"), list(product((False, True), repeat=2)))
def test_an_approval_is_unfinished_until_it_ends_expires_or_has_answered_all(
    ending: Ending | None, *, late: bool, all_answered: bool
) -> None:
    one = Reservation(
        plan_sha256="a" * 64,
        purpose="fedseg:SegmentStatistics",
        step_rhos=(Fraction(1), Fraction(1)),
        policy_sha256="b" * 64,
        source_sha256="c" * 64,
        approved_on="2025-06-01",
        expires_on="2025-06-30",
        answered={0: "r0", 1: "r1"} if all_answered else {0: "r0"},
        ending=ending,
    )
    day = "2025-07-01" if late else "2025-06-30"
    assert one.is_unfinished(day) == (ending is None and not late and not all_answered)


def test_refusals_and_changes_of_a_key_say_their_day() -> None:
    refused = RefusalBody(
        plan_sha256="a" * 64, policy_sha256="b" * 64, refused_on="2025-06-01", reason_commitment="c" * 64
    )
    changed = KeyChangeBody(
        public_key=SigningKey.generate().public.to_text(), signature="d" * 128, changed_on="2025-06-02"
    )
    assert (refused.day, changed.day) == ("2025-06-01", "2025-06-02")


def test_what_an_entry_says_is_the_same_read_and_written() -> None:
    raw = read_ledger(unit_with_rounds().path / "ledger.db")
    kinds = set()
    for entry in raw.entries[1:]:
        said = Entry.from_bytes(entry.to_bytes())
        kinds.add(said.kind)
        without = {name: value for name, value in said.body.items() if name != "payload"}
        assert unit_body(said).facts() == without
    assert {"policy", "approval", "release"} <= kinds


def test_an_entry_says_nothing_beyond_its_fields() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RefusalBody(
            plan_sha256="a" * 64, policy_sha256="b" * 64, refused_on="2025-06-01", reason_commitment="c" * 64
        ).refused_on = "2025-06-03"
