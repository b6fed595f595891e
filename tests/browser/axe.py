"""axe-core, by which the tools of browsers judge accessibility, run on a page as it stands in Chromium."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

SERIOUS = ("serious", "critical")
"""What axe-core calls a barrier that keeps people from the content."""


def serious_violations(page: Page) -> list[str]:
    """Every serious or critical violation of axe-core's rules on `page`, one line for each place where it stands."""
    found: dict[str, Any] = Axe().run(page).response
    assert found["passes"], "axe-core has checked nothing"
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {' '.join(map(str, node['target']))}"
        for one in found["violations"]
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]
