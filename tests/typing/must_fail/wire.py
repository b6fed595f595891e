"""Only a `Release` has a form on the wire. Each marked line is a mistake that both type checkers find."""

import numpy as np
from numpy.typing import NDArray

from fedseg.federation import wire
from fedseg.privacy.release import NoiseShare, Release
from fedseg.privacy.sensitive import Sensitive
from fedseg.server.contribution import Contribution


def unnoised_statistic_to_the_wire(statistic: Sensitive) -> bytes:
    return wire.encode(statistic)  # E: mypy[arg-type] pyright[reportArgumentType]


def raw_numbers_to_the_wire(sums: NDArray[np.int64]) -> bytes:
    return wire.encode(sums)  # E: mypy[arg-type] pyright[reportArgumentType]


def raw_bytes_to_the_wire(sums: NDArray[np.int64]) -> bytes:
    return wire.encode(sums.tobytes())  # E: mypy[arg-type] pyright[reportArgumentType]


def a_share_of_the_noise_to_the_wire(share: NoiseShare) -> bytes:
    return wire.encode(share)  # E: mypy[arg-type] pyright[reportArgumentType]


def a_reply_sent_on_by_the_server(contribution: Contribution) -> bytes:
    return wire.encode(contribution)  # E: mypy[arg-type] pyright[reportArgumentType]


def perhaps_a_release_to_the_wire(release: Release | None) -> bytes:
    return wire.encode(release)  # E: mypy[arg-type] pyright[reportArgumentType]


def bytes_of_a_share(share: NoiseShare) -> object:
    return share.payload  # E: mypy[attr-defined] pyright[reportAttributeAccessIssue]
