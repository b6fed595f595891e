"""What was minted once cannot be made again: no forging, copying, changing or pickling of a value on the path."""

import copy
import dataclasses
import pickle
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from fedseg.clustering import encode
from fedseg.clustering.encode import BoundedFeatures
from fedseg.columns import numbers
from fedseg.policy import gate
from fedseg.policy.gate import ConsentedTable, Decisions
from fedseg.privacy import release, sensitive
from fedseg.privacy.release import NoiseShare, Release
from fedseg.privacy.sensitive import Sensitive, sum_of_rows
from fedseg.table import Table, table_of

SECRET = 3917


def empty_table() -> Table:
    return table_of([], numbers("spend"))


def decisions() -> Decisions:
    nobody = pa.array([], pa.binary(16))
    return Decisions.over(nobody, np.array([], np.uint8), datetime(2026, 1, 1, tzinfo=UTC), "purpose", "digest")


def statistic() -> Sensitive:
    row = np.array([[SECRET]], np.int64)
    return sum_of_rows([(np.array([0], np.intp), row)], cells=1, width=1, l2_sensitivity_squared=SECRET**2)


# The tokens are private: a test may reach for what production code may not.
MADE: dict[str, Callable[[], object]] = {
    "Release": lambda: Release("id", b"3917", release._TOKEN),
    "NoiseShare": lambda: NoiseShare(np.array([SECRET]), release._TOKEN),
    "Sensitive": statistic,
    "BoundedFeatures": lambda: BoundedFeatures(np.array([[SECRET]], np.int32), 1, encode._TOKEN),
    "ConsentedTable": lambda: ConsentedTable(numbers("spend"), empty_table(), decisions(), gate._MINT),
}

FORGED: dict[str, Callable[[], object]] = {
    "Release": lambda: Release("id", b"", object()),  # type: ignore[arg-type] # this is the forgery
    "Release with another module's token": lambda: Release("id", b"", sensitive._TOKEN),  # type: ignore[arg-type] # as above
    "NoiseShare": lambda: NoiseShare(np.array([1]), object()),  # type: ignore[arg-type] # as above
    "Sensitive": lambda: Sensitive(np.array([1]), 1, 0, object()),  # type: ignore[arg-type] # as above
    "BoundedFeatures": lambda: BoundedFeatures(np.array([[1]], np.int32), 1, object()),  # type: ignore[arg-type] # as above
    "ConsentedTable": lambda: ConsentedTable((), empty_table(), decisions(), object()),  # type: ignore[arg-type] # as above
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_nothing_on_the_path_is_made_without_the_token(forge: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        forge()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_nothing_on_the_path_is_copied_or_pickled(
    make: Callable[[], object], duplicate: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError):
        duplicate(make())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_no_pickle_protocol_takes_it(make: Callable[[], object], protocol: int) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(make(), protocol)


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_replace_makes_no_second_value(make: Callable[[], object]) -> None:
    value = make()
    assert dataclasses.is_dataclass(value)
    assert not isinstance(value, type)
    # Python 3.11 says ValueError where later versions say TypeError: the token is no field, so it is not copied.
    with pytest.raises((TypeError, ValueError), match=r"token|mint"):
        dataclasses.replace(value)


def test_replace_takes_no_other_token() -> None:
    minted = Release("id", b"", release._TOKEN)
    with pytest.raises(TypeError):
        dataclasses.replace(minted, payload=b"other", token=object())  # type: ignore[arg-type] # a forgery again


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_no_value_on_the_path_can_be_changed(make: Callable[[], object]) -> None:
    value = make()
    assert dataclasses.is_dataclass(value)
    for field in dataclasses.fields(value):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)


@pytest.mark.parametrize("kind", [name for name in MADE if name != "Release"])
def test_no_unnoised_value_is_printed(kind: str) -> None:
    assert str(SECRET) not in repr(MADE[kind]()) + str(MADE[kind]())


@pytest.mark.parametrize("kind", ["NoiseShare", "Sensitive", "BoundedFeatures"])
def test_no_unnoised_value_becomes_an_array_of_numbers(kind: str) -> None:
    try:
        array = np.asarray(MADE[kind]())
    except TypeError:
        return
    assert array.dtype == object, "NumPy got at the numbers"
    assert array.shape == ()
