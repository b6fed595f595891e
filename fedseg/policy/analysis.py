"""What a policy does in every case there is: whom it allows, what holds of it without exception, what another changes.

Nothing here knows how the gate decides: it asks the gate about every state of a `Space`. So what is found holds of the
gate that runs, and a check that got lost there is found here, with the state that shows it. Pure.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedseg.policy.document import Policy
from fedseg.policy.purpose_rule import DEMANDED_ABSENT, ByConsent, PurposeRule, Way
from fedseg.policy.purposes import Purpose
from fedseg.policy.space import Group, Space

_Name = TypeVar("_Name", bound=str)


class Law(StrEnum):
    """What has to hold of every policy."""

    VETOES = "no veto is overruled"
    UNKNOWN = "what is unknown is denied"
    RESTRICTIONS = "a restriction allows nothing new"
    PARTS = "every part changes some decision"


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether one case of a law holds of every state."""

    law: Law
    says: str
    counterexample: Mapping[str, str] | None = None
    """A state of which it does not hold, by axis; None if it holds."""
    dead: bool = False
    """A part of the policy that changes no decision. There is no single state to show."""

    @property
    def holds(self) -> bool:
        """Whether it holds of every state."""
        return self.counterexample is None and not self.dead


@dataclass(frozen=True, slots=True)
class PurposeAnalysis:
    """What a policy does for one purpose."""

    purpose: Purpose
    states: int
    """How many states one customer can be in."""
    allowed: int
    """How many of them are allowed."""
    groups: tuple[Group, ...]
    """The allowed states, and no others."""
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class PurposeDifference:
    """In which states two policies decide differently for one purpose."""

    purpose: Purpose
    newly_allowed: tuple[Group, ...]
    newly_denied: tuple[Group, ...]
    states_allowed: int
    states_denied: int


def analyse(policy: Policy) -> list[PurposeAnalysis]:
    """Judge every state for every purpose the policy names."""
    return [_analysed(purpose, rule) for purpose, rule in policy.purposes.items()]


def decisions_changed(before: Policy, after: Policy) -> list[PurposeDifference]:
    """For each purpose that either policy names, all states whose decision changes; purposes without any left out."""
    named = [purpose for purpose in Purpose if purpose in before.purposes or purpose in after.purposes]
    found = [_difference(purpose, before.purposes.get(purpose), after.purposes.get(purpose)) for purpose in named]
    return [one for one in found if one.states_allowed or one.states_denied]


def _analysed(purpose: Purpose, rule: PurposeRule) -> PurposeAnalysis:
    space = Space.of([rule])
    allowed = space.allowed(rule)
    return PurposeAnalysis(
        purpose=purpose,
        states=int(space.possible.sum()),
        allowed=int((allowed & space.possible).sum()),
        groups=tuple(space.groups(allowed)),
        findings=(
            *_vetoes_dominate(space, allowed, rule),
            *_unknown_is_denied(space, allowed, rule),
            *_restrictions_restrict(space, allowed),
            *_every_part_matters(space, allowed, rule),
        ),
    )


def _difference(purpose: Purpose, before: PurposeRule | None, after: PurposeRule | None) -> PurposeDifference:
    space = Space.of([rule for rule in (before, after) if rule is not None])
    was, is_now = space.allowed(before), space.allowed(after)
    return PurposeDifference(
        purpose=purpose,
        newly_allowed=tuple(space.groups(is_now & ~was)),
        newly_denied=tuple(space.groups(was & ~is_now)),
        states_allowed=int((is_now & ~was & space.possible).sum()),
        states_denied=int((was & ~is_now & space.possible).sum()),
    )


def _with(space: Space, **values: tuple[str, ...]) -> NDArray[np.bool_]:
    """The possible states with one of these values on each of these axes."""
    found = space.possible
    for name, wanted in values.items():
        place, axis = space.axis(name)
        chosen = np.isin(axis.values, wanted).reshape([-1 if place == other else 1 for other in range(found.ndim)])
        found = found & chosen
    return found


def _vetoes_dominate(space: Space, allowed: NDArray[np.bool_], rule: PurposeRule) -> Iterator[Finding]:
    cases: list[tuple[str, str, tuple[str, ...]]] = [
        (name, "age", _AGES[name]) if name in _AGES else (name, name, ("yes",)) for name in rule.veto
    ]
    for name, axis, values in (*cases, ("an event that cannot be read", "events", ("unreadable",))):
        vetoed = allowed & _with(space, **{axis: values})
        yield Finding(Law.VETOES, f"{name} denies, whatever else is on record", space.example(vetoed))


