"""A run is what the server's ledger remembers: any reply at any time, any crash, the same segments."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedseg.clustering.request import RoundRequest, request_sha256
from fedseg.errors import ContributionError, LedgerUnreadableError, RoundError
from fedseg.ledger.canonical import Json
from fedseg.ledger.entries import Entry
from fedseg.ledger.journal import MemoryLedger
from fedseg.ledger.keys import SigningKey
from fedseg.plan import Plan
from fedseg.privacy.release import HEADER, SIGNATURE_BYTES, SIGNATURE_CONTEXT, release_id
from fedseg.server.aggregate import aggregate
from fedseg.server.contribution import Contribution, parse_contribution
from fedseg.server.rounds import (
    RunState,
    accept,
    close_round,
    finished,
    persist_contribution,
    persist_round,
    replay_run,
    start_run,
)
from tests.small_federation import SmallFederation, some_request

Replies = Callable[[RunState], list[Contribution]]


def server_journal() -> MemoryLedger:
    return MemoryLedger(origin="fedseg/server", key=SigningKey.generate(), body={"role": "server"})


def replayed(plan: Plan, journal: MemoryLedger) -> RunState:
    names = [f"contribution:{entry.body['release_id']}" for entry in journal.entries() if entry.kind == "contribution"]
    payloads = {name: data for name in names if (data := journal.payload(name)) is not None}
    return replay_run(plan, journal.entries(), payloads)


def standing(run: RunState) -> list[object]:
    """All that a run's next rounds and its result follow from."""
    state, digest = run.state, run.plan.digest
    model = () if state.model is None else (state.model.cloud.points, state.model.cloud.weights, state.model.cell)
    arrays = (*model, *(() if state.centers is None else (state.centers,)))
    return [
        (state.step, state.customers, run.units, run.noise),
        None if run.request is None else request_sha256(digest, run.request),
        None if state.outcome is None else request_sha256(digest, state.outcome.request),
        {name: got.payload for name, got in run.received.items()},
        [array.tolist() for array in arrays],
    ]


def same(one: RunState, other: RunState) -> bool:
    return standing(one) == standing(other)


def segments_of(run: RunState) -> bytes:
    return finished(run).canonical()


def run_to_the_end(plan: Plan, answers: Replies, journal: MemoryLedger) -> RunState:
    run = start_run(plan)
    while run.request is not None:
        for contribution in answers(run):
            run = accept(run, contribution)
            persist_contribution(journal, contribution)
        persist_round(journal, run)
        run = close_round(run)
    return run


def test_a_replayed_ledger_gives_the_run_that_was(federation: SmallFederation, answers: Replies) -> None:
    journal = server_journal()
    run = run_to_the_end(federation.plan, answers, journal)
    assert run.units == {"north", "south", "west"}
    assert same(replayed(federation.plan, journal), run)
    assert segments_of(replayed(federation.plan, journal)) == segments_of(run)


def test_a_run_resumed_after_any_entry_ends_in_the_same_segments(federation: SmallFederation, answers: Replies) -> None:
    plan, journal = federation.plan, server_journal()
    expected = segments_of(run_to_the_end(plan, answers, journal))
    entries = journal.entries()
    payloads = {
        f"contribution:{entry.body['release_id']}": journal.payload(f"contribution:{entry.body['release_id']}") or b""
        for entry in entries
        if entry.kind == "contribution"
    }
    for stop in range(len(entries) + 1):
        run = replay_run(plan, entries[:stop], payloads)
        while run.request is not None:
            for contribution in answers(run):  # the units repeat what they have stored
                run = accept(run, contribution)
            run = close_round(run)
        assert segments_of(run) == expected


def test_the_order_of_replies_makes_no_difference(federation: SmallFederation, answers: Replies) -> None:
    run = start_run(federation.plan)
    forwards, backwards = run, run
    for contribution in answers(run):
        forwards = accept(forwards, contribution)
    for contribution in reversed(answers(run)):
        backwards = accept(backwards, contribution)
    assert same(close_round(forwards), close_round(backwards))


