"""`RoundRequest`: what the server asks for in one round, all of it public and all of it integers."""

import hashlib
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedseg.clustering.features import DIMENSIONS_MAX, FEATURE_MAX
from fedseg.errors import RequestError

RADIUS_MAX = 2**25
"""Largest clip radius in encoded units: the half diagonal of the box with the most features."""

CELLS_MAX = 2**12
"""Most reference points in one round."""

REQUEST_MAGIC = b"fedseg-request-1"
REQUEST_HEADER = struct.Struct(">16s32sIII")
"""Magic, plan hash, step, cells, features; then centers and radii as little-endian int32."""


@dataclass(frozen=True, slots=True, eq=False)
class RoundRequest:
    """Reference points and clip radii of one round, in encoded feature units. Made from released values only."""

    step: int
    """Which round of the plan, from 0."""
    centers: NDArray[np.int32]
    """Reference points, shape (cells, features), within +-FEATURE_MAX."""
    radii: NDArray[np.int32]
    """Clip radius of each cell, shape (cells,), in [1, RADIUS_MAX]."""

    def __post_init__(self) -> None:
        if self.step < 0:
            raise ValueError("a step is counted from 0")
        if self.centers.ndim != 2 or not 1 <= len(self.centers) <= CELLS_MAX or self.centers.shape[1] < 1:  # noqa: PLR2004 (a matrix)
            raise ValueError("centers must have shape (cells, features)")
        if self.centers.dtype != np.int32 or self.radii.dtype != np.int32:
            raise ValueError("centers and radii must be 32-bit integers")
        if self.radii.shape != (len(self.centers),):
            raise ValueError("radii must have shape (cells,)")
        if (np.abs(self.centers.astype(np.int64)) > FEATURE_MAX).any():
            raise ValueError("a center lies outside the box")
        if (self.radii < 1).any() or (self.radii > RADIUS_MAX).any():
            raise ValueError("a radius lies outside [1, 2**25]")
        self.centers.flags.writeable = False
        self.radii.flags.writeable = False

    @property
    def cells(self) -> int:
        """Number of reference points."""
        return len(self.centers)


def request_bytes(plan_sha256: str, request: RoundRequest) -> bytes:
    """The one byte form of a request for a plan; its hash is part of every release id."""
    cells, features = request.centers.shape
    header = REQUEST_HEADER.pack(REQUEST_MAGIC, bytes.fromhex(plan_sha256), request.step, cells, features)
    return header + request.centers.astype("<i4").tobytes() + request.radii.astype("<i4").tobytes()


def request_sha256(plan_sha256: str, request: RoundRequest) -> str:
    """sha256 in hex of `request_bytes`."""
    return hashlib.sha256(request_bytes(plan_sha256, request)).hexdigest()


def parse_request(data: bytes) -> tuple[str, RoundRequest]:
    """The plan hash and request in these bytes.

    Raises:
        RequestError: If they are anything else.
    """
    try:
        magic, plan, step, cells, features = REQUEST_HEADER.unpack_from(data)
    except struct.error as error:
        raise _refused() from error
    if magic != REQUEST_MAGIC or not 1 <= cells <= CELLS_MAX or not 1 <= features <= DIMENSIONS_MAX:
        raise _refused()
    if len(data) != REQUEST_HEADER.size + 4 * cells * (features + 1):
        raise _refused()
    numbers = np.frombuffer(data, "<i4", offset=REQUEST_HEADER.size).astype(np.int32)
    split = cells * features
    try:
        request = RoundRequest(step, numbers[:split].reshape(cells, features).copy(), numbers[split:].copy())
    except ValueError as error:
        raise _refused() from error
    return plan.hex(), request


def _refused() -> RequestError:
    return RequestError(
        "a request could not be read",
        why="its bytes are not a request for a plan",
        fix="use the same version at server and units",
    )
