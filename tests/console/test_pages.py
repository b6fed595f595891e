"""What the pages say: figures of the ledger, clocks, counts marked LOCAL; what others wrote is text and nothing else."""

import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fedseg.console.account import HEIGHT, WIDTH, Day, account_of, steps
from fedseg.console.plans import Signer
from fedseg.ledger.cosignature import cosign
from fedseg.ledger.keys import SigningKey
from fedseg.ledger.notes import SignatureType
from fedseg.ledger.reading import read_ledger
from fedseg.ledger.verifier_keys import VerifierKey
from fedseg.node.approvals import deny
from fedseg.node.home import NodeHome
from fedseg.node.witnessing import COSIGNED_FILE, ROLLED_BACK_FILE
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.budget import epsilon_of, shown_epsilon
from tests.console.conftest import NOW, Browser
from tests.console_unit import ConsoleUnit, Names, make_console_unit
from tests.small_federation import make_federation, policy_document

HOSTILE = '"><script>alert(1)</script><img src=//x.example onerror=f()>{{7*7}}&amp;'
HOSTILE_LABEL = '" autofocus onfocus="alert(1)" {{7*7}} &amp; &#60;'
"""A plan's label holds no angle brackets."""


class Read(HTMLParser):
    """A page as a browser reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.active: list[str] = []
        """Elements and attributes that could do something."""
        self.addresses: list[str] = []

    @classmethod
    def of(cls, page: str) -> "Read":
        read = cls()
        read.feed(page)
        read.close()
        return read

    @property
    def text(self) -> str:
        """What a reader sees, in one line."""
        return " ".join("".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.words.append("" if tag in {"b", "bdi", "code", "strong", "a"} else " ")
        if tag in {"script", "style", "img", "iframe", "object", "embed", "base"}:
            self.active.append(tag)
        self.active += [name for name, _ in attrs if name.startswith("on") or name in {"style", "autofocus"}]
        self.addresses += [value or "" for name, value in attrs if name in {"href", "src", "action", "formaction"}]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def text_of(page: str) -> str:
    return Read.of(page).text


def test_the_overview_says_what_the_ledger_says(browser: Browser) -> None:
    with browser.unit.home.ledger() as ledger:
        state = PrivacyAccount(ledger).state()
    assert state.caps is not None
    shown = text_of(browser.get("/").text)
    for name, rho in (
        ("Sent so far", state.rho_spent),
        ("Held by approved plans", state.rho_reserved),
        ("Cap, for all time", state.caps.rho_cap),
    ):
        assert f"{name} epsilon {shown_epsilon(epsilon_of(rho, state.caps.delta))}" in shown
    left = int(100 * (1 - state.rho_reserved / state.caps.rho_cap))
    assert f"{left} % of the budget is left to approve" in shown
    assert "3 plans wait" in shown
    assert "1 overdue" in shown


def test_the_burn_down_ends_where_the_account_stands_and_never_rises(unit: ConsoleUnit) -> None:
    facts = account_of(unit.home, NOW.date())
    assert facts.days[-1].left == facts.shares.left
    assert [one.left for one in facts.days] == sorted((one.left for one in facts.days), reverse=True)
    assert [one.unsent for one in facts.days] == sorted((one.unsent for one in facts.days), reverse=True)
    assert all(one.left <= one.unsent for one in facts.days)


def test_the_drawing_goes_down_on_the_day_and_stays_in_its_frame() -> None:
    days = [
        Day("2026-01-01", Fraction(4), Fraction(0), Fraction(4)),
        Day("2026-01-02", Fraction(3), Fraction(0), Fraction(4)),
        Day("2026-01-03", Fraction(0), Fraction(9), Fraction(4)),
    ]
    points = [
        tuple(map(float, one.split(","))) for one in steps(days, "left", NOW.date().replace(month=1, day=5)).split()
    ]
    assert points == [(0, 0), (0, 0), (pytest.approx(points[2][0]), 0), (points[2][0], HEIGHT / 4),
                      (points[4][0], HEIGHT / 4), (points[4][0], HEIGHT), (WIDTH, HEIGHT)]  # fmt: skip
    assert steps([], "left", NOW.date()) == ""


def test_the_inbox_says_who_asks_what_it_costs_and_who_has_signed(browser: Browser) -> None:
    browser.decide("approve")
    shown = text_of(browser.get("/plans").text)
    assert "Asked for by marketing" in shown
    assert "1 of 2 have signed: ann" in shown
    assert "refused once" in shown
    assert "E401" in shown


def test_exact_counts_are_marked_local_on_their_pages(browser: Browser) -> None:
    plan = browser.get(f"/plans/{browser.unit.waiting[0].digest}").text
    assert "allowed 60" in text_of(plan)
    for page in (plan, browser.get("/consent").text, browser.get("/requests").text):
        assert '<span class="local">LOCAL</span>' in page
    assert "LOCAL The register knows 60 customers, 60 of them in the data source" in text_of(
        browser.get("/consent").text
    )


def test_each_open_request_shows_its_clock_and_the_command_that_goes_on(browser: Browser) -> None:
    page = browser.get("/requests").text
    shown = text_of(page)
    assert "days overdue" in shown
    assert "5 days left" in shown
    assert "The clock stands still" in shown
    assert "fedseg subject erase --id-file=FILE --ticket=DSR-2041" in shown
    assert "north-0" not in page
    browser.now += timedelta(days=5)
    assert "0 days left" in text_of(browser.get("/requests").text)


def test_the_ledgers_page_verifies_and_says_that_nobody_witnesses(browser: Browser) -> None:
    shown = text_of(browser.get("/ledger").text)
    assert "The ledger checks out" in shown
    assert "No witness." in shown
    assert "fedseg/unit/north" in shown
    assert shown.count("system") == 4


def test_a_changed_ledger_is_told_from_a_true_one(browser: Browser) -> None:
    with closing(sqlite3.connect(browser.unit.home.path / "ledger.db")) as connection:
        connection.execute("UPDATE payload SET data = zeroblob(8) WHERE id GLOB 'plan:*'")
        connection.commit()
    page = browser.get("/ledger").text
    assert "E901" in page
    assert "checks out" not in text_of(page).replace("does not check out", "")


def test_segments_show_names_and_sizes_and_whether_this_unit_took_part(browser: Browser) -> None:
    shown = text_of(browser.get("/segments").text)
    assert "often here, spends much 4,210 4,030 to 4,390" in shown
    assert "a few too few to show" in shown
    assert ", approved by this unit" in shown


def test_a_result_that_was_changed_is_not_shown(browser: Browser) -> None:
    path = browser.unit.segments
    path.write_bytes(path.read_bytes().replace(b"4210", b"4211"))
    shown = text_of(browser.get("/segments").text)
    assert "E901" in shown
    assert "4,211" not in shown


def test_a_page_without_its_file_says_which_error_it_is(browser: Browser) -> None:
    (browser.unit.home.path / "LOCAL" / "rights.db").unlink()
    answer = browser.get("/requests")
    assert (answer.status_code, "E801" in answer.text, 'role="alert"' in answer.text) == (500, True, True)
    assert "E801" in browser.get("/").text, "the rest of the overview is there"
    assert browser.get("/").status_code == 200


def test_what_others_wrote_is_text(tmp_path: Path) -> None:
    names = Names(features=(HOSTILE_LABEL, "spend"), ticket=f"{HOSTILE}\u202e\u0000; rm -rf ~", segment=HOSTILE)
    unit = make_console_unit(tmp_path / "hostile", NOW, names)
    browser = Browser(unit, Signer("ann", unit.key("ann"))).open()
    for path, seen in (
        (f"/plans/{unit.waiting[0].digest}", HOSTILE_LABEL),
        ("/requests", f"{HOSTILE}[U+202E][U+0000]; rm -rf ~"),
        ("/segments", HOSTILE),
    ):
        page = browser.get(path).text
        assert " ".join(seen.split()) in Read.of(page).text
        assert Read.of(page).active == []
        assert "\u202e" not in page


def test_a_ticket_is_one_word_of_its_command(tmp_path: Path) -> None:
    unit = make_console_unit(tmp_path / "quoted", NOW, Names(ticket="-x; rm -rf ~ $(id)"))
    browser = Browser(unit, None).open()
    assert "'--ticket=-x; rm -rf ~ $(id)'" in text_of(browser.get("/requests").text)


def test_pages_have_no_script_no_inline_style_and_name_no_other_host(browser: Browser) -> None:
    plan, approved = browser.unit.waiting[0].digest, browser.unit.approved[1].digest
    for path in (
        "/",
        "/plans",
        f"/plans/{plan}",
        f"/plans/{plan}/outcome",
        f"/plans/{approved}/outcome",
        f"/plans/{approved}/revoke",
        "/consent",
        "/requests",
        "/ledger",
        "/segments",
    ):
        read = Read.of(browser.get(path).text)
        assert read.active == []
        assert [one for one in read.addresses if not one.startswith(("/", "#")) or one.startswith("//")] == []


def test_a_unit_without_a_policy_in_its_ledger_has_pages_all_the_same(tmp_path: Path) -> None:
    home = make_federation(tmp_path / "new", {"north": 8}).home("north")
    shutil.copy(home.path / "policy.yaml", tmp_path / "segmentation.json")
    browser = Browser(ConsoleUnit(tmp_path, home, (), tmp_path / "segmentation.json"), None).open()
    assert "No policy is logged yet" in text_of(browser.get("/").text)
    assert "Nothing waits" in text_of(browser.get("/plans").text)
    assert "No request is open" in text_of(browser.get("/requests").text)
    assert "Nothing has left this unit yet" in text_of(browser.get("/ledger").text)


@dataclass(frozen=True)
class Witnessed:
    """A unit whose policy wants two of three witnesses, at its console."""

    browser: Browser
    keys: Mapping[str, SigningKey]

    @property
    def home(self) -> NodeHome:
        return self.browser.unit.home

    def cosigned(self, *names: str) -> str:
        """The newest checkpoint of the ledger, cosigned by some of them."""
        note = read_ledger(self.home.path / "ledger.db").notes[-1][1]
        for name in names:
            note = cosign(note, f"{name}.example/w1", self.keys[name], NOW)
        return note

    def deny(self) -> None:
        """One more entry."""
        deny(self.home, "0" * 64, "no", now=NOW)

    def shown(self) -> str:
        return text_of(self.browser.get("/ledger").text)


@pytest.fixture
def witnessed(tmp_path: Path) -> Witnessed:
    keys = {name: SigningKey.generate() for name in ("auditor", "partner", "server")}
    named = "".join(
        f"    {name}: '{VerifierKey(f'{name}.example/w1', SignatureType.ED25519_COSIGNATURE, key.public).to_text()}'\n"
        for name, key in keys.items()
    )
    policy = policy_document(approvals=f"witnesses:\n  quorum: 2\n  keys:\n{named}")
    home = make_federation(tmp_path / "witnessed", {"north": 8}, policy=policy).home("north")
    deny(home, "f" * 64, "no", now=NOW)
    unit = ConsoleUnit(tmp_path, home, (), tmp_path / "segmentation.json")
    return Witnessed(Browser(unit, None).open(), keys)


def test_who_has_cosigned_the_ledger_and_how_far_is_shown(witnessed: Witnessed) -> None:
    assert "The policy wants 2 of 3 to have cosigned before anything leaves. Nobody has yet." in witnessed.shown()
    (witnessed.home.path / COSIGNED_FILE).write_text(witnessed.cosigned("partner"), "utf-8")
    assert "1 has: too few." in witnessed.shown()
    (witnessed.home.path / COSIGNED_FILE).write_text(witnessed.cosigned("partner", "server"), "utf-8")
    shown = witnessed.shown()
    assert "2 have: the first 3 of 3 entries are covered." in shown
    assert "auditor no \N{EN DASH} partner the first 3 entries 2026-11-23 09:00" in shown
    assert "No witness." not in shown
    witnessed.deny()
    assert "the first 3 of 4 entries are covered; what is newer is not yet" in witnessed.shown()


def test_a_signature_by_another_key_is_no_witness(witnessed: Witnessed) -> None:
    forged = Witnessed(witnessed.browser, {"partner": SigningKey.generate()}).cosigned("partner")
    (witnessed.home.path / COSIGNED_FILE).write_text(forged, "utf-8")
    assert "Nobody has yet." in witnessed.shown()


@pytest.mark.parametrize("name", [COSIGNED_FILE, ROLLED_BACK_FILE])
def test_a_ledger_that_was_put_back_is_told_from_the_newest(witnessed: Witnessed, tmp_path: Path, name: str) -> None:
    home = witnessed.home.path
    shutil.copy(home / "ledger.db", tmp_path / "yesterday.db")
    witnessed.deny()
    later = witnessed.cosigned("partner")
    shutil.copy(tmp_path / "yesterday.db", home / "ledger.db")
    (home / name).write_text(later, "utf-8")
    assert "E904" in witnessed.shown()
    assert "Nobody has yet." in witnessed.shown()


@pytest.mark.parametrize(
    "note", ["", "no note", "\u202e\n\n\N{EM DASH} x AAAA\n", "x" * 70_000], ids=["empty", "text", "unseen", "long"]
)
def test_what_is_no_checkpoint_of_this_ledger_counts_for_nothing(witnessed: Witnessed, note: str) -> None:
    (witnessed.home.path / COSIGNED_FILE).write_text(note, "utf-8")
    assert "counts for nothing" in witnessed.shown()
    assert "Nobody has yet." in witnessed.shown()
