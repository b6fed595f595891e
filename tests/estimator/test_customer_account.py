"""An account remembers every fit that shares it, and stops the one that would go too far before a row is read."""

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.base import clone

from fedseg import CustomerAccount, PrivateKMeans
from fedseg.errors import BudgetError
from fedseg.privacy.budget import PrivacyBudget, epsilon_of, rho_of

DELTA = Fraction(1, 10**6)

ALMOST = Fraction(9999, 10000)
"""Of its budget a fit spends at least this part: sigma is a whole number, rounded up."""


class Unreadable:
    """Rows that nobody may look at."""

    def __getattr__(self, name: str) -> NoReturn:
        raise AssertionError(f"a row was looked at: {name}")

    def __len__(self) -> NoReturn:
        raise AssertionError("rows were counted")


def model(account: CustomerAccount, **changed: Any) -> PrivateKMeans:
    terms: dict[str, Any] = {"epsilon": 1, "lower": 0, "upper": 100, "expected_customers": 50, "profile": "short"}
    return PrivateKMeans(2, account=account, **terms | changed)


def account_for(fits: int) -> CustomerAccount:
    """With room for so many fits of epsilon 1, and no more."""
    one = rho_of(PrivacyBudget(Fraction(1), DELTA))
    return CustomerAccount(epsilon=Fraction(epsilon_of(one * fits, DELTA)), delta=DELTA)


@pytest.fixture(scope="module")
def few() -> NDArray[np.float64]:
    return np.random.default_rng(3).uniform(0, 100, (50, 2))


def test_every_fit_is_charged_what_its_releases_cost(few: NDArray[np.float64]) -> None:
    account = account_for(3)
    one = rho_of(PrivacyBudget(Fraction(1), DELTA))
    for fits in (1, 2, 3):
        assert account.fits_left(1) == 4 - fits
        found = model(account).fit(few)
        charged = account._account.state().rho_spent
        assert found.rho_spent_ == account.rho_spent == charged
        assert ALMOST * fits * one < charged <= fits * one
        assert found.epsilon_spent_ == account.epsilon_spent >= float(epsilon_of(charged, DELTA))


@pytest.mark.parametrize("trust", ["unit-noise", "secure-aggregation"])
@pytest.mark.parametrize("units", [1, 3])
def test_a_customer_in_several_units_loses_no_more_than_epsilon(
    trust: str, units: int, few: NDArray[np.float64]
) -> None:
    for most in range(1, units + 1):
        account = account_for(1)
        model(account, trust=trust, max_units_per_customer=most).fit(np.array_split(few, units))
        assert ALMOST * account.rho_cap < account._account.state().rho_spent <= account.rho_cap


def test_overspending_is_refused_before_a_row_is_read(few: NDArray[np.float64]) -> None:
    account = account_for(1)
    fitted = model(account).fit(few)
    spent = account.rho_spent
    with pytest.raises(BudgetError, match="it would bring epsilon to") as refused:
        fitted.fit(Unreadable())
    assert refused.value.code == "E401"
    assert account.rho_spent == spent
    assert fitted.predict(few).shape == (50,)


def test_what_is_too_dear_at_once_is_refused(few: NDArray[np.float64]) -> None:
    account = CustomerAccount(epsilon=1, delta=DELTA)
    with pytest.raises(BudgetError):
        model(account, epsilon="11/10").fit(Unreadable())
    model(account, epsilon=1).fit(few)


@pytest.mark.parametrize("duplicate", [clone, copy.copy, copy.deepcopy], ids=["clone", "copy", "deepcopy"])
def test_no_copy_of_a_model_forgets_what_was_spent(duplicate: Any, few: NDArray[np.float64]) -> None:
    first = model(account_for(1))
    second = duplicate(first)
    assert second is not first
    assert second.account is first.account
    first.fit(few)
    with pytest.raises(BudgetError):
        second.fit(Unreadable())


def test_an_unpickled_account_allows_nothing(few: NDArray[np.float64]) -> None:
    unused: PrivateKMeans = pickle.loads(pickle.dumps(model(account_for(5))))
    with pytest.raises(BudgetError, match="it does not know what is spent elsewhere"):
        unused.fit(Unreadable())
    account = account_for(1)
    unused.set_params(account=account).fit(few)
    assert account.rho_spent > 0


def test_a_forked_process_allows_nothing() -> None:
    account = account_for(5)
    child = os.fork()
    if child == 0:
        try:
            account.require_room(Fraction(1, 1000))
        except BudgetError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    account.require_room(Fraction(1, 1000))


def test_fits_at_the_same_time_do_not_overspend_together(few: NDArray[np.float64]) -> None:
    account = account_for(2)

    def fits(_number: int) -> bool:
        try:
            model(account).fit(few)
        except BudgetError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(fits, range(4))) == 2
    assert account.rho_spent <= account.rho_cap


def test_a_fit_that_has_begun_has_spent_its_price() -> None:
    account = CustomerAccount(epsilon=1, delta=DELTA)
    account.begin({"k": 2}, [account.rho_cap / 2, account.rho_cap / 2])
    assert account.rho_spent == account.rho_cap
    with pytest.raises(BudgetError):
        account.begin({"k": 2}, [Fraction(1, 1000)])


@pytest.mark.parametrize(("epsilon", "delta"), [(0, DELTA), (-1, DELTA), (1, 0), (1, 1), ("x", DELTA), (None, DELTA)])
def test_an_account_needs_a_budget(epsilon: Any, delta: Any) -> None:
    with pytest.raises(ValueError, match=r"epsilon|delta"):
        CustomerAccount(epsilon=epsilon, delta=delta)


def test_an_epsilon_that_buys_nothing_is_refused() -> None:
    account = CustomerAccount(epsilon=1, delta=Fraction(1, 2**64))
    with pytest.raises(ValueError, match="buys nothing"):
        account.fits_left(Fraction(1, 2**60))


def test_an_account_shows_its_limit_and_what_is_spent(few: NDArray[np.float64]) -> None:
    account = CustomerAccount(epsilon=2, delta=DELTA)
    assert repr(account) == "CustomerAccount(epsilon=2, delta=1e-06, epsilon_spent=0)"
    model(account).fit(few)
    assert repr(account) == "CustomerAccount(epsilon=2, delta=1e-06, epsilon_spent=1.00)"
