"""`PrivateKMeans`: private k-means over the rows of several units, as a scikit-learn estimator.

The same statistics, noise, accounting and algorithm as a federation, with all units and the server in one process.
Everything a fitted estimator holds was released; what `predict`, `transform` and `score` say of rows was not.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from fedseg.clustering.algorithm import Settings, State
from fedseg.clustering.features import FEATURE_MAX, NumericFeature
from fedseg.clustering.nearest import nearest_center
from fedseg.clustering.quality import profiles
from fedseg.clustering.schedule import Profile
from fedseg.estimator.account import CustomerAccount, Exact
from fedseg.estimator.rounds import run_rounds
from fedseg.estimator.terms import (
    CLUSTERS_MAX,
    FitTerms,
    Sharing,
    expected,
    features_between,
    one_of,
    units_labelled,
    units_listed,
    whole,
)
from fedseg.plan import TrustModel
from fedseg.privacy.noise import NoiseSource, SimulatedNoise, SystemNoise

SEED_MAX = 2**31 - 1
"""Largest seed."""

Rows: TypeAlias = Any
"""What scikit-learn takes for a table, one row a customer; or a list of arrays, frames or Arrow tables, one a unit."""


class PrivateKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc] # pyright: ignore[reportUntypedBaseClass] # scikit-learn has no types
    """Private k-means: what a fit releases says almost the same whether or not any one customer was in the rows.

    One row is one customer. Distances are measured after stretching each feature's public range [lower, upper] onto
    [-1, 1]; values beyond it count as the bound. Bounds, the number of clusters and of units, and the guess of how many
    customers there are have to be public: knowledge that is older than the rows, never read off them.

    Args:
        n_clusters: Clusters to find, 1 to 512; may exceed the number of customers, which nobody knows.
        epsilon: What a fit may cost a customer, at the account's delta.
        account: The `CustomerAccount` that pays for every fit; clones share it.
        lower: Smallest value of each feature; a number for all, or one a feature.
        upper: Largest value of each feature; likewise.
        expected_customers: Public guess of how many customers all units have together; three times off costs little.
        n_units: How many units there are. None: one for a single table, as many as a list holds; with labels it must
            be given.
        max_units_per_customer: In how many units one customer may be, at most; a smaller number is your word for it.
            None: in all of them.
        trust: "unit-noise": every unit adds the full noise, and trusts nobody. "secure-aggregation": only the sum over
            all units is seen, with one noise; modelled only, and named in `simulated_`.
        profile: "standard" (six rounds) or "short" (three).
        random_state: Of the public coins: where the algorithm starts. Says nothing about noise.
        simulated_noise_seed: None: noise comes from the system's randomness. A number: the same noise in every fit,
            for tests and teaching. NEVER PRIVATE; named in `simulated_`.

    Attributes:
        cluster_centers_: Shape (n_clusters, features), in the features' own units.
        cluster_sizes_: Customers of each cluster over all units, shape (n_clusters,); noised, so they may be below 0.
        cluster_size_sd_: Standard deviation of the noise in each size.
        n_iter_: Rounds.
        rho_spent_: What the account had spent after this fit, as an exact fraction, in zCDP.
        epsilon_spent_: The same as an epsilon at the account's delta, rounded up.
        simulated_: What was only modelled, of "noise" and "secure-aggregation"; private is a fit with nothing here.
        n_features_in_: Number of features.
        feature_names_in_: Their names, if the rows had names.

    Not among them: `labels_`, which would hold a fact about every row, and `inertia_`, which no round measures; use
    `predict` and `score` on rows of your own.
    """

    cluster_centers_: NDArray[np.float64]
    cluster_sizes_: NDArray[np.float64]
    cluster_size_sd_: float
    n_iter_: int
    rho_spent_: Fraction
    epsilon_spent_: float
    simulated_: tuple[str, ...]

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        epsilon: Exact = 1.0,
        account: CustomerAccount | None = None,
        lower: ArrayLike | None = None,
        upper: ArrayLike | None = None,
        expected_customers: int | None = None,
        n_units: int | None = None,
        max_units_per_customer: int | None = None,
        trust: str = "unit-noise",
        profile: str = "standard",
        random_state: "int | np.random.RandomState | None" = None,
        simulated_noise_seed: int | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.epsilon = epsilon
        self.account = account
        self.lower = lower
        self.upper = upper
        self.expected_customers = expected_customers
        self.n_units = n_units
        self.max_units_per_customer = max_units_per_customer
        self.trust = trust
        self.profile = profile
        self.random_state = random_state
        self.simulated_noise_seed = simulated_noise_seed

    def fit(self, X: Rows, y: object = None, units: ArrayLike | None = None) -> Self:  # noqa: ARG002 (scikit-learn passes y)
        """Find the clusters; costs `epsilon`.

        Args:
            X: The customers, one row each: one table, or a list of tables, one a unit; such a table may be empty.
            y: Not used.
            units: The unit of each row of a single table, from 0 to `n_units` - 1; None: all are of one unit.

        Raises:
            BudgetError: If the account has no room for it. No row was read, nothing was charged.
            ValueError, TypeError: If a parameter is missing or wrong, or the rows are no finite numbers. Nothing was
                charged.
        """
        account = self._account_with_room()
        tables, source = self._tables(X, is_fit=True), self._noise_source()
        if units is None:
            n_units = units_listed(self.n_units, len(tables))
        else:
            n_units = units_labelled(self.n_units)
            tables = _split(tables, np.asarray(units), n_units)
        terms = self._terms(account, n_units)
        encoded = [_encode(terms.features, one) for one in tables]
        fit = account.begin(terms.document(), terms.step_rhos)
        self._keep(terms, run_rounds(encoded, terms, fit, source))
        self.rho_spent_, self.epsilon_spent_ = account.rho_spent, account.epsilon_spent
        return self

    def predict(self, X: Rows) -> NDArray[np.intp]:
        """The nearest cluster of each row, shape (rows,). Costs nothing; says something about each row."""
        check_is_fitted(self)
        return nearest_center(self._encoded(X), self._positions)

    def transform(self, X: Rows) -> NDArray[np.float64]:
        """Distance of each row to each center, shape (rows, clusters), where every feature's range is 2 wide."""
        check_is_fitted(self)
        distances: NDArray[np.float64] = np.sqrt(self._squared_distances(X)) / FEATURE_MAX
        return distances

    def fit_predict(self, X: Rows, y: object = None, units: ArrayLike | None = None) -> NDArray[np.intp]:
        """`fit`, then `predict` on the same rows; of a list of tables, one after the other."""
        return self.fit(X, y, units=units).predict(X)

    def score(self, X: Rows, y: object = None) -> float:  # noqa: ARG002 (scikit-learn passes it)
        """Minus the sum of the squared distances of your rows to their centers. Not private: do not publish it."""
        check_is_fitted(self)
        return -float(np.sum(self._squared_distances(X).min(axis=1), dtype=np.float64)) / float(FEATURE_MAX) ** 2

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = self.simulated_noise_seed is None
        return tags

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def _account_with_room(self) -> CustomerAccount:
        """The account, after it was found to have room for this fit; looks at no row."""
        if not isinstance(self.account, CustomerAccount):
            raise ValueError(  # noqa: TRY004 (usually it is not given at all)
                "account is missing: every fit spends privacy, which has to be remembered between fits and clones; "
                "give account=fedseg.CustomerAccount(epsilon=..., delta=...)"
            )
        self.account.require_room(self.account.price(self.epsilon))
        return self.account

    def _terms(self, account: CustomerAccount, n_units: int) -> FitTerms:
        """All that is public about the fit."""
        most = self.max_units_per_customer
        within = n_units if most is None else whole("max_units_per_customer", most, 1, n_units)
        sharing = Sharing(one_of("trust", TrustModel, self.trust), n_units, within)
        settings = Settings(
            k=whole("n_clusters", self.n_clusters, 1, CLUSTERS_MAX),
            dimensions=self.n_features_in_,
            expected_customers=expected(self.expected_customers),
            seed=int(check_random_state(self.random_state).randint(SEED_MAX)),
            profile=one_of("profile", Profile, self.profile),
            budget=sharing.budget(account.price(self.epsilon)),
        )
        return FitTerms.of(settings, features_between(self.lower, self.upper, self.n_features_in_), sharing)

    def _noise_source(self) -> NoiseSource:
        seed = self.simulated_noise_seed
        return SystemNoise() if seed is None else SimulatedNoise(whole("simulated_noise_seed", seed, 0, SEED_MAX))

    def _keep(self, terms: FitTerms, state: State) -> None:
        """What the fitted estimator holds of rows: released values only."""
        found = profiles(state)
        self._fitted_features = terms.features
        self._positions = state.segments
        self.cluster_centers_ = np.array(
            [[one.decode(at) for one, at in zip(terms.features, center, strict=True)] for center in state.segments]
        )
        self.cluster_sizes_ = found.counts
        self.cluster_size_sd_ = found.count_sd
        self.n_iter_ = len(terms.rounds)
        modelled = {
            "noise": self.simulated_noise_seed is not None,
            TrustModel.SECURE_AGGREGATION.value: terms.sharing.trust is TrustModel.SECURE_AGGREGATION,
        }
        self.simulated_ = tuple(name for name, is_modelled in modelled.items() if is_modelled)

    def _tables(self, X: Rows, *, is_fit: bool) -> list[NDArray[np.float64]]:
        """The checked rows of each table; a single one needs a row, one of a list does not."""
        if not _is_list_of_tables(X):
            return [validate_data(self, X, reset=is_fit, dtype=np.float64)]
        return [
            validate_data(self, one, reset=is_fit and number == 0, dtype=np.float64, ensure_min_samples=0)
            for number, one in enumerate(X)
        ]

    def _encoded(self, X: Rows) -> NDArray[np.int32]:
        return _encode(self._fitted_features, np.concatenate(self._tables(X, is_fit=False)))

    def _squared_distances(self, X: Rows) -> NDArray[np.int64]:
        """In encoded units, shape (rows, clusters); exact, so a row's do not depend on the rows around it."""
        rows = self._encoded(X).astype(np.int64)
        return np.column_stack([((rows - center) ** 2).sum(axis=1) for center in self._positions])


def _is_list_of_tables(X: Rows) -> bool:
    """Whether these are tables of several units: a list of things with two axes, and not of lists of numbers."""
    return isinstance(X, list | tuple) and len(X) > 0 and all(len(getattr(one, "shape", ())) == 2 for one in X)  # noqa: PLR2004 (a table)


def _split(tables: Sequence[NDArray[np.float64]], labels: NDArray[Any], n_units: int) -> list[NDArray[np.float64]]:
    """The rows of each unit, by the label of each row of the one table."""
    if len(tables) != 1:
        raise ValueError("units= is for one table with rows of several units; a list of tables says it already")
    rows = tables[0]
    if labels.shape != (len(rows),) or not np.isin(labels, np.arange(n_units)).all():
        raise ValueError(f"units must hold a whole number from 0 to {n_units - 1} for each row")
    return [rows[labels == unit] for unit in range(n_units)]


def _encode(features: Sequence[NumericFeature], rows: NDArray[np.float64]) -> NDArray[np.int32]:
    """The rows as bounded integers, shape (rows, features); each row's depend on that row alone."""
    return np.column_stack([one.positions(rows[:, number]) for number, one in enumerate(features)])