def test_a_round_closes_with_the_quorum_and_not_below(federation: SmallFederation, answers: Replies) -> None:
    run = start_run(federation.plan)
    first, second, _ = answers(run)
    with pytest.raises(RoundError, match=r"1 of 3 units answered step 0: the plan's quorum is 2"):
        close_round(accept(run, first))
    closed = close_round(accept(accept(run, first), second))
    assert closed.units == {"north", "south"}
    assert closed.state.step == 1


def test_a_reply_that_comes_again_changes_nothing(federation: SmallFederation, answers: Replies) -> None:
    run, journal = start_run(federation.plan), server_journal()
    first = answers(run)[0]
    once = accept(run, first)
    persist_contribution(journal, first)
    entries = journal.entries()
    persist_contribution(journal, first)
    assert same(accept(once, first), once)
    assert journal.entries() == entries


def test_a_round_is_logged_once(federation: SmallFederation, answers: Replies) -> None:
    run, journal = start_run(federation.plan), server_journal()
    for contribution in answers(run):
        run = accept(run, contribution)
    persist_round(journal, run)
    persist_round(journal, run)
    assert [entry.kind for entry in journal.entries()] == ["genesis", "round"]
    assert journal.entries()[1].body["units"] == ["north", "south", "west"]


def test_a_reply_to_a_closed_round_is_refused(federation: SmallFederation, answers: Replies) -> None:
    run = start_run(federation.plan)
    late, *others = answers(run)
    for contribution in others:
        run = accept(run, contribution)
    with pytest.raises(ContributionError, match="answers another request"):
        accept(close_round(run), late)


def test_after_the_last_round_nothing_is_accepted(federation: SmallFederation, answers: Replies) -> None:
    first = answers(start_run(federation.plan))[0]
    ended = run_to_the_end(federation.plan, answers, server_journal())
    with pytest.raises(ContributionError, match="answers another request"):
        accept(ended, first)


def lying(
    federation: SmallFederation,
    contribution: Contribution,
    *,
    signer: str | None = None,
    values: bytes | None = None,
    **fields: Any,
) -> bytes:
    """A unit's reply with header fields or values changed, signed anew by the unit or another."""
    names = ("magic", "release_id", "plan", "request", "index", "step", "cells", "width", "source")
    body = contribution.payload[:-SIGNATURE_BYTES]
    header = dict(zip(names, HEADER.unpack_from(body), strict=True)) | fields
    body = HEADER.pack(*header.values()) + (body[HEADER.size :] if values is None else values)
    key = federation.home(signer or contribution.unit).key
    return body + key.sign(SIGNATURE_CONTEXT + hashlib.sha256(body).digest())


def with_id(federation: SmallFederation, unit: str, index: int, step: int, request: str) -> dict[str, Any]:
    made = release_id(federation.plan.digest, unit, step, request)
    return {"index": index, "step": step, "request": bytes.fromhex(request), "release_id": bytes.fromhex(made)}


def another_magic(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, magic=b"fedseg-release-2")


def another_plan(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, plan=bytes(32))


def a_unit_beyond_the_last(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, index=3)


def a_step_beyond_the_last(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, step=3)


def a_noise_source_there_is_not(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, source=2)


def more_cells(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, cells=4)


def another_shape_of_the_same_length(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, cells=2, width=2)


def a_value_too_few(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, values=bytes(8 * 3))


def a_value_too_many(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, values=bytes(8 * 5))


def a_value_no_honest_unit_has(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, values=(2**52 + 1).to_bytes(8, "little") + bytes(24))


def the_smallest_integer(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, values=bytes(24) + (-(2**63)).to_bytes(8, "little", signed=True))


def another_units_name(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, **with_id(federation, "south", 1, 0, one.request_sha256))


