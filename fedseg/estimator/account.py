"""`CustomerAccount`: what one customer may lose over everything that is fitted on their rows.

It is a unit's account (`privacy/account.py`) over a ledger in memory: every fit sets its whole price aside before it
reads a row, and every release is charged and logged by `release()`.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

import fedseg
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.request import RoundRequest, request_sha256
from fedseg.errors import BudgetError
from fedseg.ledger.canonical import Json, canonical, sha256_hex
from fedseg.ledger.journal import MemoryLedger
from fedseg.ledger.keys import SigningKey
from fedseg.privacy.account import PlanTerms, PrivacyAccount, day_of
from fedseg.privacy.budget import PrivacyBudget, epsilon_of, fraction_text, rho_of, shown_epsilon, upper_float
from fedseg.privacy.noise import Noise
from fedseg.privacy.release import HEADER, ReleaseTicket, release
from fedseg.privacy.sensitive import Sensitive
from fedseg.privacy.state import Caps

Exact: TypeAlias = "int | float | str | Decimal | Fraction"
"""A number taken as exactly what it is; the text of a fraction or decimal is one too."""

NAME: Final = "customer-account"
"""What policy, purpose and unit are called in an account's ledger, which has one of each."""


class CustomerAccount:
    """The most that one customer may lose, over all fits that share this account.

    The unit of privacy is one customer, the relation add-or-remove-one. Use one account for all that is ever fitted on
    rows of the same customers, whatever the estimators and columns.

    There is only ever one of it: copies, and so the clones that scikit-learn makes, share the account itself. What is
    unpickled, and what a forked process finds, cannot know what is spent elsewhere and therefore allows nothing.

    It lives as long as its process. Whoever starts anew with the same customers states what is left.
    """

    def __init__(self, *, epsilon: Exact, delta: Exact) -> None:
        self.budget = PrivacyBudget(exact(epsilon), exact(delta))
        self._open_in: int | None = os.getpid()
        self._key = SigningKey.generate()
        self._account = PrivacyAccount(MemoryLedger(origin=NAME, key=self._key, body={}))
        document = canonical({"epsilon": fraction_text(self.budget.epsilon), "delta": fraction_text(self.budget.delta)})
        self._policy_sha256 = sha256_hex(document)
        caps = Caps(self._policy_sha256, rho_of(self.budget), self.budget.delta, {})
        self._account.adopt_policy(caps, policy_id=NAME, document=document)

    @property
    def rho_cap(self) -> Fraction:
        """The budget in zCDP."""
        return rho_of(self.budget)

    @property
    def rho_spent(self) -> Fraction:
        """Price of all fits so far, in zCDP. A fit that has begun has spent its whole price, also when interrupted."""
        return self._account.state().rho_reserved

    @property
    def epsilon_spent(self) -> float:
        """The same as an epsilon at the account's delta; rounded up."""
        return upper_float(epsilon_of(self.rho_spent, self.budget.delta))

    def fits_left(self, epsilon: Exact) -> int:
        """How many more fits of this epsilon there is room for: losses add up in zCDP, where small ones cost less.

        >>> CustomerAccount(epsilon=3, delta=1e-6).fits_left(epsilon=1)
        7
        """
        return (self.rho_cap - self.rho_spent) // self.price(epsilon)

    def price(self, epsilon: Exact) -> Fraction:
        """What a fit of this epsilon, at the account's delta, may cost in zCDP.

        Raises:
            ValueError: If that is no epsilon, or so small that it buys nothing.
        """
        rho = rho_of(PrivacyBudget(exact(epsilon), self.budget.delta))
        if rho == 0:
            raise ValueError(f"an epsilon of {epsilon} buys nothing at this delta; give a larger one")
        return rho

    @property
    def noise_sources(self) -> frozenset[str]:
        """Where the noise of all releases came from; with anything but "system" among them nothing here is private."""
        return self._account.state().noise_sources

    def require_room(self, rho: Fraction) -> None:
        """Refuse a price that does not fit beside all that is spent.

        Raises:
            BudgetError: Nothing was charged and nothing was released.
        """
        if self._open_in != os.getpid():
            raise BudgetError(
                "this account allows nothing",
                why="it was unpickled or forked, so it does not know what is spent elsewhere",
                fix="fit in the process that made the account; n_jobs=1 where scikit-learn starts processes",
            )
        after = self.rho_spent + rho
        if after > self.rho_cap:
            delta = self.budget.delta
            reached, limit = (shown_epsilon(epsilon_of(one, delta)) for one in (after, self.rho_cap))
            raise BudgetError(
                "this fit does not fit into its account",
                why=f"it would bring epsilon to {reached}, the account's limit is {limit}",
                fix="lower the epsilon of the fit, or use a fitted model: predict() and transform() cost nothing",
            )

    def begin(self, terms: Mapping[str, Json], step_rhos: Sequence[Fraction]) -> "OpenFit":
        """Set the whole price of one fit aside.

        Args:
            terms: What is fitted, for the ledger; public.
            step_rhos: Price of each of its rounds.

        Raises:
            BudgetError: If it does not fit; nothing was set aside.
        """
        self.require_room(sum(step_rhos, Fraction(0)))
        # A number of its own makes every fit another plan: a second fit on the same terms is charged again.
        document = canonical({**terms, "fit": secrets.token_hex(16)})
        plan_sha256 = sha256_hex(document)
        fit = PlanTerms(plan_sha256, document, NAME, tuple(step_rhos), source_sha256=sha256_hex(b""))
        self._account.approve(fit, day=_today())
        return OpenFit(self._account, self._key, plan_sha256, self._policy_sha256)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        return _closed, (self.budget.epsilon, self.budget.delta)

    def __repr__(self) -> str:
        spent = shown_epsilon(epsilon_of(self.rho_spent, self.budget.delta))
        limit = f"epsilon={float(self.budget.epsilon):g}, delta={float(self.budget.delta):g}"
        return f"CustomerAccount({limit}, epsilon_spent={spent})"