_AGES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"minor": ("minor",), "minor_or_unknown_age": ("minor", "unknown")}
)


def _unknown_is_denied(space: Space, allowed: NDArray[np.bool_], rule: PurposeRule) -> Iterator[Finding]:
    _, consent = space.axis("consent")
    no = tuple(value for value in consent.values if value not in ("given", "renewed", "no_record"))
    cases: dict[str, dict[str, tuple[str, ...]]] = {
        "who has neither consented nor been told is denied": {"consent": ("no_record",), "notice_sent": ("none",)},
        "who was asked and does not consent is denied in every way": {"consent": no},
        "a consent that is over allows nothing": {"end_of_consent": ("over",)},
    }
    if all(way.jurisdictions is not None for way in rule.ways()):
        cases["an unknown jurisdiction is denied"] = {"jurisdiction": ("unknown",)}
    if rule.explicit_basis is not None:
        _, explicit = space.axis("explicit_consent")
        cases["without explicit consent everybody is denied"] = {"explicit_consent": explicit.values[1:]}
    for says, states in cases.items():
        yield Finding(Law.UNKNOWN, says, space.example(allowed & _with(space, **states)))


def _restrictions_restrict(space: Space, allowed: NDArray[np.bool_]) -> Iterator[Finding]:
    """On every axis: moving from a value to a more restrictive one never turns a denial into a permission."""
    for place, axis in enumerate(space.axes):
        along, possible = np.moveaxis(allowed, place, 0), np.moveaxis(space.possible, place, 0)
        freed = np.zeros(allowed.shape, dtype=np.bool_)
        for less, more in axis.restricts:
            np.moveaxis(freed, place, 0)[more] |= along[more] & ~along[less] & possible[more] & possible[less]
        says = f"a restriction in {axis.name.replace('_', ' ')} allows nobody who was denied"
        yield Finding(Law.RESTRICTIONS, says, space.example(freed))


def _every_part_matters(space: Space, allowed: NDArray[np.bool_], rule: PurposeRule) -> Iterator[Finding]:
    """Every part of the rule changes the decision about some state; a part that does not misleads its readers."""
    for part, without in _parts(rule):
        same = not ((space.allowed(without) != allowed) & space.possible).any()
        yield Finding(Law.PARTS, f"{part} changes some decision", dead=same)
    yield Finding(Law.PARTS, "somebody can be allowed", dead=not (allowed & space.possible).any())


def _parts(rule: PurposeRule) -> Iterator[tuple[str, PurposeRule]]:
    """Each part of the rule that could be left out, and the rule without it."""
    for name in rule.veto:
        yield f"veto {name}", rule.model_copy(update={"veto": _less(rule.veto, name)})
    if rule.explicit_basis is not None:
        yield "special_category", rule.model_copy(update={"special_category": None})
    for place, way in enumerate(rule.require_any or ()):
        ways = rule.ways()
        others = (*ways[:place], *ways[place + 1 :])
        if others:
            yield f"require_any {place + 1}", rule.model_copy(update={"require_any": others})
        for part, changed in _parts_of_way(way):
            changed_ways = (*ways[:place], changed, *ways[place + 1 :])
            yield f"require_any {place + 1} {part}", rule.model_copy(update={"require_any": changed_ways})


def _parts_of_way(way: Way) -> Iterator[tuple[str, Way]]:
    names = () if way.jurisdictions is None else way.jurisdictions
    for name in names if len(names) > 1 else ():
        yield f"jurisdictions {name}", way.model_copy(update={"jurisdictions": _less(names, name)})
    if isinstance(way, ByConsent):
        if "renewed" in way.consent.status:
            given = way.consent.model_copy(update={"status": _less(way.consent.status, "renewed")})
            yield "status renewed", way.model_copy(update={"consent": given})
        return
    # What the form itself demands may repeat a veto.
    for veto in way.absent:
        if veto not in DEMANDED_ABSENT[way.basis]:
            yield f"absent {veto}", way.model_copy(update={"absent": _less(way.absent, veto)})


def _less(names: tuple[_Name, ...], name: _Name) -> tuple[_Name, ...]:
    return tuple(one for one in names if one != name)
