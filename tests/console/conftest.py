"""A unit with a history, its console in this process, and a browser's side of the conversation."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from fedseg.console.guard import HEADERS
from fedseg.console.pages import Room, application
from fedseg.console.plans import Signer
from fedseg.console.session import COOKIE, Desk
from fedseg.node.home import NodeHome
from tests.console_unit import ConsoleUnit, make_console_unit

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
AUTHORITY = "127.0.0.1:8440"


@dataclass
class Browser:
    """The console of one unit, and what a browser sends to it."""

    unit: ConsoleUnit
    signer: Signer | None
    seconds: float = 0.0
    """What the desk's clock says."""
    now: datetime = NOW
    stopped: int = 0
    cookies: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.desk = Desk(lambda: self.seconds)
        self.link = self.desk.link
        room = Room(self.unit.home.path, AUTHORITY, self.signer, (self.unit.segments,))
        self.made = application(room, self.desk, stop=self._stop, clock=lambda: self.now)

    def open(self) -> "Browser":
        """Follow the link."""
        answer = self.send("GET", self.link)
        assert answer.status_code == 303
        self.cookies = {COOKIE: answer.cookies[COOKIE]}
        return self

    def get(self, path: str) -> httpx.Response:
        """A page of the desk."""
        return self.send("GET", self.desk.path + path)

    def fields(self, plan: int = 0) -> dict[str, str]:
        """What the first form about a waiting plan carries."""
        page = self.get(f"/plans/{self.unit.waiting[plan].digest}").text
        form = page[page.index('action="' + self.desk.path + "/plans/") :]
        return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', form))

    def decide(self, verdict: str, plan: int = 0, **changes: str) -> httpx.Response:
        """Press a button of a plan's page; `changes` are to what the form carries."""
        fields = self.fields(plan) | changes
        return self.post(f"/plans/{self.unit.waiting[plan].digest}/{verdict}", fields)

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> httpx.Response:
        """Send a form as a page of the console would."""
        sent = {"Origin": f"http://{AUTHORITY}", "Content-Type": "application/x-www-form-urlencoded", **headers}
        return self.send("POST", self.desk.path + path, urlencode(fields).encode(), sent)

    def send(
        self,
        method: str,
        path: str,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.made, raise_app_exceptions=False)
            base = f"http://{AUTHORITY}"
            async with httpx.AsyncClient(transport=transport, base_url=base, cookies=self.cookies) as client:
                return await client.request(method, path, content=content, headers=headers)

        answer = asyncio.run(send())
        for name, value in HEADERS.items():
            assert answer.headers.get_list(name) == [value], f"every answer has {name}"
        return answer

    def _stop(self) -> None:
        self.stopped += 1


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> ConsoleUnit:
    return make_console_unit(tmp_path_factory.mktemp("console"), NOW)


@pytest.fixture
def unit(made_once: ConsoleUnit, tmp_path: Path) -> ConsoleUnit:
    """A unit for this test alone."""
    folder = shutil.copytree(made_once.folder, tmp_path / "unit")
    home = NodeHome.open(folder / "units" / "north")
    return replace(made_once, folder=folder, home=home, segments=folder / "segmentation.json")


@pytest.fixture
def closed(unit: ConsoleUnit) -> Browser:
    """The console of ann, whose link nobody has opened."""
    return Browser(unit, Signer("ann", unit.key("ann")))


@pytest.fixture
def browser(closed: Browser) -> Browser:
    """Ann at the console."""
    return closed.open()


@pytest.fixture
def sit_down(unit: ConsoleUnit) -> Callable[[str | None], Browser]:
    """An officer, or nobody in particular, at a console of the same unit."""
    return lambda name: Browser(unit, None if name is None else Signer(name, unit.key(name))).open()
