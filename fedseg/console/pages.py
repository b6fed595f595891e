"""The console as an ASGI application: pages for one unit's officer, and forms that decide about a plan.

The forms call what `fedseg approve`, `deny` and `revoke` call. Everything else only reads.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from fedseg import __version__
from fedseg.console.account import account_of, steps
from fedseg.console.guard import Guard, form_of
from fedseg.console.outlook import outlook_of
from fedseg.console.plans import Signer, inbox_of, outcome_of, plan_of
from fedseg.console.records import ledger_of, published_in, requests_of
from fedseg.console.render import file, page
from fedseg.console.revoking import revocation_of
from fedseg.console.session import COOKIE, Desk
from fedseg.errors import (
    ConsoleAccessError,
    DataError,
    FedsegError,
    SettingsError,
    VerificationError,
)
from fedseg.looks import style_sheet
from fedseg.node.approvals import approve, approved_digest, deny, end_approval
from fedseg.node.consent.status import consent_status
from fedseg.node.decision import Basis
from fedseg.node.home import NodeHome
from fedseg.node.inbox import Inbox
from fedseg.policy.document import load_policy
from fedseg.privacy.entries import Ending
from fedseg.privacy.signatures import Officer
from fedseg.report.officer.budgets import PACE_DAYS_MIN

log = logging.getLogger(__name__)
_FOUND = TypeVar("_FOUND")

REASON_CHARACTERS_MAX: Final = 2000
_ENDINGS: Final = {str(one): one for one in (Ending.REVOKED, Ending.CANCELLED)}
EXPIRING_DAYS: Final = 30
"""Consents that end within so many days are counted."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the console is about."""

    home: Path
    """The unit's home; opened anew for each page, so that no page shows what was."""
    authority: str
    """Host and port, as a browser names them."""
    signer: Signer | None
    segments: Sequence[Path]
    """Where published results are."""

    @property
    def origin(self) -> str:
        """As a browser names it."""
        return f"http://{self.authority}"


