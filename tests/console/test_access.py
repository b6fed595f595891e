"""Who gets to the console: one link, one session, one address, and forms of its own pages alone."""

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedseg.console import guard
from fedseg.console.guard import BODY_BYTES_MAX, read_form
from fedseg.console.plans import Signer, require_signer
from fedseg.console.serving import run
from fedseg.console.session import COOKIE, IDLE_SECONDS, LINK_SECONDS, SESSION_SECONDS
from fedseg.errors import ConsoleAccessError, KeyFileError, SettingsError, TrustError
from tests.console.conftest import AUTHORITY, Browser

PAGES = ["/", "/plans", "/consent", "/requests", "/ledger", "/segments"]


@pytest.mark.parametrize("page", [*PAGES, "/plans/000000", "/plans/000000/outcome", "/plans/000000/revoke"])
def test_no_page_without_the_session(closed: Browser, page: str) -> None:
    for cookies in ({}, {COOKIE: "x"}, {COOKIE: closed.link.rpartition("/")[2]}):
        closed.cookies = cookies
        answer = closed.get(page)
        assert (answer.status_code, "E715" in answer.text, "north" in answer.text) == (403, True, False)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_with_it(browser: Browser, page: str) -> None:
    answer = browser.get(page)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_the_link_opens_the_console_once(closed: Browser) -> None:
    closed.open()
    again = closed.send("GET", closed.link)
    assert (again.status_code, "set-cookie" in again.headers) == (403, False)
    assert "opened already" in again.text
    assert closed.get("/").status_code == 200, "who has the session keeps it"
    with pytest.raises(ConsoleAccessError):
        _ = closed.desk.link


def test_a_wrong_token_opens_nothing_and_uses_nothing_up(closed: Browser) -> None:
    assert closed.send("GET", f"{closed.desk.path}/open/{'x' * 43}").status_code == 403
    assert closed.send("GET", f"/desk-{'0' * 32}/open/{closed.link.rpartition('/')[2]}").status_code == 404
    assert closed.send("GET", f"{closed.desk.path}/open/%ED%A0%80").status_code == 403
    closed.open()


def test_a_link_that_waited_too_long_opens_nothing(closed: Browser) -> None:
    closed.seconds = LINK_SECONDS + 1
    for _ in range(2):
        assert closed.send("GET", closed.link).status_code == 403


def test_a_session_that_rests_is_over(browser: Browser) -> None:
    browser.seconds += IDLE_SECONDS
    assert browser.get("/").status_code == 200
    browser.seconds += IDLE_SECONDS + 1
    assert browser.get("/").status_code == 403
    browser.seconds -= IDLE_SECONDS
    assert browser.get("/").status_code == 403, "for good"


def test_a_session_lasts_a_day_at_most(browser: Browser) -> None:
    while browser.seconds + IDLE_SECONDS <= SESSION_SECONDS:
        browser.seconds += IDLE_SECONDS
        assert browser.get("/").status_code == 200
    browser.seconds = SESSION_SECONDS + 1
    assert browser.get("/").status_code == 403


def test_scripts_and_other_ports_and_other_sites_do_not_get_the_cookie(closed: Browser) -> None:
    said = closed.send("GET", closed.link).headers["set-cookie"].lower().split("; ")
    assert set(said[1:]) == {"httponly", "samesite=strict", f"path={closed.desk.path}"}
    assert len(closed.desk.path) >= 32, "nobody guesses the path"


def test_signing_out_ends_session_and_console(browser: Browser) -> None:
    form = browser.fields()["form"]
    assert browser.post("/leave", {"form": "x"}).status_code == 403
    assert browser.stopped == 0
    answer = browser.post("/leave", {"form": form})
    assert (answer.status_code, browser.stopped) == (200, 1)
    assert browser.get("/").status_code == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8440",
        "localhost:8440",
        "127.0.0.1",
        "127.0.0.1:8441",
        f"{AUTHORITY}.evil.example",
        "",
    ],
)
def test_no_name_but_its_own_reaches_anything(browser: Browser, host: str) -> None:
    for path in ("/console.css", f"{browser.desk.path}/", "/nothing"):
        answer = browser.send("GET", path, headers={"Host": host})
        assert (answer.status_code, "E715" in answer.text) == (403, True)
        assert browser.desk.path not in answer.text


@pytest.mark.parametrize(
    "origin",
    [None, "null", "http://evil.example", "http://127.0.0.1:8441", "https://127.0.0.1:8440", f"http://{AUTHORITY}/"],
)
def test_no_form_from_another_page_decides(browser: Browser, origin: str | None) -> None:
    fields, path = browser.fields(), f"/plans/{browser.unit.waiting[0].digest}/approve"
    before = browser.unit.kinds()
    if origin is None:
        sent = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = browser.send("POST", browser.desk.path + path, b"", sent)
    else:
        answer = browser.post(path, fields, Origin=origin)
    assert answer.status_code == 403
    assert browser.unit.kinds() == before


