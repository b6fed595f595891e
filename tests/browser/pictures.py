"""Pictures of pages for the documentation: `python -m tests.browser.pictures`."""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize, sync_playwright

from fedseg.cli.segments import write_page_of
from fedseg.report.officer.evidence import gather
from fedseg.report.officer.pack import Question, write
from fedseg.simulation.runner import simulate
from fedseg.simulation.scenario import load_scenario
from tests.console_unit import make_console_unit, running_console

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
DESK, TELEPHONE = ViewportSize(width=960, height=700), ViewportSize(width=390, height=700)


def main() -> None:
    """Write them."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-quic"])
        of_the_console(opened, Path(folder) / "unit")
        of_a_run(opened, Path(folder) / "run")
        opened.close()


def of_the_console(opened: Browser, folder: Path) -> None:
    """The overview, the end of a plan's page, how an approval is taken back, and requests on a telephone."""
    unit = make_console_unit(folder, datetime.now(UTC))
    with running_console(unit, "ann") as link:
        page = opened.new_page(viewport=DESK)
        page.goto(link)
        root = page.url.rstrip("/")
        page.screenshot(path=IMAGES / "console-overview.png")
        page.goto(f"{root}/plans/{unit.waiting[0].digest}#decide")
        page.screenshot(path=IMAGES / "console-decide.png")
        page.goto(f"{root}/plans/{unit.approved[1].digest}/revoke")
        page.screenshot(path=IMAGES / "console-revoke.png")
        page.set_viewport_size(TELEPHONE)
        page.goto(f"{root}/requests")
        page.screenshot(path=IMAGES / "console-requests-390.png")


def of_a_run(opened: Browser, run: Path) -> None:
    """The tops of the segment page and of the officer's report about the demonstration."""
    simulate(load_scenario(ROOT / "simulations" / "online_retail" / "scenario.toml"), run)
    write_page_of(run, run / "segments.html")
    write(gather([run]), Question(None, {}, None, None), run / "desk")
    for name, file in (("segment-page", "segments.html"), ("officers-report", "desk/report.html")):
        page = opened.new_page(viewport=DESK)
        page.goto((run / file).as_uri())
        page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
