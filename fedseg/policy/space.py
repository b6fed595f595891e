"""`Space`: every state that one customer's consent can be in, as far as some rules can tell states apart. Pure.

The register says a handful of things about a customer, and each of them is one of a few, once versions and days are
sorted into classes by the limits that the rules name. So the states are finitely many and all can be judged: the space
is a grid with an axis for each thing that is said, whose values go from what allows most to what allows least.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedseg.policy.consent import MAX_NOTICE_VERSION, NEVER_TOLD, Jurisdiction, PurposeState, Status, Veto
from fedseg.policy.gate import Reason, judge
from fedseg.policy.purpose_rule import ByConsent, ByNotice, PurposeRule

Group: TypeAlias = Mapping[str, tuple[str, ...]]
"""Some states: the values allowed on each axis that matters; any value on the others."""

_MICROSECONDS_PER_DAY: Final = 24 * 60 * 60 * 1_000_000
_MOMENT: Final = 100 * 365 * _MICROSECONDS_PER_DAY
"""When states are judged; longer after 1970 than any limit of days."""

_FLAGS: Final = (
    Veto.OBJECTION,
    Veto.RESTRICTION,
    Veto.SUPPRESSED,
    Veto.OPT_OUT_SALE,
    Veto.OPT_OUT_SHARE,
    Veto.LIMIT_SENSITIVE,
)
_AGES: Final = MappingProxyType({"adult": Veto(0), "unknown": Veto.AGE_UNKNOWN, "minor": Veto.MINOR})
_GIVEN: Final = (Status.GIVEN, Status.RENEWED)
_NOT_GIVEN: Final = (Status.REQUESTED, Status.UNKNOWN, Status.EXPIRED, Status.REFUSED, Status.WITHDRAWN, Status.REVOKED)
_STATUSES: Final = (*_GIVEN, Status.NO_RECORD, *_NOT_GIVEN)
_EXPLICIT: Final = (
    *(("given", Status.GIVEN), ("given, over since", Status.GIVEN), ("no_record", Status.NO_RECORD)),
    *((one.kind, one) for one in (Status.EXPIRED, Status.REFUSED, Status.WITHDRAWN, Status.REVOKED)),
)
_ABOUT_CONSENT: Final = ("age_of_consent", "end_of_consent", "notice_of_consent")


@dataclass(frozen=True, slots=True)
class Axis:
    """One thing that the register says about a customer."""

    name: str
    values: tuple[str, ...]
    restricts: tuple[tuple[int, int], ...]
    """Pairs of places: going from the first to the second restricts, and must never turn a no into a yes."""

    def place(self, value: str) -> int:
        """Where a value stands."""
        return self.values.index(value)


@dataclass(frozen=True)
class Space:
    """All states that `rules` can tell apart, on a grid."""

    ages: tuple[int, ...]
    """Greatest ages of consent, in days, that some rule names."""
    notices: tuple[int, ...]
    """Lowest versions of notices consented to that some rule names; `told` likewise of notices sent."""
    told: tuple[int, ...]

    @classmethod
    def of(cls, rules: Sequence[PurposeRule]) -> Self:
        """The space in which these rules can be told apart."""
        ways = [way for rule in rules for way in rule.ways()]
        consents = [way.consent for way in ways if isinstance(way, ByConsent)]
        return cls(
            ages=tuple(sorted({one.max_age_days for one in consents})),
            notices=tuple(sorted({one.notice_min_version for one in consents})),
            told=tuple(sorted({way.notice_min_version for way in ways if isinstance(way, ByNotice)})),
        )

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """What the register says, in the order of the grid's dimensions."""
        yes = len(_GIVEN) + 1
        consent = [(one, other) for one in range(yes) for other in range(yes, len(_STATUSES))]
        known = [one.text for one in Jurisdiction if one]
        return (
            Axis("consent", tuple(one.kind for one in _STATUSES), tuple(consent)),
            _ordered("age_of_consent", _age_classes(self.ages)),
            _ordered("end_of_consent", ("to come", "over")),
            _ordered("notice_of_consent", _version_classes(self.notices)),
            _first_is_best("explicit_consent", tuple(name for name, _ in _EXPLICIT)),
            _ordered("notice_sent", (*_version_classes(self.told), "none")),
            Axis("jurisdiction", ("unknown", *known), tuple((place, 0) for place in range(1, len(known) + 1))),
            *(_ordered(str(flag.name).lower(), ("no", "yes")) for flag in _FLAGS),
            _first_is_best("age", tuple(_AGES)),
            _ordered("events", ("readable", "unreadable")),
        )

    @cached_property
    def possible(self) -> NDArray[np.bool_]:
        """The states that can be: where no consent stands, it has no age, end and notice (the first of each)."""
        given: NDArray[np.bool_] = self._along("consent", np.isin(_STATUSES, _GIVEN))
        alone = np.ones(1, dtype=np.bool_)
        for name in _ABOUT_CONSENT:
            _, axis = self.axis(name)
            alone = alone & self._along(name, np.arange(len(axis.values)) == 0)
        possible: NDArray[np.bool_] = np.broadcast_to(given | alone, self.shape)
        return possible

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each axis has."""
        return tuple(len(axis.values) for axis in self.axes)

    def axis(self, name: str) -> tuple[int, Axis]:
        """An axis and its dimension, by name."""
        return next((place, axis) for place, axis in enumerate(self.axes) if axis.name == name)

    def reasons(self, rule: PurposeRule) -> NDArray[np.uint8]:
        """The gate's answer to every state: `Reason` codes on the grid. Impossible states get an answer too."""
        return np.broadcast_to(judge(self._states, rule, _MOMENT), self.shape)

    def allowed(self, rule: PurposeRule | None) -> NDArray[np.bool_]:
        """Which states the gate allows; none without a rule: what is not named is denied."""
        if rule is None:
            return np.zeros(self.shape, dtype=np.bool_)
        allowed: NDArray[np.bool_] = self.reasons(rule) == Reason.ALLOWED
        return allowed

    def example(self, states: NDArray[np.bool_]) -> dict[str, str] | None:
        """The first of some states, with its value on every axis; None if there is none."""
        if not states.any():
            return None
        places = np.unravel_index(int(np.argmax(states)), self.shape)
        return {axis.name: axis.values[place] for axis, place in zip(self.axes, places, strict=True)}

    def groups(self, states: NDArray[np.bool_]) -> Iterator[Group]:
        """All possible states of some, and no other possible one, in few groups; a state may be in several."""
        left, states = states & self.possible, states | ~self.possible
        while left.any():
            corner = np.unravel_index(int(np.argmax(left)), self.shape)
            box = _grown(states, [[int(place)] for place in corner])
            # Where a consent has an age or a notice, there is one: name those alone.
            box[0] = [place for place in box[0] if self.possible[np.ix_([place], *box[1:])].any()]
            left[np.ix_(*box)] = False
            yield MappingProxyType(
                {
                    axis.name: tuple(axis.values[place] for place in places)
                    for axis, places in zip(self.axes, box, strict=True)
                    if len(places) < len(axis.values)
                }
            )

    @cached_property
    def _states(self) -> PurposeState:
        """Every state, each array along its own axes only: together they span the grid."""
        ended = np.array([_MOMENT + 1, _MOMENT])
        explicit = np.array([status for _, status in _EXPLICIT], dtype=np.uint8)
        return PurposeState(
            status=self._along("consent", np.array(_STATUSES, dtype=np.uint8)),
            event_time=self._along("age_of_consent", _event_times(self.ages)),
            valid_until=self._along("end_of_consent", ended),
            notice_version=self._along("notice_of_consent", _versions(self.notices)),
            vetoes=self._vetoes(),
            explicit=self._along("explicit_consent", explicit),
            explicit_until=self._along("explicit_consent", np.where(np.arange(len(explicit)) == 1, *ended[::-1])),
            told_version=self._along("notice_sent", np.append(_versions(self.told), NEVER_TOLD)),
            jurisdiction=self._along("jurisdiction", np.array(Jurisdiction, dtype=np.uint8)),
        )

    def _vetoes(self) -> NDArray[np.uint16]:
        flags = [self._along(str(flag.name).lower(), np.array([0, flag], dtype=np.uint16)) for flag in _FLAGS]
        ages = self._along("age", np.array(list(_AGES.values()), dtype=np.uint16))
        unreadable = self._along("events", np.array([0, Veto.UNREADABLE], dtype=np.uint16))
        vetoes: NDArray[np.uint16] = reduce(np.bitwise_or, [ages, unreadable, *flags])
        return vetoes

    def _along(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        """Values along their own axis."""
        place, _ = self.axis(name)
        return values.reshape([-1 if other == place else 1 for other in range(len(self.axes))])


def _grown(states: NDArray[np.bool_], box: list[list[int]]) -> list[list[int]]:
    """The box made as large as `states` allow, one axis after the other."""
    for dimension, length in enumerate(states.shape):
        slab = states[np.ix_(*box[:dimension], range(length), *box[dimension + 1 :])]
        others = tuple(other for other in range(states.ndim) if other != dimension)
        box[dimension] = np.flatnonzero(slab.all(axis=others)).tolist()
    return box


def _ordered(name: str, values: tuple[str, ...]) -> Axis:
    """Each value allows at most what the one before it allows."""
    return Axis(name, values, tuple((place, place + 1) for place in range(len(values) - 1)))


def _first_is_best(name: str, values: tuple[str, ...]) -> Axis:
    """The first value allows most; the others are not compared."""
    return Axis(name, values, tuple((0, place) for place in range(1, len(values))))


def _age_classes(limits: tuple[int, ...]) -> tuple[str, ...]:
    if not limits:
        return ("any",)
    between = [f"more than {before}, at most {days} days" for before, days in pairwise(limits)]
    return (f"at most {limits[0]} days", *between, f"more than {limits[-1]} days")


def _event_times(limits: tuple[int, ...]) -> NDArray[np.int64]:
    """The latest moment at which consent of each class is as old as that: on the very edge."""
    edges = [days * _MICROSECONDS_PER_DAY for days in limits]
    return _MOMENT - np.array([*edges, edges[-1] + 1] if edges else [0])


def _version_classes(limits: tuple[int, ...]) -> tuple[str, ...]:
    """From the newest; a limit of 0 holds for every version."""
    if not limits:
        return ("any",)
    between = [
        f"version {limit}" if after == limit + 1 else f"version {limit} to {after - 1}"
        for limit, after in reversed([*pairwise(limits)])
    ]
    oldest = [f"before version {limits[0]}"] if limits[0] else []
    return (f"version {limits[-1]} or later", *between, *oldest)


def _versions(limits: tuple[int, ...]) -> NDArray[np.int64]:
    """The version at the lower edge of each class."""
    if not limits:
        return np.array([MAX_NOTICE_VERSION])
    return np.array([*reversed(limits), *([limits[0] - 1] if limits[0] else [])])