def another_units_key(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, signer="south")


def an_id_that_does_not_follow(federation: SmallFederation, one: Contribution) -> bytes:
    return lying(federation, one, release_id=bytes(32))


def a_flipped_value(federation: SmallFederation, one: Contribution) -> bytes:
    changed = bytearray(one.payload)
    changed[HEADER.size] ^= 1
    return bytes(changed)


LIES = [
    another_magic,
    another_plan,
    a_unit_beyond_the_last,
    a_step_beyond_the_last,
    a_noise_source_there_is_not,
    more_cells,
    another_shape_of_the_same_length,
    a_value_too_few,
    a_value_too_many,
    a_value_no_honest_unit_has,
    the_smallest_integer,
    another_units_name,
    another_units_key,
    an_id_that_does_not_follow,
    a_flipped_value,
]


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_units_reply_is_no_contribution(
    federation: SmallFederation, answers: Replies, lie: Callable[[SmallFederation, Contribution], bytes]
) -> None:
    one = answers(start_run(federation.plan))[0]
    assert parse_contribution(lying(federation, one), federation.plan).payload == one.payload
    with pytest.raises(ContributionError):
        parse_contribution(lie(federation, one), federation.plan)


def test_a_units_reply_to_another_round_or_request_is_not_accepted(
    federation: SmallFederation, answers: Replies
) -> None:
    run = start_run(federation.plan)
    one = answers(run)[0]
    other = request_sha256(federation.plan.digest, some_request(federation.plan, 0, seed=8))
    later = federation.plan.terms[1]
    longer: dict[str, Any] = {"values": bytes(8 * later.length), "cells": later.cells, "width": later.width}
    for step, request, shape in ((1, one.request_sha256, longer), (0, other, {})):
        changes = with_id(federation, one.unit, 0, step, request) | shape
        signed = lying(federation, one, **changes)
        with pytest.raises(ContributionError, match="answers another request"):
            accept(run, parse_contribution(signed, federation.plan))


def test_a_unit_that_answers_twice_differently_is_refused_the_second_time(
    federation: SmallFederation, answers: Replies
) -> None:
    run = start_run(federation.plan)
    one = answers(run)[0]
    once = accept(run, one)
    other = parse_contribution(lying(federation, one, values=bytes(8 * 4)), federation.plan)
    with pytest.raises(ContributionError, match="twice, differently"):
        accept(once, other)
    assert once.received["north"].payload == one.payload


def test_contributions_are_added_up_exactly_and_each_unit_once(federation: SmallFederation, answers: Replies) -> None:
    contributions = answers(start_run(federation.plan))
    terms = federation.plan.terms[0]
    total = aggregate(contributions, terms)
    assert total.noises == 3
    assert total.sums.tolist() == (sum(one.values for one in contributions)).tolist()  # type: ignore[union-attr] # an array
    assert not total.sums.flags.writeable
    for wrong in ([*contributions, contributions[0]], [replace(contributions[0], step=1)]):
        with pytest.raises(ValueError, match="one contribution per unit"):
            aggregate(wrong, terms)
    assert aggregate([], terms).sums.tolist() == np.zeros((terms.cells, terms.width)).tolist()


def test_values_as_large_as_a_reply_may_hold_add_up_without_wrapping(
    federation: SmallFederation, answers: Replies
) -> None:
    contributions = answers(start_run(federation.plan))
    largest = [replace(one, values=np.full(one.values.shape, 2**52, np.int64)) for one in contributions]
    assert (aggregate(largest, federation.plan.terms[0]).sums == 3 * 2**52).all()
    assert 1000 * 2**52 < 2**63  # the most units a plan may have


# What contradicts the protocol is not replayed


