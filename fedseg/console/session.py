"""Who is at the desk: a link that opens the console once, and the session that follows. In memory alone; no files.

A console belongs to one officer on one machine, so it has one link and one session in its life. Its cookie is sent to
one path only, which is random: a browser does not keep the cookies of two ports of one machine apart, and another
service on it does not know the path.
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from fedseg.errors import ConsoleAccessError

LINK_SECONDS: Final = 600.0
"""How long the link may wait to be opened."""
IDLE_SECONDS: Final = 900.0
"""How long a session may rest."""
SESSION_SECONDS: Final = 28_800.0
"""How long a session may last: a working day."""
COOKIE: Final = "fedseg-console"
_SECRET_BYTES: Final = 32
_PATH_BYTES: Final = 16


def _secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


@dataclass(slots=True)
class _Session:
    """The one session."""

    began: float
    used: float
    cookie: str = field(default_factory=_secret, repr=False)
    form: str = field(default_factory=_secret, repr=False)


class Desk:
    """The link, and the session that it opens. Safe for many threads.

    Args:
        clock: Seconds that never go backwards.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.path: Final = f"/desk-{secrets.token_hex(_PATH_BYTES)}"
        """Where all pages are."""
        self._clock = clock
        self._made = clock()
        self._link: str | None = _secret()
        self._session: _Session | None = None
        self._turn = threading.Lock()

    @property
    def link(self) -> str:
        """The path that opens the console.

        Raises:
            ConsoleAccessError: If it has been opened.
        """
        if self._link is None:
            raise _refused("the link has been opened already", "it opens the console once")
        return f"{self.path}/open/{self._link}"

    def open(self, token: str) -> str:
        """The cookie of the session that the link's token opens; the link opens nothing more.

        Raises:
            ConsoleAccessError: If it is no such token, or has been used, or is too old.
        """
        with self._turn:
            known, now = self._link, self._clock()
            if known is None:
                raise _refused("the link has been opened already", "it opens the console once")
            if not _same(known, token):
                raise _refused("this is not the console's link", "its token is another")
            self._link = None
            if now - self._made > LINK_SECONDS:
                raise _refused("the link is too old", f"it waits {LINK_SECONDS / 60:.0f} minutes to be opened")
            self._session = _Session(began=now, used=now)
            return self._session.cookie

    def enter(self, cookie: str | None) -> str:
        """The token that forms of this session carry. What rests for too long, or lasts too long, is over.

        Raises:
            ConsoleAccessError: If the cookie is not that of a session that goes on.
        """
        with self._turn:
            session, now = self._session, self._clock()
            if session is not None and (now - session.used > IDLE_SECONDS or now - session.began > SESSION_SECONDS):
                self._session = session = None
            if session is None or cookie is None or not _same(session.cookie, cookie):
                raise _refused("this browser is not at the console", "it has no session, or the session is over")
            session.used = now
            return session.form

    def require_form(self, cookie: str | None, token: str | None) -> None:
        """Refuse a form that is not from a page of this session.

        Raises:
            ConsoleAccessError: If it is not, or there is no session.
        """
        if token is None or not _same(self.enter(cookie), token):
            raise _refused("this form is not from a page of the console", "its token is missing or another")

    def leave(self) -> None:
        """End the session."""
        with self._turn:
            self._session = None


def _same(known: str, given: str) -> bool:
    return secrets.compare_digest(known.encode(), given.encode("utf-8", "replace"))


def _refused(what: str, why: str) -> ConsoleAccessError:
    return ConsoleAccessError(
        what, why=why, fix="load the page again; if that does not help, start the console again and open its new link"
    )
