"""Nothing is released without an account, noise and a `Sensitive`. Each marked line both type checkers refuse."""

import numpy as np
from numpy.typing import NDArray

from fedseg.ledger.keys import SigningKey
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.noise import Noise
from fedseg.privacy.release import Release, ReleaseTicket, release
from fedseg.privacy.sensitive import Sensitive


def without_an_account(statistic: Sensitive, noise: Noise, ticket: ReleaseTicket, key: SigningKey) -> Release:
    return release(statistic, noise, ticket=ticket, key=key)  # E: mypy[call-arg] pyright[reportCallIssue]


def with_no_account(statistic: Sensitive, noise: Noise, ticket: ReleaseTicket, key: SigningKey) -> Release:
    return release(statistic, noise, None, ticket, key)  # E: mypy[arg-type] pyright[reportArgumentType]


def without_noise(statistic: Sensitive, account: PrivacyAccount, ticket: ReleaseTicket, key: SigningKey) -> Release:
    return release(statistic, None, account, ticket, key)  # E: mypy[arg-type] pyright[reportArgumentType]


def noise_of_ones_own(
    statistic: Sensitive, drawn: NDArray[np.int64], account: PrivacyAccount, ticket: ReleaseTicket, key: SigningKey
) -> Release:
    return release(statistic, drawn, account, ticket, key)  # E: mypy[arg-type] pyright[reportArgumentType]


def numbers_of_unknown_sensitivity(
    sums: NDArray[np.int64], noise: Noise, account: PrivacyAccount, ticket: ReleaseTicket, key: SigningKey
) -> Release:
    return release(sums, noise, account, ticket, key)  # E: mypy[arg-type] pyright[reportArgumentType]


def two_statistics_under_one_charge(first: Sensitive, second: Sensitive) -> object:
    return first + second  # E: mypy[operator] pyright[reportOperatorIssue]
