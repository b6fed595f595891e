"""An estimator's budget is an account, and its sums go through the door. Each marked line both type checkers refuse."""

import numpy as np
from numpy.typing import NDArray

import fedseg
from fedseg.clustering.lattice import StepTerms
from fedseg.clustering.request import RoundRequest
from fedseg.estimator.account import OpenFit
from fedseg.privacy.noise import Noise


def a_number_in_place_of_an_account() -> object:
    return fedseg.PrivateKMeans(3, epsilon=1, account=2.0)  # E: mypy[arg-type] pyright[reportArgumentType]


def an_account_without_a_limit() -> object:
    return fedseg.CustomerAccount(delta=1e-6)  # E: mypy[call-arg] pyright[reportCallIssue]


def sums_of_unknown_sensitivity(
    sums: NDArray[np.int64], noise: Noise, request: RoundRequest, terms: StepTerms, fit: OpenFit
) -> object:
    return fit.release(sums, noise, request, terms, 1)  # E: mypy[arg-type] pyright[reportArgumentType]
