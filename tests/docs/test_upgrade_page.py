"""What the page about upgrades says of forms of files: another one is refused, with the code that the page names."""

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from fedseg.deploy.settings import NodeDeployment, NodeTerms
from fedseg.deploy.users import caller
from fedseg.errors import FedsegError
from fedseg.node.home import NodeHome
from fedseg.policy.document import load_policy
from fedseg.simulation.runner import RunResult
from tests.docs.transcripts import ROOT

pytestmark = pytest.mark.docs

PAGE = (ROOT / "docs/how-to/upgrade.md").read_text("utf-8")


@pytest.fixture
def unit(run: RunResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.out / "nodes/partner-a", tmp_path / "unit"))


def of_version(path: Path, version: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {version}")


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(FedsegError) as caught:
        act()
    return caught.value.code


def codes_of(row: str) -> set[str]:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {row}")]
    return set(re.findall(r"E\d{3}", line))


def test_settings_of_another_version_are_refused(unit: Path, tmp_path: Path) -> None:
    me = caller().name
    terms = NodeTerms(unit="north", unit_key="", server="a.example:1", network_user=me, data_user=me)
    values = terms.model_dump(mode="json", exclude_none=True) | {"version": 2}
    (tmp_path / "deployment.toml").write_text(tomli_w.dumps(values), encoding="utf-8")
    settings = unit / "node.toml"
    settings.write_text(settings.read_text("utf-8").replace("version = 1", "version = 2"), encoding="utf-8")
    codes = {refused(lambda: NodeDeployment.open(tmp_path)), refused(lambda: NodeHome.open(unit).settings)}
    assert codes == codes_of("`deployment.toml`, `node.toml`")


def test_a_policy_of_another_version_is_refused(unit: Path) -> None:
    document = (unit / "policy.yaml").read_bytes()
    assert {refused(lambda: load_policy(document.replace(b"version: 1", b"version: 2")))} == codes_of("`policy.yaml`")


def test_a_register_of_a_later_version_is_refused(unit: Path) -> None:
    of_version(unit / "LOCAL/register.db", 99)
    assert {refused(lambda: NodeHome.open(unit).register())} == codes_of("the consent register")


def test_a_list_of_erased_people_of_a_later_version_is_refused(unit: Path) -> None:
    of_version(unit / "LOCAL/rights.db", 99)
    refused(lambda: NodeHome.open(unit).rights())
