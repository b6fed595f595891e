"""Every test of this folder runs in namespaces of its own; here they are entered, and the federation is set up once."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.system import namespaces
from tests.system.deployment import Federation, FirstRun, run_first_plan, set_up, stop
from tests.system.namespaces import World, is_inside, tell

WORLD = pytest.StashKey[World]()
MISSING = pytest.StashKey[str]()
LOG_CHARACTERS = 1500


@pytest.fixture(scope="session")
def deployed() -> Iterator[Federation]:
    """A server that runs, and three nodes that do not yet; whatever runs in the end is stopped."""
    made = set_up(namespaces.WORLD / "federation")
    yield made
    stop(made)


@pytest.fixture(scope="session")
def first_run(deployed: Federation) -> FirstRun:
    """The nodes' first plan, finished; from then on they run."""
    return run_first_plan(deployed)


@pytest.fixture(scope="session")
def federation(deployed: Federation, first_run: FirstRun) -> Federation:
    """A server and three connected nodes, with a run behind them."""
    del first_run  # it is here to have come first
    return deployed


# ------------------------------------------------------------------------------------------------------ in and out


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Outside, a test of this folder is what the pytest inside reports of it."""
    if is_inside() or not _is_ours(item):  # pytest calls this hook for the tests of other folders too
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in _reports(item):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With what has failed, show the ends of all logs."""
    report = yield
    if report.failed:
        for log in sorted(namespaces.WORLD.rglob("logs/*.log")):
            name = f"end of {log.relative_to(namespaces.WORLD)}"
            report.sections.append((name, log.read_text("utf-8", "replace")[-LOG_CHARACTERS:]))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Inside, a report goes outside."""
    if is_inside():
        tell({"report": report._to_json()})


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Inside, the end of a test is told too."""
    if is_inside():
        tell({"finished": nodeid})


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Nothing stays behind."""
    if WORLD in session.config.stash:
        session.config.stash[WORLD].end()


def _is_ours(item: pytest.Item) -> bool:
    return item.path.parent == Path(__file__).parent


def _reports(item: pytest.Item) -> list[pytest.TestReport]:
    stash = item.config.stash
    if MISSING not in stash:
        stash[MISSING] = namespaces.what_is_missing()
    if stash[MISSING]:
        return [_failed(item, stash[MISSING])]
    if WORLD not in stash:
        stash[WORLD] = _start(item.session)
    said = stash[WORLD].reports_of(item.nodeid)
    return [pytest.TestReport._from_json(one) for one in said] or [_failed(item, stash[WORLD].last_words())]


def _start(session: pytest.Session) -> World:
    """The pytest inside, with the tests of this folder that were asked for."""
    config = session.config
    tests = [item.nodeid for item in session.items if _is_ours(item)]
    quiet = config.getoption("capture") != "no"
    options = ["-p", "no:cacheprovider", f"--tb={config.getoption('tbstyle')}", *([] if quiet else ["--capture=no"])]
    return World([*options, *tests], quiet=quiet)


def _failed(item: pytest.Item, why: str) -> pytest.TestReport:
    return pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
