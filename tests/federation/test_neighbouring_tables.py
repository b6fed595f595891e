"""What the server sees of two neighbouring tables differs in noised numbers alone, and there within the sensitivity."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from numpy.typing import NDArray

from fedseg.federation import wire
from fedseg.federation.loopback import LoopbackGrid
from fedseg.federation.server_app import run_plan
from fedseg.node.source import subject_key
from fedseg.node.sources.files import BLOCK_BYTES
from fedseg.policy.consent import ConsentEvent
from fedseg.policy.purposes import Purpose
from fedseg.privacy.noise import SimulatedNoise
from fedseg.server.contribution import Contribution, payload_bytes
from tests.small_federation import NOW, SmallFederation, ask, make_federation, names_of, some_request
from tests.wrapped_grid import WrappedGrid

World = Callable[[SmallFederation], None]
"""Changes the first unit's data after the plan was approved."""

WHO = "north-7"


def without_one(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if not line.startswith(WHO.encode() + b",")]


def writing(change: Callable[[list[bytes]], list[bytes]]) -> World:
    """A world whose customer file has other lines."""

    def write(federation: SmallFederation) -> None:
        path = federation.customers_file("north")
        header, *lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(header + b"".join(change(lines)))

    return write


def with_line(line: bytes, place: int = 30) -> World:
    """The customer's line is another one, somewhere among the others."""

    def change(lines: list[bytes]) -> list[bytes]:
        others = without_one(lines)
        return [*others[:place], line, *others[place:]]

    return writing(change)


def withdrawing(names: Iterable[str]) -> World:
    """These customers have taken their consent back."""

    def withdraw(federation: SmallFederation) -> None:
        home = federation.home("north")
        with home.register() as register:
            register.append_events(
                ConsentEvent(
                    subject=subject_key(name.encode(), home.subject_secret),
                    purpose=str(Purpose.SEGMENT_STATISTICS),
                    kind="withdrawn",
                    event_time=NOW - timedelta(days=1),
                    recorded_at=NOW - timedelta(days=1),
                )
                for name in names
            )

    return withdraw


def unchanged(federation: SmallFederation) -> None:
    """The table that was approved."""


WITHOUT_ONE = writing(without_one)

NEIGHBOURS: dict[str, tuple[World, World]] = {
    "a customer": (WITHOUT_ONE, unchanged),
    "the only customer": (writing(lambda _: []), writing(lambda lines: lines[:1])),
    "a single row of nothing": (writing(lambda _: []), writing(lambda _: [b"north-7,nan,nan\n"])),
    "at the minimum cohort": (writing(lambda lines: lines[:4]), writing(lambda lines: lines[:5])),
    "a consent": (withdrawing([WHO]), unchanged),
    "the last consent": (withdrawing(names_of("north", 60)), withdrawing(names_of("north", 59))),
    "missing values": (WITHOUT_ONE, with_line(b"north-7,,\n")),
    "infinities": (WITHOUT_ONE, with_line(b"north-7,inf,-inf\n")),
    "numbers beyond any float": (WITHOUT_ONE, with_line(b"north-7,1e9999,-1e9999\n")),
    "text": (WITHOUT_ONE, with_line(b"north-7,a lot,too much\n")),
    "a row three times": (WITHOUT_ONE, with_line(b"north-7,1,2\n" * 3)),
    "a hundred rows": (WITHOUT_ONE, with_line(b"".join(b"north-7,%d,%d\n" % (n, n) for n in range(100)))),
    "a row without a name": (WITHOUT_ONE, with_line(b",1,2\n")),
    "too few cells": (WITHOUT_ONE, with_line(b"north-7\n")),
    "too many cells": (WITHOUT_ONE, with_line(b"north-7,1,2,3,4\n")),
    "too many cells that are no text": (WITHOUT_ONE, with_line(b"north-7,\xff,2,3\n")),
    "bytes that are no text": (WITHOUT_ONE, with_line(b"north-7,\xff\xfe,\x00\n")),
    "an unbalanced quote": (WITHOUT_ONE, with_line(b'north-7,"1,2\n')),
    "an unbalanced quote at the end": (WITHOUT_ONE, with_line(b'north-7,1,2"', place=60)),
    "a carriage return in quotes": (WITHOUT_ONE, with_line(b'north-7,"1\r",2\n')),
    "a cell longer than a block": (WITHOUT_ONE, with_line(b"north-7,1," + b"2" * (2 * BLOCK_BYTES + 1) + b"\n")),
    "an empty line": (WITHOUT_ONE, with_line(b"\n")),
}


