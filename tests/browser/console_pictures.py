"""Pictures of the console for its how-to: `python -m tests.browser.console_pictures`."""

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.console_unit import make_console_unit, running_console

IMAGES = Path(__file__).parents[2] / "docs" / "images"


def main() -> None:
    """Write them."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        unit = make_console_unit(Path(folder) / "unit", datetime.now(UTC))
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-quic"])
        with running_console(unit, "ann") as link:
            page = opened.new_page(viewport={"width": 1000, "height": 860})
            page.goto(link)
            root = page.url.rstrip("/")
            page.screenshot(path=IMAGES / "console-overview.png")
            page.goto(f"{root}/plans/{unit.waiting[0].digest}#decide")
            page.screenshot(path=IMAGES / "console-decide.png")
            page.set_viewport_size({"width": 390, "height": 844})
            page.goto(f"{root}/requests")
            page.screenshot(path=IMAGES / "console-requests-390.png")
        opened.close()


if __name__ == "__main__":
    main()
