"""A request is public integers within bounds, and has one byte form."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.clustering.features import FEATURE_MAX
from fedseg.clustering.request import (
    CELLS_MAX,
    RADIUS_MAX,
    REQUEST_HEADER,
    REQUEST_MAGIC,
    RoundRequest,
    parse_request,
    request_bytes,
    request_sha256,
)
from fedseg.errors import RequestError

PLAN = "5a" * 32


@st.composite
def requests(draw: st.DrawFn) -> RoundRequest:
    cells, features = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    coins = np.random.default_rng(draw(st.integers(0, 10**6)))
    return RoundRequest(
        draw(st.integers(0, 2**32 - 1)),
        coins.integers(-FEATURE_MAX, FEATURE_MAX, (cells, features), np.int32, endpoint=True),
        coins.integers(1, RADIUS_MAX, cells, np.int32, endpoint=True),
    )


@given(requests())
def test_a_request_reads_back_as_it_was_written(request_: RoundRequest) -> None:
    plan, found = parse_request(request_bytes(PLAN, request_))
    assert plan == PLAN
    assert found.step == request_.step
    assert np.array_equal(found.centers, request_.centers)
    assert np.array_equal(found.radii, request_.radii)
    assert request_sha256(plan, found) == request_sha256(PLAN, request_)


@given(request_=requests(), data=st.data())
def test_bytes_changed_anywhere_are_another_request_or_none(request_: RoundRequest, data: st.DataObject) -> None:
    written = request_bytes(PLAN, request_)
    place = data.draw(st.integers(0, len(written) - 1))
    changed = bytearray(written)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        plan, found = parse_request(bytes(changed))
    except RequestError:
        return
    assert request_bytes(plan, found) == changed


def header(cells: int, features: int, magic: bytes = REQUEST_MAGIC) -> bytes:
    return REQUEST_HEADER.pack(magic, bytes(32), 0, cells, features)


REFUSED = {
    "nothing": b"",
    "half a header": header(1, 1)[:-1],
    "another magic": header(1, 1, b"fedseg-request-2") + bytes(8),
    "no cells": header(0, 1),
    "no features": header(1, 0) + bytes(4),
    "too many cells": header(CELLS_MAX + 1, 1) + bytes(8 * (CELLS_MAX + 1)),
    "numbers without end": header(2**32 - 1, 2**32 - 1),
    "too short": header(2, 2) + bytes(23),
    "too long": header(2, 2) + bytes(25),
    "a radius of nothing": header(1, 1) + bytes(8),
    "a center outside the box": header(1, 1) + np.array([FEATURE_MAX + 1, 1], "<i4").tobytes(),
    "the smallest integer": header(1, 1) + np.array([-(2**31), 1], "<i4").tobytes(),
    "a radius too long": header(1, 1) + np.array([0, RADIUS_MAX + 1], "<i4").tobytes(),
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=list(REFUSED))
def test_bytes_that_are_no_request_are_refused(data: bytes) -> None:
    with pytest.raises(RequestError):
        parse_request(data)


CENTERS, RADII = np.zeros((2, 3), np.int32), np.ones(2, np.int32)

WRONG: dict[str, tuple[Any, Any, Any]] = {
    "a step before the first": (-1, CENTERS, RADII),
    "centers in a row": (0, CENTERS[0], RADII),
    "no centers": (0, CENTERS[:0], RADII[:0]),
    "too many centers": (0, np.zeros((CELLS_MAX + 1, 1), np.int32), np.ones(CELLS_MAX + 1, np.int32)),
    "centers without features": (0, CENTERS[:, :0], RADII),
    "wide centers": (0, CENTERS.astype(np.int64), RADII),
    "float radii": (0, CENTERS, RADII.astype(np.float32)),
    "a radius too few": (0, CENTERS, RADII[:1]),
    "a radius of nothing": (0, CENTERS, RADII * 0),
}


@pytest.mark.parametrize("parts", WRONG.values(), ids=list(WRONG))
def test_a_request_is_right_from_birth(parts: tuple[Any, Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        RoundRequest(*parts)


def test_a_request_cannot_be_changed_later() -> None:
    request = RoundRequest(0, CENTERS.copy(), RADII.copy())
    for array in (request.centers, request.radii):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5