@pytest.fixture(params=["segments", "bounds"])
def federation(
    request: pytest.FixtureRequest,
    approved_once: SmallFederation,
    bounds_approved_once: SmallFederation,
    tmp_path: Path,
) -> SmallFederation:
    """Two units of 60 and 50 customers who have approved a plan, for segments or for bounds; for this test alone."""
    approved = {"segments": approved_once, "bounds": bounds_approved_once}[request.param]
    return approved.copied_to(tmp_path / "federation")


class Recording(WrappedGrid):
    """Another grid, and what an observer of the wire could write down about it."""

    def __init__(self, inner: LoopbackGrid) -> None:
        super().__init__(inner)
        self.sent: list[tuple[Any, ...]] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        self.sent += [("request", *self._shape(message)) for message in messages]
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = list(self.inner.pull_messages(message_ids))
        self.sent += [("reply", *self._shape(message)) for message in replies]
        return replies

    @staticmethod
    def _shape(message: Message) -> tuple[Any, ...]:
        data = message.content[wire.RECORD][wire.FIELD]
        assert isinstance(data, bytes)
        metadata = message.metadata
        return metadata.message_type, metadata.group_id, metadata.dst_node_id, message.has_error(), data[:1], len(data)


def transcript(federation: SmallFederation) -> list[list[bytes]]:
    """The replies of both units in every step, to requests that are the same in every world, with the same noise."""
    plan, grid = federation.plan, federation.grid(SimulatedNoise(5))
    return [ask(grid, plan, some_request(plan, step)) for step in range(plan.rounds)]


def values_of(reply: bytes, federation: SmallFederation) -> NDArray[np.int64]:
    found = wire.decode(reply, federation.plan)
    assert isinstance(found, Contribution)
    return found.values


@pytest.mark.parametrize(("world", "neighbour"), NEIGHBOURS.values(), ids=list(NEIGHBOURS))
def test_a_neighbouring_table_changes_nothing_but_noised_numbers_within_the_sensitivity(
    federation: SmallFederation, tmp_path: Path, world: World, neighbour: World
) -> None:
    one, other = federation, federation.copied_to(tmp_path / "neighbour")
    world(one)
    neighbour(other)
    for step, (replies, others) in enumerate(zip(transcript(one), transcript(other), strict=True)):
        terms = federation.plan.terms[step]
        assert len(replies) == len(others) == 2
        assert {len(reply) for reply in replies + others} == {1 + payload_bytes(terms)}
        moved = [values_of(a, one) - values_of(b, other) for a, b in zip(replies, others, strict=True)]
        assert sum(int(difference) ** 2 for difference in moved[0].flat) <= terms.lattice.l2_sensitivity_squared
        assert not moved[1].any()


def test_the_noise_taken_away_a_table_of_nobody_is_zeros(federation: SmallFederation, tmp_path: Path) -> None:
    # Shows that the worlds above really have the same noise, so that their differences are those of the statistics.
    empty, emptier = federation, federation.copied_to(tmp_path / "emptier")
    writing(lambda _: [])(empty)
    withdrawing(names_of("north", 60))(emptier)
    assert [[values_of(reply, empty).tolist() for reply in replies] for replies in transcript(empty)] == [
        [values_of(reply, emptier).tolist() for reply in replies] for replies in transcript(emptier)
    ]


def test_two_worlds_that_differ_in_a_customer_really_differ(federation: SmallFederation, tmp_path: Path) -> None:
    one, other = federation, federation.copied_to(tmp_path / "neighbour")
    WITHOUT_ONE(other)
    assert transcript(one)[0][0] != transcript(other)[0][0]


@pytest.mark.parametrize(
    "world",
    [
        writing(lambda _: []),
        writing(lambda _: [b"north-7,nan,nan\n"]),
        writing(lambda lines: lines[:4]),
        with_line(b'north-7,"1,2\n'),
        withdrawing(names_of("north", 60)),
    ],
    ids=["nobody", "a single row of nothing", "below the minimum cohort", "a malformed line", "no consent"],
)
def test_a_whole_run_looks_the_same_from_outside_whoever_is_in_the_table(
    federation: SmallFederation, tmp_path: Path, world: World
) -> None:
    plain, changed = Recording(federation.grid()), federation.copied_to(tmp_path / "changed")
    world(changed)
    other = Recording(changed.grid())
    run_plan(plain, federation.server, federation.document, roster=federation.roster)
    run_plan(other, changed.server, changed.document, roster=changed.roster)
    assert len(plain.sent) == 2 * 2 * federation.plan.rounds
    assert other.sent == plain.sent


def test_a_unit_at_its_minimum_cohort_approves_and_answers_when_one_leaves(tmp_path: Path) -> None:
    federation = make_federation(tmp_path / "smallest", {"north": 5, "south": 5}).approve_all()
    writing(lambda lines: lines[1:])(federation)
    assert all(reply[:1] == b"R" for replies in transcript(federation) for reply in replies)
