"""A `Release` comes from `release()` alone. Each marked line is a mistake that both type checkers find."""

from dataclasses import replace

from fedseg.privacy.release import NoiseShare, Release
from fedseg.privacy.sensitive import Sensitive
from fedseg.policy.gate import ConsentedTable
from fedseg.clustering.encode import BoundedFeatures


def a_release_without_the_token(payload: bytes) -> Release:
    return Release("id", payload)  # E: mypy[call-arg] pyright[reportCallIssue]


def a_release_with_some_token(payload: bytes) -> Release:
    return Release("id", payload, object())  # E: mypy[arg-type] pyright[reportArgumentType]


class MyRelease(Release):  # E: mypy[misc] pyright[reportGeneralTypeIssues]
    """Anyone's subclass would carry anyone's bytes."""


class MySensitive(Sensitive):  # E: mypy[misc] pyright[reportGeneralTypeIssues]
    """A statistic of no enforced sensitivity."""


class MyShare(NoiseShare):  # E: mypy[misc] pyright[reportGeneralTypeIssues]
    """A share with a wire form."""


class MyTable(ConsentedTable):  # E: mypy[misc] pyright[reportGeneralTypeIssues]
    """A table that passed no gate."""


class MyFeatures(BoundedFeatures):  # E: mypy[misc] pyright[reportGeneralTypeIssues]
    """Features of no bound."""


def other_bytes_in_a_release(minted: Release, payload: bytes) -> None:
    minted.payload = payload  # E: mypy[misc] pyright[reportAttributeAccessIssue]


def a_copied_release(minted: Release, payload: bytes) -> Release:
    # Pyright knows no signature of replace() before Python 3.13; at run time the missing token is an error.
    return replace(minted, payload=payload)  # E: mypy[call-arg]
