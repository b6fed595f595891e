"""One finished run and its report, looked at with a real browser."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from fedseg.report.render import write_report
from fedseg.simulation.runner import simulate
from fedseg.simulation.scenario import load_scenario
from tests.kinds_scenario import write_kinds_scenario
from tests.small_scenario import write_bounds_scenario

SCENARIO = Path(__file__).parents[2] / "simulations" / "online_retail" / "scenario.toml"


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("chromium is not installed, so nobody has looked at the report: apt-get install chromium")
    return found


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-quic"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a sound run, of the same run without its units' ledgers, of it with a tampered ledger; and of a run
    with features of every kind, and of a run for bounds.
    """
    folder = tmp_path_factory.mktemp("browser")
    simulate(load_scenario(SCENARIO), folder / "sound")
    server_only = Path(shutil.copytree(folder / "sound", folder / "server-only"))
    shutil.rmtree(server_only / "nodes")
    tampered = Path(shutil.copytree(folder / "sound", folder / "tampered"))
    with closing(sqlite3.connect(tampered / "server" / "ledger.db")) as connection:
        connection.execute("UPDATE payload SET data = zeroblob(8) WHERE id GLOB 'contribution:*'")
        connection.commit()
    simulate(load_scenario(write_kinds_scenario(folder / "scenario")), folder / "kinds")
    simulate(load_scenario(write_bounds_scenario(folder / "for-bounds")), folder / "bounds")
    for run in (folder / "sound", server_only, tampered, folder / "kinds", folder / "bounds"):
        write_report(run, run)
    return {run: folder / run / "report.html" for run in ("sound", "server-only", "tampered", "kinds", "bounds")}
