"""What is installed from the wheel is complete: types, scenarios with their data, and policies."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LOAD_SHIPPED = """
import fedseg
from fedseg.policy.document import load_policy
from fedseg.simulation.scenario import load_scenario
from fedseg.simulation.shipped import shipped
loaded = load_scenario(shipped("simulations/online_retail/scenario.toml"))
policy = loaded.folder / loaded.scenario.policy
load_policy(policy.read_bytes())
data = loaded.folder / loaded.scenario.data.file
print(fedseg.__file__, policy.resolve(strict=True), data.resolve(strict=True), sep="\\n")
"""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, as pip would lay them into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run(
        [*pip, "--wheel-dir", folder, ROOT], capture_output=True, text=True, check=False, timeout=120
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_says_it_is_typed(unpacked: Path) -> None:
    assert (unpacked / "fedseg" / "py.typed").is_file()


@pytest.mark.parametrize("folder", ["simulations", "policies"])
def test_the_wheel_ships_every_scenario_and_policy(folder: str, unpacked: Path) -> None:
    def files(root: Path) -> set[Path]:
        return {path.relative_to(root) for path in root.rglob("*") if path.is_file()}

    assert files(unpacked / "fedseg" / "shipped" / folder) == files(ROOT / folder) != set()


def test_the_wheel_ships_every_mapping_for_consents(unpacked: Path) -> None:
    shipped = {path.name for path in (unpacked / "fedseg/node/consent/mappings").iterdir()}
    assert shipped == {path.name for path in (ROOT / "fedseg/node/consent/mappings").iterdir()}
    assert "canonical-csv.toml" in shipped


def test_the_wheel_carries_its_licence_and_the_datas(unpacked: Path) -> None:
    licences = {path.name for path in unpacked.glob("*.dist-info/licenses/**/*") if path.is_file()}
    assert {"LICENSE", "LICENSE-DATA.md"} <= licences


def test_an_installed_wheel_finds_its_own_scenario(unpacked: Path, tmp_path: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", LOAD_SHIPPED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert shown.returncode == 0, shown.stderr
    assert all(Path(line).is_relative_to(unpacked) for line in shown.stdout.splitlines())
