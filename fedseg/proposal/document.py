"""The proposed plan as a commented TOML file, and what in such a file is still to be decided."""

import enum
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import tomli_w

from fedseg.errors import DataError
from fedseg.policy.purposes import Purpose
from fedseg.proposal.features import (
    TO_DECIDE,
    LeftOut,
    ProposedFeature,
    propose_feature,
    propose_search,
    with_bounds,
)
from fedseg.proposal.schema import SchemaColumn
from fedseg.segments.segmentation import LearnedBounds, SignedSegmentation

HEAD = f"""\
# A plan proposed by `fedseg plan init` from names and types of columns. No value was read.
#
# Wherever "{TO_DECIDE}" stands, people must decide; until then `fedseg plan check` refuses the plan. Everything else is
# a proposal: bounds are wide on purpose. Decide from what is public or known of the business, never by looking at
# customers: a bound taken from the largest customer tells everybody about the largest customer.
"""


HEAD_OF_SEARCH = f"""\
# A plan for bounds, proposed by `fedseg plan init --learn-bounds` from names and types of columns. No value was read.
#
# It finds no segments. It asks once, with noise, how the customers' numbers are spread over a very wide public range,
# and publishes bounds that hold nearly all of them. It costs budget of its own, from the same cap as every other plan.
#
# Wherever "{TO_DECIDE}" stands, people must decide; until then `fedseg plan check` refuses the plan.
"""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan to be edited."""

    text: str
    """TOML."""
    features: tuple[str, ...]
    """Names of the proposed features."""
    left_out: Mapping[str, str]
    """Why other columns are not among them."""
    to_decide: tuple[str, ...]
    """Places of what people must decide."""


def propose(
    columns: Sequence[SchemaColumn],
    *,
    k: int,
    units: int,
    customers: int | None,
    learned: SignedSegmentation | None = None,
) -> Proposal:
    """A plan for a table with these columns.

    Args:
        columns: Names and types.
        k: Number of segments.
        units: Business units that take part.
        customers: Public guess of how many customers all units have together; to be decided if None.
        learned: The published result of a plan for bounds.

    Raises:
        DataError: If no column can be a feature, or the result is of other columns or holds no bounds.
    """
    found = [propose_feature(column) for column in columns]
    features = _named_apart([one for one in found if isinstance(one, ProposedFeature)])
    head = HEAD
    if learned is not None:
        features = _with_bounds(features, learned.segmentation.bounds)
        head += _source(learned)
    return _document(head, _terms(Aim.SEGMENTS, k, units, customers), features, found, units)


def propose_bounds(columns: Sequence[SchemaColumn], *, units: int, customers: int | None) -> Proposal:
    """A plan that finds bounds for the numbers of a table with these columns; arguments as of `propose`.

    Raises:
        DataError: If there is no number whose bounds are unknown.
    """
    found = [propose_search(column) for column in columns]
    features = _named_apart([one for one in found if isinstance(one, ProposedFeature)])
    return _document(HEAD_OF_SEARCH, _terms(Aim.BOUNDS, 1, units, customers), features, found, units)


def _document(
    head: str,
    terms: Iterator[str],
    features: Sequence[ProposedFeature],
    found: Sequence[ProposedFeature | LeftOut],
    units: int,
) -> Proposal:
    left_out = [one for one in found if isinstance(one, LeftOut)]
    if not features:
        raise DataError(
            "no column of the table can be a feature",
            why="; ".join(f"{one.column!r}: {one.reason}" for one in left_out[:3]),
            fix="add columns that describe customers: fedseg plan init TABLE_SCHEMA",
        )
    blocks = [head, *terms, *map(_feature, features), *_units(units)]
    if left_out:
        blocks.append("".join(f"# Left out: {one.column!r}; {one.reason}.\n" for one in left_out))
    text = "\n".join(blocks)
    names, reasons = tuple(one.name for one in features), {one.column: one.reason for one in left_out}
    return Proposal(text, names, reasons, undecided(text.encode()))


def _with_bounds(features: Sequence[ProposedFeature], learned: Sequence[LearnedBounds]) -> list[ProposedFeature]:
    """The features, those with learned bounds with these.

    Raises:
        DataError: If no feature has any.
    """
    by_name = {one.feature: one for one in learned}
    if not by_name.keys() & {one.name for one in features}:
        raise DataError(
            "the result has no bounds for this table",
            why=f"it is about {', '.join(by_name)}" if by_name else "it holds segments: its plan asked for no bounds",
            fix="name the result of a plan that was made with: fedseg plan init TABLE_SCHEMA --learn-bounds",
        )
    return [with_bounds(one, by_name[one.name]) if one.name in by_name else one for one in features]


def _source(learned: SignedSegmentation) -> str:
    """Where the bounds come from, for the head of the file."""
    found = learned.segmentation
    lines = [
        "#",
        f"# Learned bounds come from plan {found.name} ({found.plan_sha256}),",
        f"# for epsilon {found.epsilon} at delta {found.delta}, signed by {learned.public_key.fingerprint()}:",
        "# compare that with the fingerprint of your server's key.",
    ]
    if found.simulated:
        lines.append("# WARNING: the noise was simulated: these bounds tell about single customers.")
    return "".join(f"{line}\n" for line in lines)


def undecided(document: bytes) -> tuple[str, ...]:
    r"""Places in a TOML file where something is still to be decided; none if it is no TOML file.

    >>> undecided(b'k = 3\nfeatures = [{ name = "age", upper = "TO DECIDE" }]')
    ('features.age.upper',)
    """
    try:
        return tuple(_undecided(tomllib.loads(document.decode("utf-8")), ""))
    except (ValueError, RecursionError):
        return ()


def _undecided(value: object, place: str) -> Iterator[str]:
    if value == TO_DECIDE:
        yield place
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _undecided(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value, 1):
            name = inner.get("name") if isinstance(inner, dict) else None
            yield from _undecided(inner, f"{place}.{name if isinstance(name, str) else number}")


class Aim(enum.Enum):
    """What a plan is for."""

    SEGMENTS = "cells"
    BOUNDS = "bounds"


def _terms(aim: Aim, k: int, units: int, customers: int | None) -> Iterator[str]:
    for_bounds = aim is Aim.BOUNDS
    least = "of no meaning here, but every plan has it" if for_bounds else "smaller segments are not shown"
    yield "".join(
        (
            _line("version", 1),
            _line("name", "bounds" if for_bounds else "segments", "for people: small letters, digits, hyphens"),
            _line("purpose", str(Purpose.SEGMENT_STATISTICS), "what customers agreed to"),
            _line("trust", "unit-noise"),
            _line("k", k, "no segments" if for_bounds else "segments; fewer and larger ones carry more noise"),
            _line("quorum", units, "fewest units that must answer a round"),
            _line("deadline_seconds", 3600, "longest wait for a round"),
            _line("reply_slot_seconds", 60, "longer than the slowest unit works on a round"),
            _line("max_units_per_customer", units, "a customer may be in all units"),
            _line("min_segment_size", 50, least),
        )
    )
    yield "[budget]\n" + "".join(
        (
            _line("epsilon", "1/10" if for_bounds else "1/1", "most loss of one customer over all rounds and units"),
            _line("delta", "1/1000000", "well below one over the number of customers"),
        )
    )
    yield "[algorithm]\n" + "".join(
        (
            _line("name", aim.value),
            _line("seed", 1, "no coins are tossed here" if for_bounds else "public coins, any whole number"),
            _line(
                "expected_customers",
                TO_DECIDE if customers is None else customers,
                f"public guess of how many customers all units have together{'' if for_bounds else _ON_GUESS}",
            ),
            "" if for_bounds else _line("profile", "standard", _ON_PROFILE),
        )
    )


_ON_GUESS = "; three times off costs little"
_ON_PROFILE = 'six rounds; "short" has three, for units that cannot stay online'


def _feature(feature: ProposedFeature) -> str:
    lines = (_line(key, value, feature.remarks.get(key, "")) for key, value in feature.terms.items())
    return "[[features]]\n" + _line("name", feature.name, feature.remarks.get("name", "")) + "".join(lines)


def _units(units: int) -> Iterator[str]:
    for number in range(1, units + 1):
        key = _line("public_key", TO_DECIDE, "as the unit's computer person reads it to you")
        yield "[[units]]\n" + _line("name", f"unit-{number}") + key


def _line(key: str, value: str | float, remark: str = "") -> str:
    return f"{tomli_w.dumps({key: value}).rstrip()}{f'  # {remark}' if remark else ''}\n"


def _named_apart(features: Sequence[ProposedFeature]) -> list[ProposedFeature]:
    """Features of different columns that a plan would have to write alike get numbers."""
    taken: set[str] = set()
    made: list[ProposedFeature] = []
    for one in features:
        name, number = one.name, 2
        while name in taken:
            name, number = f"{one.name[:58]}_{number}", number + 1
        taken.add(name)
        made.append(ProposedFeature(one.column, name, one.terms, one.remarks))
    return made