def test_no_form_decides_without_the_session_and_its_token(browser: Browser) -> None:
    fields, path = browser.fields(), f"/plans/{browser.unit.waiting[0].digest}/approve"
    before = browser.unit.kinds()
    for changed in ({**fields, "form": "x"}, {**fields, "form": ""}, {k: v for k, v in fields.items() if k != "form"}):
        assert browser.post(path, changed).status_code == 403
    browser.cookies = {}
    assert browser.post(path, fields).status_code == 403
    assert browser.unit.kinds() == before


def test_a_form_is_small_whole_and_spelled_one_way(browser: Browser) -> None:
    path = f"{browser.desk.path}/plans/{browser.unit.waiting[0].digest}/approve"
    sent = {"Origin": f"http://{AUTHORITY}", "Content-Type": "application/x-www-form-urlencoded"}
    good = f"form={browser.fields()['form']}"
    for body in (
        b"form=" + b"x" * BODY_BYTES_MAX,
        f"{good}&form=x".encode(),
        f"{good}&a".encode(),
        f"{good}&a=%ff".encode(),
        f"{good}&a=\xe9".encode("latin-1"),
        "&".join([good, *(f"a{number}=1" for number in range(20))]).encode(),
        b"",
    ):
        assert browser.send("POST", path, body, sent).status_code == 403
    typed = {**sent, "Content-Type": "multipart/form-data; boundary=x"}
    assert browser.send("POST", path, good.encode(), typed).status_code == 403


@given(st.dictionaries(st.text(), st.text(), min_size=1, max_size=16))
def test_a_form_is_read_as_it_was_filled_in(fields: dict[str, str]) -> None:
    assert read_form(urlencode(fields).encode()) == fields


@given(st.binary(max_size=200) | st.text(alphabet="%=&+;ab0fF").map(str.encode))
def test_whatever_is_sent_as_a_form_is_one_or_is_refused(body: bytes) -> None:
    with suppress(ConsoleAccessError):
        read_form(body)


def test_a_body_without_end_is_cut_off(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"a" * 1024

    sent = {"Origin": f"http://{AUTHORITY}", "Content-Type": "application/x-www-form-urlencoded"}
    path = f"{browser.desk.path}/plans/{browser.unit.waiting[0].digest}/approve"
    assert browser.send("POST", path, endless(), sent).status_code == 403
    assert taken <= BODY_BYTES_MAX // 1024 + 2


@pytest.mark.parametrize("path", ["/", "/desk-", "/favicon.ico", "/console.css/x", "/../etc/passwd"])
def test_there_is_nothing_else_and_nobody_learns_where_the_desk_is(browser: Browser, path: str) -> None:
    knows, browser.cookies = browser.cookies, {}
    answer = browser.send("GET", path)
    assert (answer.status_code, browser.desk.path in answer.text) == (404, False)
    browser.cookies = knows
    assert browser.get("/nothing").status_code == 404


def test_pages_are_only_read(browser: Browser) -> None:
    for method in ("PUT", "DELETE", "POST", "PATCH", "OPTIONS"):
        assert browser.send(method, f"{browser.desk.path}/ledger").status_code == 405


def test_a_defect_tells_nothing_but_its_class(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("C-4711 has spent 812.50")

    monkeypatch.setattr("fedseg.console.pages.ledger_of", broken)
    answer = browser.get("/ledger")
    assert (answer.status_code, "RuntimeError" in answer.text, "4711" in answer.text) == (500, True, False)


def test_logs_hold_no_token_and_nothing_of_a_customer(closed: Browser, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    closed.open()
    for page in PAGES:
        closed.get(page)
    closed.decide("deny", reason="because of Jane Doe")
    closed.get("/nothing")
    said = " ".join(record.getMessage() for record in caplog.records if record.name.startswith("fedseg"))
    assert "console.opened" in said
    assert "plan.decided" in said
    for secret in (
        closed.link,
        closed.link.rpartition("/")[2],
        closed.cookies[COOKIE],
        "Jane",
        "DSR",
        closed.desk.path,
    ):
        assert secret not in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "localhost", "unit.example", "127.0.0.2"])
def test_it_listens_on_this_machine_alone(browser: Browser, host: str) -> None:
    with pytest.raises(SettingsError, match="does not listen"):
        run(browser.unit.home.path, None, (), host=host, port=0, listening=lambda _: None)


def test_an_officer_is_one_of_the_policys_with_the_key_it_names(browser: Browser, tmp_path: Path) -> None:
    home = browser.unit.home
    require_signer(home, Signer("ann", browser.unit.key("ann")))
    for signer in (Signer("eve", browser.unit.key("ann")), Signer("ann", browser.unit.key("bob"))):
        with pytest.raises(TrustError, match="cannot decide"):
            require_signer(home, signer)
    with pytest.raises(KeyFileError):
        require_signer(home, Signer("ann", tmp_path / "missing.key"))