@dataclass(frozen=True, slots=True)
class OpenFit:
    """One fit whose price is set aside, and its way through the one door."""

    account: PrivacyAccount
    key: SigningKey
    plan_sha256: str
    policy_sha256: str

    def release(
        self, statistic: Sensitive, noise: Noise, request: RoundRequest, terms: StepTerms, blocks: int
    ) -> NDArray[np.int64]:
        """What `release()` lets out for one round, shape (blocks, cells, width); errors as there."""
        ticket = ReleaseTicket(
            plan_sha256=self.plan_sha256,
            unit=NAME,
            unit_index=0,
            step=terms.step,
            request_sha256=request_sha256(self.plan_sha256, request),
            cells=blocks * terms.cells,
            width=terms.width,
            lattice=terms.lattice.facts,
            policy_sha256=self.policy_sha256,
            gate_commitment=sha256_hex(b""),  # no register stands behind an array: who calls fit() answers for the rows
            software=f"fedseg {fedseg.__version__}",
            day=_today(),
        )
        released = release(statistic, noise, self.account, ticket, self.key)
        values = np.frombuffer(released.payload, "<i8", statistic.length, HEADER.size)
        return values.astype(np.int64).reshape(blocks, terms.cells, terms.width)


def exact(value: Exact) -> Fraction:
    """The number itself, without rounding; a float is the binary fraction that it is.

    Raises:
        ValueError: If it is none.
    """
    try:
        return Fraction(value if isinstance(value, int | str | Decimal | Fraction) else float(value))
    except (ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise ValueError(f"epsilon and delta must be numbers, got {value!r}") from error


def _today() -> str:
    return day_of(datetime.now(UTC))


def _closed(epsilon: Fraction, delta: Fraction) -> CustomerAccount:
    """An account that allows nothing: what a pickle of one becomes."""
    account = CustomerAccount(epsilon=epsilon, delta=delta)
    account._open_in = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    return account