def application(
    room: Room, desk: Desk, *, stop: Callable[[], None], clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> ASGIApp:
    """The console, for one process.

    Args:
        room: What it is about.
        desk: Who may use it.
        stop: Ends the process; called when the officer signs out.
        clock: Now.
    """
    pages = _Pages(room, desk, stop, clock)
    routes = [
        Route("/open/{token}", pages.open, methods=["GET"]),
        Route("/leave", pages.leave, methods=["POST"]),
        *(Route(path, pages.shown(show), methods=["GET"]) for path, show in pages.all().items()),
        Route("/plans/{plan}/approve", pages.approve, methods=["POST"]),
        Route("/plans/{plan}/deny", pages.deny, methods=["POST"]),
        Route("/plans/{plan}/revoke", pages.revoke, methods=["POST"]),
    ]
    files = [
        Route("/console.css", _sent(style_sheet(file("console.css")), "text/css"), methods=["GET"]),
        Route("/icon.svg", _sent(file("icon.svg"), "image/svg+xml"), methods=["GET"]),
    ]
    made = Starlette(
        routes=[*files, Mount(desk.path, routes=routes)],
        exception_handlers={HTTPException: pages.lost, FedsegError: pages.failed, Exception: pages.broken},
    )
    made.router.redirect_slashes = False
    return Guard(made, room.authority, pages.refusal)


class _Pages:
    """The pages."""

    def __init__(self, room: Room, desk: Desk, stop: Callable[[], None], clock: Callable[[], datetime]) -> None:
        self._room = room
        self._desk = desk
        self._stop = stop
        self._clock = clock

    def all(self) -> dict[str, Callable[[Request, NodeHome], Response]]:
        """What shows each page."""
        return {
            "/": self.overview,
            "/plans": self.inbox,
            "/plans/{plan}": self.plan,
            "/plans/{plan}/outcome": self.outcome,
            "/plans/{plan}/revoke": self.revocation,
            "/consent": self.consent,
            "/requests": self.requests,
            "/ledger": self.ledger,
            "/segments": self.segments,
        }

    def shown(self, show: Callable[[Request, NodeHome], Response]) -> Callable[[Request], Response]:
        """A page that only a session gets to see."""

        @functools.wraps(show)
        def endpoint(request: Request) -> Response:
            self._desk.enter(request.cookies.get(COOKIE))
            return show(request, NodeHome.open(self._room.home))

        return endpoint

    def open(self, request: Request) -> Response:
        """The link: it becomes a session, and is worth nothing any more."""
        cookie = self._desk.open(request.path_params["token"])
        log.info("console.opened")
        response = RedirectResponse(f"{self._desk.path}/", 303)
        response.set_cookie(COOKIE, cookie, path=self._desk.path, httponly=True, samesite="strict")
        return response

    def overview(self, request: Request, home: NodeHome) -> Response:
        now = self._clock()
        today = now.astimezone(UTC).date()
        policy = load_policy(home.policy_document())
        account = account_of(home, today)
        return self._page(
            request,
            "overview",
            policy=policy,
            account=account,
            lines={name: steps(account.days, name, today) for name in ("left", "unsent")},
            today=today,
            pace_days_min=PACE_DAYS_MIN,
            outlook=_attempt(lambda: outlook_of(home, account, today)),
            inbox=_attempt(lambda: inbox_of(home)),
            requests=_attempt(lambda: requests_of(home, today)),
        )

    def inbox(self, request: Request, home: NodeHome) -> Response:
        return self._page(request, "inbox", inbox=inbox_of(home))

    def plan(self, request: Request, home: NodeHome) -> Response:
        facts = plan_of(home, request.path_params["plan"], self._room.signer, self._clock())
        return self._page(request, "plan", facts=facts, reason_max=REASON_CHARACTERS_MAX)

    def outcome(self, request: Request, home: NodeHome) -> Response:
        return self._page(request, "outcome", outcome=outcome_of(home, request.path_params["plan"], self._clock()))

    def revocation(self, request: Request, home: NodeHome) -> Response:
        facts = revocation_of(home, request.path_params["plan"], self._room.signer, self._clock())
        return self._page(request, "revoke", facts=facts)

    def consent(self, request: Request, home: NodeHome) -> Response:
        found = consent_status(home, now=self._clock(), days=EXPIRING_DAYS)
        return self._page(request, "consent", found=found, days=EXPIRING_DAYS)

    def requests(self, request: Request, home: NodeHome) -> Response:
        today = self._clock().astimezone(UTC).date()
        return self._page(request, "requests", lines=requests_of(home, today), today=today)

    def ledger(self, request: Request, home: NodeHome) -> Response:
        return self._page(request, "ledger", found=ledger_of(home))

    def segments(self, request: Request, home: NodeHome) -> Response:
        return self._page(request, "segments", published=published_in(home, self._room.segments))

    async def approve(self, request: Request) -> Response:
        """As `fedseg approve`."""

        def decide(decision: "_Decision") -> None:
            waiting = Inbox(decision.home).find(decision.plan_sha256)
            attested = waiting.plan.max_units_to_attest
            if attested is not None and decision.fields.get("attested") != str(attested):
                attested = None
            approve(
                decision.home,
                waiting.plan,
                waiting.document,
                now=decision.now,
                expected_sha256=decision.plan_sha256,
                max_units_attested=attested,
                officer=decision.officer,
                requester=waiting.signature,
                shown=decision.shown,
            )

        return await self._decide(request, decide)

    async def deny(self, request: Request) -> Response:
        """As `fedseg deny`."""

        def decide(decision: "_Decision") -> None:
            reason = decision.fields.get("reason", "").strip()
            if not 0 < len(reason) <= REASON_CHARACTERS_MAX:
                raise SettingsError(
                    "the reason is missing or too long",
                    why=f"a plan is refused with a reason of at most {REASON_CHARACTERS_MAX:,} characters",
                    fix="go back to the plan and write a reason",
                )
            deny(
                decision.home,
                Inbox(decision.home).find(decision.plan_sha256).plan.digest,
                reason,
                now=decision.now,
                officer=decision.officer,
                shown=decision.shown,
            )

        return await self._decide(request, decide)

    async def revoke(self, request: Request) -> Response:
        """As `fedseg revoke`."""

        def decide(decision: "_Decision") -> None:
            ending = _ENDINGS.get(decision.fields.get("ending", ""))
            if ending is None or decision.fields.get("understood") != "yes":
                raise SettingsError(
                    "the approval was not taken back",
                    why="how it should end was not said, or not that it cannot be undone",
                    fix="go back to the page, tick the box below the way you mean, and send it again",
                )
            end_approval(
                decision.home,
                approved_digest(decision.home, decision.plan_sha256),
                ending,
                now=decision.now,
                officer=decision.officer,
                shown=decision.shown,
            )

        return await self._decide(request, decide)

    async def leave(self, request: Request) -> Response:
        """End the session, and the console with it."""
        fields = await form_of(request, self._room.origin)
        self._desk.require_form(request.cookies.get(COOKIE), fields.get("form"))
        self._desk.leave()
        self._stop()
        log.info("console.left")
        response = HTMLResponse(page("left", version=__version__))
        response.delete_cookie(COOKIE, path=self._desk.path, httponly=True, samesite="strict")
        return response

    def refusal(self, error: FedsegError, status: int | None = None, request: Request | None = None) -> Response:
        """The page of an error; where the pages are, it tells only to who knows."""
        back = "" if request is None or not self._is_known(request) else f"{self._desk.path}/"
        return HTMLResponse(page("error", version=__version__, error=error, back=back), status or _status_of(error))

    async def lost(self, request: Request, error: Exception) -> Response:
        """There is no such page."""
        if not isinstance(error, HTTPException):
            raise TypeError("registered for HTTPException alone")
        missing = SettingsError(
            "there is no such page", why="the console has no page of this address", fix="go back to the overview"
        )
        return self.refusal(missing, error.status_code, request)

    async def failed(self, request: Request, error: Exception) -> Response:
        """What a page could not do."""
        if not isinstance(error, FedsegError):
            raise TypeError("registered for FedsegError alone")
        log.warning("console.refused code=%s", error.code)
        return self.refusal(error, request=request)

    async def broken(self, request: Request, error: Exception) -> Response:
        """A defect, or a file that cannot be read; nothing of it is told but its class."""
        return self.refusal(
            FedsegError(
                "the console failed unexpectedly",
                why=type(error).__name__,
                fix="try the command that the page stands for, with --debug, and report what it prints",
            ),
            request=request,
        )

    async def _decide(self, request: Request, decide: "Callable[[_Decision], None]") -> Response:
        fields = await form_of(request, self._room.origin)
        self._desk.require_form(request.cookies.get(COOKIE), fields.get("form"))
        plan = str(request.path_params["plan"])

        def work() -> None:
            home = NodeHome.open(self._room.home)
            shown = Basis(*(fields.get(name, "") for name in ("policy_sha256", "source_sha256", "made_on")))
            officer = None if self._room.signer is None else self._room.signer.officer()
            decide(_Decision(home, plan, fields, shown, officer, self._clock()))

        await run_in_threadpool(work)
        log.info("plan.decided plan=%s", plan[:16])
        return RedirectResponse(f"{self._desk.path}/plans/{quote(plan, safe='')}/outcome", 303)

    def _is_known(self, request: Request) -> bool:
        try:
            self._desk.enter(request.cookies.get(COOKIE))
        except ConsoleAccessError:
            return False
        return True

    def _page(self, request: Request, template: str, **facts: Any) -> Response:
        form = self._desk.enter(request.cookies.get(COOKIE))
        signer = self._room.signer
        unit = NodeHome.open(self._room.home).settings.unit
        here = request.url.path.removeprefix(self._desk.path)
        return HTMLResponse(
            page(
                template,
                version=__version__,
                root=self._desk.path,
                form=form,
                unit=unit,
                home=self._room.home,
                signer=signer,
                here=here,
                now=self._clock().astimezone(UTC),
                **facts,
            )
        )


@dataclass(frozen=True, slots=True)
class _Decision:
    """What a form asks for."""

    home: NodeHome
    plan_sha256: str
    """Of the page that the form is on."""
    fields: dict[str, str]
    shown: Basis
    officer: Officer | None
    now: datetime


def _attempt(look: Callable[[], _FOUND]) -> _FOUND | FedsegError:
    """What is found, or why it cannot be."""
    try:
        return look()
    except FedsegError as error:
        return error


def _status_of(error: FedsegError) -> int:
    """The status of an error's page."""
    if isinstance(error, ConsoleAccessError):
        return 403
    return 500 if isinstance(error, (DataError, VerificationError)) or type(error) is FedsegError else 409


def _sent(content: str, media_type: str) -> Callable[[Request], Response]:
    """What ships with the console, and says nothing about anybody."""

    def endpoint(_: Request) -> Response:
        return Response(content, media_type=media_type)

    return endpoint
