"""What the unit has spent, day by day, replayed from its ledger; nothing here is remembered between two pages."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from fedseg.errors import PlanError
from fedseg.ledger.entries import GENESIS, Entry
from fedseg.ledger.store import Ledger
from fedseg.node.home import NodeHome
from fedseg.plan import parse_plan
from fedseg.privacy.budget import epsilon_of, shown_epsilon
from fedseg.privacy.entries import ReleaseBody, unit_body
from fedseg.privacy.noise import SystemNoise
from fedseg.privacy.state import AccountState, Caps, Reservation, apply_entry
from fedseg.report.officer.meaning import COIN, loss

PLANS_MAX: Final = 50
"""Most plans on the overview: the latest; `fedseg budget show` has all."""
WIDTH: Final = 720
HEIGHT: Final = 180
"""Of the burn-down's drawing, in its own units."""


class Day(NamedTuple):
    """Where the account stood when a day was over."""

    day: str
    rho_left: Fraction
    """What could still be approved."""
    rho_spent: Fraction
    rho_cap: Fraction
    """0 before a policy was logged."""

    @property
    def left(self) -> Fraction:
        """Part of the cap that could still be approved, from 0 to 1."""
        return part_of(self.rho_left, self.rho_cap)

    @property
    def unsent(self) -> Fraction:
        """Part of the cap that nothing sent has used, from 0 to 1."""
        return part_of(max(Fraction(0), self.rho_cap - self.rho_spent), self.rho_cap)


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


class Shares(NamedTuple):
    """Parts of the cap, each from 0 to 1."""

    spent: Fraction
    reserved: Fraction
    """Held by approved plans, spent or not."""
    kept_back: Fraction
    """For a rollback, where the ledger is witnessed."""
    left: Fraction
    """To approve."""


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """The account as it stands, and how it came there."""

    caps: Caps | None
    """None before a policy was logged."""
    epsilon_spent: str
    epsilon_reserved: str
    epsilon_kept_back: str
    epsilon_cap: str
    epsilon_guaranteed: str
    guess_spent: Decimal
    """How often somebody who knows all else guesses right, at most, whether a customer was counted in what was sent."""
    guess_guaranteed: Decimal
    """The same, whatever will be sent."""
    shares: Shares
    simulated: bool
    """Whether any noise came from elsewhere than the system's randomness."""
    rho_cap: Fraction
    rho_left: Fraction
    """What may still be approved."""
    charges: Sequence[tuple[str, Fraction]]
    """Day and rho of everything sent."""
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
        state, days, charges = _replay(entries)
        latest = [*state.reservations.values()][: -PLANS_MAX - 1 : -1]
        plans = [_plan_line(ledger, one, state, today) for one in latest]
    cap = Fraction(0) if state.caps is None else state.caps.rho_cap
    return AccountFacts(
        caps=state.caps,
        epsilon_spent=_epsilon(state.rho_spent, state),
        epsilon_reserved=_epsilon(state.rho_reserved, state),
        epsilon_kept_back=_epsilon(state.residue(), state),
        epsilon_cap=_epsilon(cap, state),
        epsilon_guaranteed=_epsilon(state.rho_guaranteed, state),
        guess_spent=_guess(state.rho_spent, state),
        guess_guaranteed=_guess(state.rho_guaranteed, state),
        shares=Shares(
            *(part_of(rho, cap) for rho in (state.rho_spent, state.rho_reserved, state.residue(), state.rho_left))
        ),
        simulated=bool(state.noise_sources - {SystemNoise.label}),
        rho_cap=cap,
        rho_left=state.rho_left,
        charges=charges,
        days=days,
        plans=plans,
        plans_left_out=len(state.reservations) - len(plans),
        purposes=_purposes(state),
    )


def part_of(rho: Fraction, cap: Fraction) -> Fraction:
    """Part of a cap, from 0 to 1; all of a cap of 0 is used."""
    return min(Fraction(1), rho / cap) if cap else Fraction(0)


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


def _replay(entries: Iterable[Entry]) -> tuple[AccountState, list[Day], list[tuple[str, Fraction]]]:
    state, days, charges = AccountState(), dict[str, Day](), list[tuple[str, Fraction]]()
    for entry in entries:
        state = apply_entry(state, entry)
        body = None if entry.kind == GENESIS else unit_body(entry)
        if isinstance(body, ReleaseBody):
            charges.append((body.released_on, body.charge.rho))
        if body is not None and body.day is not None and state.caps is not None:
            days[body.day] = Day(body.day, state.rho_left, state.rho_spent, state.caps.rho_cap)
    return state, [days[day] for day in sorted(days)], charges


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


def _guess(rho: Fraction, state: AccountState) -> Decimal:
    return COIN if state.caps is None else loss(rho, state.caps.delta).guess
