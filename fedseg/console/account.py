"""What the unit has spent, day by day, replayed from its ledger; nothing here is remembered between two pages."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Final, NamedTuple

from fedseg.errors import PlanError
from fedseg.ledger.entries import GENESIS, Entry
from fedseg.ledger.store import Ledger
from fedseg.node.home import NodeHome
from fedseg.plan import parse_plan
from fedseg.privacy.budget import epsilon_of, shown_epsilon
from fedseg.privacy.entries import unit_body
from fedseg.privacy.noise import SystemNoise
from fedseg.privacy.state import AccountState, Caps, Reservation, apply_entry

PLANS_MAX: Final = 50
"""Most plans on the overview: the latest; `fedseg budget show` has all."""
WIDTH: Final = 720
HEIGHT: Final = 180
"""Of the burn-down's drawing, in its own units."""


class Day(NamedTuple):
    """Where the account stood when a day was over."""

    day: str
    rho_reserved: Fraction
    rho_spent: Fraction
    rho_cap: Fraction
    """0 before a policy was logged."""

    @property
    def left(self) -> Fraction:
        """Part of the cap that no approved plan holds, from 0 to 1."""
        return _left(self.rho_reserved, self.rho_cap)

    @property
    def unsent(self) -> Fraction:
        """Part of the cap that nothing sent has used, from 0 to 1."""
        return _left(self.rho_spent, self.rho_cap)


@dataclass(frozen=True, slots=True)
class PlanLine:
    """An approved plan."""

    name: str
    reservation: Reservation
    epsilon: str
    """Its whole price alone, at the unit's delta."""
    state: str
    """Where it stands, in words."""


@dataclass(frozen=True, slots=True)
class PurposeLine:
    """What one purpose holds."""

    purpose: str
    epsilon_reserved: str
    epsilon_limit: str | None
    """Of its own; None if it has only the cap over everything."""


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """The account as it stands, and how it came there."""

    caps: Caps | None
    """None before a policy was logged."""
    epsilon_spent: str
    epsilon_reserved: str
    epsilon_cap: str
    epsilon_guaranteed: str
    share_left: Fraction
    """Part of the cap that no approved plan holds."""
    simulated: bool
    """Whether any noise came from elsewhere than the system's randomness."""
    days: Sequence[Day]
    plans: Sequence[PlanLine]
    """The latest first, at most `PLANS_MAX`."""
    plans_left_out: int
    purposes: Sequence[PurposeLine]


def account_of(home: NodeHome, today: date) -> AccountFacts:
    """Replay the unit's ledger.

    Raises:
        VerificationError: If the ledger was changed after it was signed, or cannot be understood.
        StorageError: If it cannot be read.
    """
    with home.ledger() as ledger:
        entries = ledger.entries()
        state, days = _replay(entries)
        latest = [*state.reservations.values()][: -PLANS_MAX - 1 : -1]
        plans = [_plan_line(ledger, one, state, today) for one in latest]
    cap = Fraction(0) if state.caps is None else state.caps.rho_cap
    return AccountFacts(
        caps=state.caps,
        epsilon_spent=_epsilon(state.rho_spent, state),
        epsilon_reserved=_epsilon(state.rho_reserved, state),
        epsilon_cap=_epsilon(cap, state),
        epsilon_guaranteed=_epsilon(state.rho_guaranteed, state),
        share_left=_left(state.rho_reserved, cap),
        simulated=bool(state.noise_sources - {SystemNoise.label}),
        days=days,
        plans=plans,
        plans_left_out=len(state.reservations) - len(plans),
        purposes=_purposes(state),
    )


def plan_name(plan_sha256: str, payload: Callable[[str], bytes | None]) -> str:
    """The name of an approved plan among a ledger's payloads; the beginning of its hash if it cannot be read."""
    document = payload(f"plan:{plan_sha256}")
    try:
        return plan_sha256[:16] if document is None else parse_plan(document).name
    except PlanError:
        return plan_sha256[:16]


def steps(days: Sequence[Day], value: str, today: date) -> str:
    """The burn-down as points of an SVG polyline: level through each day's end, then down; `value` names the part."""
    if not days:
        return ""
    first = date.fromisoformat(days[0].day)
    span = max(1, (max(today, date.fromisoformat(days[-1].day)) - first).days)
    points: list[str] = []
    level = 0.0
    for one in days:
        place = WIDTH * (date.fromisoformat(one.day) - first).days / span
        points.append(f"{place:.1f},{level:.1f}")
        level = HEIGHT * float(1 - getattr(one, value))
        points.append(f"{place:.1f},{level:.1f}")
    return " ".join([*points, f"{WIDTH},{level:.1f}"])


def _replay(entries: Iterable[Entry]) -> tuple[AccountState, list[Day]]:
    state, days = AccountState(), dict[str, Day]()
    for entry in entries:
        state = apply_entry(state, entry)
        day = None if entry.kind == GENESIS else unit_body(entry).day
        if day is not None and state.caps is not None:
            days[day] = Day(day, state.rho_reserved, state.rho_spent, state.caps.rho_cap)
    return state, [days[day] for day in sorted(days)]


def _plan_line(ledger: Ledger, one: Reservation, state: AccountState, today: date) -> PlanLine:
    answered = f"{len(one.answered)} of {len(one.step_rhos)} rounds sent"
    if one.ending is not None:
        words = f"{one.ending.value}; {answered}"
    elif one.is_expired(today.isoformat()):
        words = f"expired; {answered}"
    elif len(one.answered) == len(one.step_rhos):
        words = "finished"
    else:
        words = answered
    return PlanLine(plan_name(one.plan_sha256, ledger.payload), one, _epsilon(one.rho, state), words)


def _purposes(state: AccountState) -> list[PurposeLine]:
    if state.caps is None:
        return []
    limits = state.caps.purpose_rho_caps
    used = {one.purpose for one in state.reservations.values()}
    return [
        PurposeLine(
            purpose,
            _epsilon(state.reserved_for(purpose), state),
            _epsilon(limits[purpose], state) if purpose in limits else None,
        )
        for purpose in sorted(used | set(limits))
    ]


def _epsilon(rho: Fraction, state: AccountState) -> str:
    return "0" if state.caps is None else shown_epsilon(epsilon_of(rho, state.caps.delta))


def _left(used: Fraction, cap: Fraction) -> Fraction:
    return max(Fraction(0), 1 - used / cap) if cap else Fraction(0)
