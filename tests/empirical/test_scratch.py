"""The audit works on made-up customers alone, where nothing real is and none is expected."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedseg.empirical import pipeline
from fedseg.empirical.audit import audit_noise
from fedseg.empirical.parts import Part, Size
from fedseg.empirical.scratch import Row, make_units, require_scratch, write_customers
from fedseg.errors import SettingsError
from fedseg.node.home import NodeHome
from fedseg.node.source import open_source
from fedseg.plan import parse_plan
from tests.small_federation import make_unit, policy_document

TINY = Size(noise=10, pipeline=10, transcript=1)


@pytest.fixture
def unit(tmp_path: Path) -> NodeHome:
    """A real unit, whose source is a file in a folder outside its home."""
    home = make_unit(
        tmp_path / "units/north", "north", consenting=(), customers=b"customer\n", policy=policy_document()
    )
    (tmp_path / "exports/empty").mkdir(parents=True)
    source = home.settings.source.model_copy(update={"path": "../../exports/empty/customers.csv"})
    return replace(home, settings=home.settings.model_copy(update={"source": source}))


REFUSED: dict[str, Callable[[Path], Path]] = {
    "a unit's home": lambda path: path / "units/north",
    "a new folder in a unit's home": lambda path: path / "units/north/LOCAL/scratch",
    "a unit's table": lambda path: path / "units/north/LOCAL/customers.csv",
    "a folder in which units are": lambda path: path / "units",
    "where a unit's table is to come": lambda path: path / "exports/empty/customers.csv",
    "an empty folder in which a unit's table is to come": lambda path: path / "exports/empty",
    "a folder below the path of a unit's table": lambda path: path / "exports/empty/customers.csv/scratch",
}


@pytest.mark.parametrize("place", REFUSED.values(), ids=list(REFUSED))
def test_it_refuses_where_anything_real_is_or_is_expected(
    place: Callable[[Path], Path], unit: NodeHome, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SettingsError):
        audit_noise(TINY, scratch=place(tmp_path), real=[unit])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_link_to_a_home_is_that_home(unit: NodeHome, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(unit.path)
    with pytest.raises(SettingsError):
        require_scratch(tmp_path / "link/new")


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(SettingsError):
        require_scratch(tmp_path)


def test_a_temporary_folder_in_a_home_is_refused(unit: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(unit.path))
    with pytest.raises(SettingsError):
        audit_noise(TINY)


@pytest.mark.parametrize("name", ["new", "new/deeper", "empty"])
def test_a_new_or_empty_folder_is_taken_and_kept(name: str, unit: NodeHome, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    audit_noise(TINY, parts=[Part.PIPELINE], scratch=tmp_path / name, real=[unit])
    assert {one.parent.name for one in (tmp_path / name).glob("*/node.toml")} == {"one", "two"}


def test_made_up_units_read_what_was_written(tmp_path: Path) -> None:
    home, _ = make_units(tmp_path / "new", consenting=["a"], refusing=["b"])
    write_customers(home, [Row("a", "1", "2"), Row("b", "", "nan")])
    (batch,) = open_source(home, [one.column for one in parse_plan(_plan(tmp_path)).encoders]).batches()
    assert batch.num_rows == 2
    assert batch.column("level").to_pylist()[0] == 2


def _plan(place: Path) -> bytes:
    return pipeline._plan_document(0, [NodeHome.open(place / "new/one"), NodeHome.open(place / "new/two")])


def test_each_canary_has_a_cell_of_its_own_and_others_have_another() -> None:
    canaries = pipeline._canaries()
    cells = {one.cell for one in canaries}
    assert len(cells) == len(canaries) == len(pipeline.Kind) * 511
    assert max(cells) < pipeline._round().cells - 1
