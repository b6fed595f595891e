"""The one door: charge, log leaf and noised bytes together or not at all."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.errors import BudgetError, ClockError, FedsegError, NotApprovedError, StepAnsweredError
from fedseg.ledger.journal import MemoryLedger
from fedseg.privacy.mechanism import DiscreteGaussian, recompute
from fedseg.privacy.noise import Noise, NoiseSource, SimulatedNoise, SystemNoise
from fedseg.privacy.release import (
    _TOKEN,
    HEADER,
    MAGIC,
    NEIGHBOURING_RELATION,
    NOISE_SOURCES,
    SIGNATURE_BYTES,
    SIGNATURE_CONTEXT,
    NoiseShare,
    Release,
    recall,
    release,
    release_id,
)

if TYPE_CHECKING:
    from tests.release.conftest import Unit


def values_in(payload: bytes) -> list[int]:
    found: list[int] = np.frombuffer(payload[HEADER.size : -SIGNATURE_BYTES], "<i8").tolist()
    return found


def test_a_release_is_the_statistic_with_the_noise_that_was_drawn(unit: "Unit") -> None:
    released = unit.release(seed=9)
    expected = (unit.statistic()._values + unit.noise(seed=9).take()).tolist()
    assert values_in(released.payload) == expected


def test_its_header_says_what_it_answers_and_its_signature_covers_every_byte(unit: "Unit") -> None:
    released = unit.release(1)
    ticket = unit.ticket(1)
    magic, id_, plan, request, index, step, cells, width, source = HEADER.unpack_from(released.payload)
    assert (magic, id_.hex(), plan.hex(), request.hex()) == (
        MAGIC,
        released.release_id,
        ticket.plan_sha256,
        ticket.request_sha256,
    )
    assert (index, step, cells, width) == (0, 1, unit.cells, unit.width)
    assert NOISE_SOURCES[source] == SimulatedNoise.label
    body, signature = released.payload[:-SIGNATURE_BYTES], released.payload[-SIGNATURE_BYTES:]
    assert unit.key.public.verify(signature, SIGNATURE_CONTEXT + hashlib.sha256(body).digest())


@pytest.mark.parametrize(("source", "number"), [(SystemNoise(), 0), (SimulatedNoise(1), 1)])
def test_its_bytes_stand_where_the_reference_says(unit: "Unit", source: NoiseSource, number: int) -> None:
    noise = Noise.draw(DiscreteGaussian(unit.sigma), unit.cells * unit.width, source)
    released = release(unit.statistic(), noise, unit.account, replace(unit.ticket(1), unit_index=7), unit.key)
    data, size = released.payload, 132 + 8 * unit.cells * unit.width
    assert len(data) == size + 64
    assert data[:16] == b"fedseg-release-1"
    assert data[16:48].hex() == released.release_id
    assert data[48:80].hex() == unit.plan
    assert data[80:112].hex() == unit.ticket(1).request_sha256
    assert [int.from_bytes(data[at : at + 4], "big") for at in range(112, 132, 4)] == [
        7,
        1,
        unit.cells,
        unit.width,
        number,
    ]
    assert unit.key.public.verify(data[size:], b"fedseg/release/v1\n" + hashlib.sha256(data[:size]).digest())


def test_charge_leaf_and_bytes_stand_in_one_entry(unit: "Unit") -> None:
    released = unit.release()
    entry = unit.journal.entries()[-1]
    assert entry.kind == "release"
    assert unit.journal.payload(f"release:{released.release_id}") == released.payload
    assert entry.payload is not None
    assert entry.payload.sha256 == hashlib.sha256(released.payload).hexdigest()
    facts: dict[str, Any] = dict(entry.body)
    again = recompute(facts["charge"]["formula"], facts["mechanism"])
    assert facts["charge"]["rho"] == f"{again.rho.numerator}/{again.rho.denominator}"
    assert again.rho == unit.step_rho
    assert facts["neighbouring_relation"] == NEIGHBOURING_RELATION
    assert facts["noise_source"] == "simulated"
    assert facts["policy_sha256"] == "c3" * 32
    assert facts["release_id"] == released.release_id


def test_the_same_request_gets_the_same_bytes_and_no_second_charge(unit: "Unit") -> None:
    first = unit.release(seed=1)
    entries, spent = unit.journal.entries(), unit.account.state().rho_spent
    again = unit.release(seed=2)
    assert again == first
    assert recall(unit.account, first.release_id) == first
    assert unit.journal.entries() == entries
    assert unit.account.state().rho_spent == spent


def test_nothing_is_recalled_that_was_not_released(unit: "Unit") -> None:
    assert recall(unit.account, unit.ticket().release_id) is None


def test_a_step_answered_once_refuses_another_request(unit: "Unit") -> None:
    unit.release(0)
    entries = unit.journal.entries()
    with pytest.raises(StepAnsweredError):
        unit.release(0, request="ff" * 32)
    assert unit.journal.entries() == entries


def test_two_plans_are_charged_each_on_its_own_reservation(unit: "Unit") -> None:
    unit.approve(unit.other_plan, (unit.step_rho,))
    first, second = unit.release(), unit.release(plan=unit.other_plan, seed=2)
    assert first.release_id != second.release_id
    assert unit.account.state().rho_spent == 2 * unit.step_rho
    assert unit.account.state().rho_reserved == 4 * unit.step_rho


@pytest.mark.parametrize(
    ("step", "plan", "error"),
    [(3, "a1" * 32, NotApprovedError), (0, "b2" * 32, NotApprovedError)],
    ids=["step not in the plan", "plan not approved"],
)
def test_what_was_not_approved_is_not_released(unit: "Unit", step: int, plan: str, error: type[FedsegError]) -> None:
    entries = unit.journal.entries()
    with pytest.raises(error):
        unit.release(step, plan=plan)
    assert unit.journal.entries() == entries


def test_weaker_noise_than_the_step_was_priced_for_is_refused(unit: "Unit") -> None:
    entries = unit.journal.entries()
    with pytest.raises(BudgetError, match="more than was reserved"):
        release(unit.statistic(), unit.noise(sigma=unit.sigma - 1), unit.account, unit.ticket(), unit.key)
    assert unit.journal.entries() == entries


def test_noise_is_used_once(unit: "Unit") -> None:
    noise = unit.noise()
    release(unit.statistic(), noise, unit.account, unit.ticket(0), unit.key)
    entries = unit.journal.entries()
    with pytest.raises(RuntimeError, match="used once"):
        release(unit.statistic(), noise, unit.account, unit.ticket(1), unit.key)
    assert unit.journal.entries() == entries


def test_a_release_in_the_middle_of_another_leaves_nothing(unit: "Unit") -> None:
    entries = unit.journal.entries()
    with unit.journal.transaction(), pytest.raises(RuntimeError, match="inside a transaction"):
        unit.release()
    assert unit.journal.entries() == entries


def too_much_noise(unit: "Unit") -> None:
    release(unit.statistic(), unit.noise(count=7), unit.account, unit.ticket(), unit.key)


def too_little_noise(unit: "Unit") -> None:
    release(unit.statistic(), unit.noise(count=5), unit.account, unit.ticket(), unit.key)


def too_long_a_ticket(unit: "Unit") -> None:
    release(unit.statistic(), unit.noise(), unit.account, replace(unit.ticket(), cells=3), unit.key)


def a_longer_ticket_and_noise(unit: "Unit") -> None:
    release(unit.statistic(), unit.noise(count=9), unit.account, replace(unit.ticket(), cells=3), unit.key)


@pytest.mark.parametrize("attempt", [too_much_noise, too_little_noise, too_long_a_ticket, a_longer_ticket_and_noise])
def test_noise_statistic_and_ticket_of_unlike_lengths_release_nothing(
    unit: "Unit", attempt: Callable[["Unit"], None]
) -> None:
    entries = unit.journal.entries()
    with pytest.raises(ValueError, match="same length"):
        attempt(unit)
    assert unit.journal.entries() == entries


class FullDisk(MemoryLedger):
    """A journal whose disk is full: every commit fails."""

    full = False

    def transaction(self) -> Any:
        if self.full:
            raise OSError("no space left on device")
        return super().transaction()


def test_a_commit_that_fails_charges_nothing_and_returns_nothing(unit: "Unit", new_unit: "type[Unit]") -> None:
    journal = FullDisk(origin="fedseg/unit/north", key=unit.key, body={})
    other = new_unit(journal)
    other.adopt(other.caps())
    other.approve()
    journal.full = True
    with pytest.raises(OSError, match="no space"):
        other.release()
    journal.full = False
    assert other.account.state().rho_spent == 0
    assert recall(other.account, other.ticket().release_id) is None


TEXT = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=20)


@given(st.tuples(TEXT, TEXT, st.integers(0, 99), TEXT), st.tuples(TEXT, TEXT, st.integers(0, 99), TEXT))
def test_releases_share_an_id_only_if_plan_unit_step_and_request_are_the_same(
    one: tuple[str, str, int, str], other: tuple[str, str, int, str]
) -> None:
    assert (release_id(*one) == release_id(*other)) == (one == other)


def test_nothing_is_released_while_the_clock_is_behind_the_ledger(unit: "Unit") -> None:
    entries = unit.journal.entries()
    ticket = replace(unit.ticket(), day="2025-05-31")
    with pytest.raises(ClockError):
        release(unit.statistic(), unit.noise(), unit.account, ticket, unit.key)
    assert unit.journal.entries() == entries


def test_a_release_id_is_the_hash_of_what_it_answers_in_canonical_json() -> None:
    said = b'{"plan":"%b","request":"%b","step":2,"unit":"north"}' % (b"a1" * 32, b"d4" * 32)
    assert release_id("a1" * 32, "north", 2, "d4" * 32) == hashlib.sha256(said).hexdigest()


def test_every_release_of_a_step_has_the_same_length_whatever_is_in_it(unit: "Unit") -> None:
    unit.approve(unit.other_plan)
    zeros, ticket = unit.statistic((0,) * 6), unit.ticket(plan=unit.other_plan)
    empty = release(zeros, unit.noise(2), unit.account, ticket, unit.key)
    assert len(empty.payload) == len(unit.release().payload) == HEADER.size + 8 * 6 + SIGNATURE_BYTES


def test_the_noise_alone_separates_a_release_from_its_statistic(unit: "Unit") -> None:
    released = unit.release(seed=4)
    drawn = Noise.draw(DiscreteGaussian(unit.sigma), 6, SimulatedNoise(4)).take()
    assert [value - int(z) for value, z in zip(values_in(released.payload), drawn, strict=True)] == [
        1000,
        600,
        -800,
        0,
        0,
        0,
    ]


def test_neither_releases_nor_noise_shares_are_made_elsewhere() -> None:
    with pytest.raises(TypeError, match=r"minted by release\(\) only"):
        Release("a1" * 32, b"", object())  # type: ignore[arg-type] # a forgery
    with pytest.raises(TypeError, match="minted by the masking protocol only"):
        NoiseShare(np.zeros(1, np.int64), object())  # type: ignore[arg-type] # a forgery


def test_a_noise_share_shows_nothing_and_cannot_be_copied() -> None:
    share = NoiseShare(np.ones(3, np.int64), _TOKEN)
    assert repr(share) == "NoiseShare()"
    with pytest.raises(TypeError, match="masked only"):
        share.__reduce__()


def test_a_release_cannot_be_copied(unit: "Unit") -> None:
    with pytest.raises(TypeError, match="cannot be pickled or copied"):
        unit.release().__reduce__()


def test_the_price_of_a_step_is_what_the_log_adds_up_to(unit: "Unit") -> None:
    for step in range(3):
        unit.release(step, seed=step)
        body: dict[str, Any] = dict(unit.journal.entries()[-1].body)
        assert Fraction(body["rho_spent_after"]) == (step + 1) * unit.step_rho