def entries_of(federation: SmallFederation, answers: Replies) -> tuple[list[Entry], dict[str, bytes]]:
    """A server's entries up to the first closed round, and their payloads."""
    run, journal = start_run(federation.plan), server_journal()
    for contribution in answers(run):
        run = accept(run, contribution)
        persist_contribution(journal, contribution)
    persist_round(journal, run)
    payloads = {f"contribution:{one.release_id}": one.payload for one in run.received.values()}
    return journal.entries(), payloads


def round_with(entry: Entry, **changes: Json) -> Entry:
    return Entry(entry.seq, entry.kind, {**entry.body, **changes})


BROKEN: dict[str, dict[str, Json]] = {
    "a round of a unit that did not answer": {"units": ["north", "east"]},
    "a round below the quorum": {"units": ["north"]},
    "a round of nobody": {"units": []},
    "a round of another step": {"step": 1},
    "units that are text": {"units": "north"},
}


@pytest.mark.parametrize("changes", BROKEN.values(), ids=list(BROKEN))
def test_a_round_that_could_not_have_been_closed_is_not_replayed(
    federation: SmallFederation, answers: Replies, changes: dict[str, Json]
) -> None:
    entries, payloads = entries_of(federation, answers)
    with pytest.raises(LedgerUnreadableError, match=f"entry {entries[-1].seq} of the server's ledger"):
        replay_run(federation.plan, [*entries[:-1], round_with(entries[-1], **changes)], payloads)


def test_a_contribution_whose_bytes_are_gone_or_no_release_is_not_replayed(
    federation: SmallFederation, answers: Replies
) -> None:
    entries, payloads = entries_of(federation, answers)
    for broken in ({}, dict.fromkeys(payloads, b"nonsense")):
        with pytest.raises(LedgerUnreadableError, match="does not fit the plan"):
            replay_run(federation.plan, entries, broken)


def test_a_round_of_fewer_units_is_replayed_as_logged(federation: SmallFederation, answers: Replies) -> None:
    entries, payloads = entries_of(federation, answers)
    fewer = [*entries[:-1], round_with(entries[-1], units=["north", "west"])]
    assert replay_run(federation.plan, fewer, payloads).units == {"north", "west"}


def test_another_plans_entries_are_passed_over(federation: SmallFederation, answers: Replies) -> None:
    entries, payloads = entries_of(federation, answers)
    strange = [round_with(entry, plan_sha256="00" * 32) for entry in entries[1:]]
    assert same(
        replay_run(federation.plan, [entries[0], *strange, *entries[1:]], payloads),
        replay_run(federation.plan, entries, payloads),
    )


def test_a_request_is_the_same_for_every_unit_and_every_time(federation: SmallFederation) -> None:
    one, other = start_run(federation.plan).request, start_run(federation.plan).request
    assert isinstance(one, RoundRequest)
    assert isinstance(other, RoundRequest)
    assert request_sha256(federation.plan.digest, one) == request_sha256(federation.plan.digest, other)


def test_a_run_is_published_when_all_rounds_are_closed_and_says_whose_noise_is_in_it(
    federation: SmallFederation, answers: Replies
) -> None:
    plan, run = federation.plan, start_run(federation.plan)
    with pytest.raises(ValueError, match="still open"):
        finished(run)
    ended = run_to_the_end(plan, answers, server_journal())
    assert ended.noise == "simulated"
    assert finished(ended).simulated
    assert finished(ended).units == ("north", "south", "west")
    assert not finished(replace(ended, noise="system")).simulated


def test_one_unit_with_simulated_noise_is_enough_to_make_a_run_simulated(
    federation: SmallFederation, answers: Replies
) -> None:
    run = start_run(federation.plan)
    assert run.noise == "system"
    honest = [parse_contribution(lying(federation, one, source=0), federation.plan) for one in answers(run)]
    for contribution in honest:
        run = accept(run, contribution)
    assert close_round(run).noise == "system"
    mixed = replace(run, received={**run.received, "west": answers(run)[2]})
    assert close_round(mixed).noise == "simulated"
