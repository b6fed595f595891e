"""A unit's key is replaced between plans, and nothing else of the unit changes."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from fedseg.audit.verify import verify_ledger
from fedseg.errors import ClockError, NotApprovedError, StorageError, TrustError
from fedseg.ledger.keys import SigningKey
from fedseg.node.approvals import approve, end_approval
from fedseg.node.home import NodeHome
from fedseg.node.key_change import replace_key, require_replaceable
from fedseg.plan import parse_plan
from fedseg.privacy.account import PrivacyAccount
from fedseg.privacy.entries import Ending
from tests.small_federation import NOW, SmallFederation, ask, make_federation, some_request

LATER = NOW + timedelta(days=1)


@pytest.fixture
def federation(tmp_path: Path) -> SmallFederation:
    return make_federation(tmp_path / "federation", {"north": 40})


def keys_in(home: NodeHome) -> list[str]:
    return sorted(path.name for path in home.key_file.parent.iterdir())


def test_the_ledger_goes_on_under_the_new_key_and_pseudonyms_stay(federation: SmallFederation) -> None:
    before = federation.home("north")
    old, secret = before.key.public, before.subject_secret
    change = replace_key(before, now=NOW)
    home = federation.home("north")
    assert (change.old, change.new, change.seq) == (old, home.key.public, 1)
    assert change.new != old
    assert home.subject_secret == secret
    assert keys_in(home) == ["subjects.key", "unit.key"]
    assert home.key_file.stat().st_mode & 0o777 == 0o600
    facts = verify_ledger(home.path / "ledger.db", old)
    assert facts.keys == (old, change.new)
    with home.ledger() as ledger:
        assert ledger.entries()[1].body["changed_on"] == "2025-06-01"


def test_a_key_is_not_replaced_while_an_approved_plan_is_unfinished(federation: SmallFederation) -> None:
    federation.approve_all()
    home, old = federation.home("north"), federation.home("north").key.public
    for attempt in (require_replaceable, replace_key):
        with pytest.raises(NotApprovedError, match="is not finished") as refused:
            attempt(home, now=NOW)
        assert f"revoke {federation.plan.digest[:16]}" in refused.value.fix
    assert federation.home("north").key.public == old
    assert keys_in(home) == ["subjects.key", "unit.key"]


@pytest.mark.parametrize("how", ["finished", "cancelled"])
def test_it_is_once_the_plan_is_over_and_what_was_sent_is_still_repeated(federation: SmallFederation, how: str) -> None:
    federation.approve_all()
    plan = federation.plan
    requests = [some_request(plan, step) for step in range(plan.rounds if how == "finished" else 1)]
    sent = [ask(federation.grid(), plan, request) for request in requests]
    now = NOW + timedelta(days=40_000)
    if how == "cancelled":
        end_approval(federation.home("north"), plan.digest, Ending.CANCELLED, now=now)
    replace_key(federation.home("north"), now=now)
    assert [ask(federation.grid(), plan, request) for request in requests] == sent
    facts = verify_ledger(federation.home("north").path / "ledger.db")
    assert facts.account.rho_spent > 0
    assert len(facts.keys) == 2


def test_a_plan_that_names_the_old_key_is_not_approved_any_more(federation: SmallFederation) -> None:
    change = replace_key(federation.home("north"), now=NOW)
    home = federation.home("north")
    with pytest.raises(TrustError, match="names another key"):
        approve(home, federation.plan, federation.document, now=NOW)
    document = federation.document.replace(change.old.to_text().encode(), change.new.to_text().encode())
    renewed = SmallFederation(federation.path, document)
    approve(home, parse_plan(document), document, now=NOW)
    replies = ask(renewed.grid(), renewed.plan, some_request(renewed.plan, 0))
    assert len(replies) == 1
    assert verify_ledger(home.path / "ledger.db", change.new).account.rho_spent > 0


def test_a_plan_whose_time_is_over_does_not_stand_in_the_way(federation: SmallFederation) -> None:
    federation.approve_all()
    with federation.home("north").ledger() as ledger:
        reservation = PrivacyAccount(ledger).state().reservations[federation.plan.digest]
    assert reservation.is_unfinished("2025-06-01")
    ending = replace(reservation, expires_on="2025-06-02")
    assert [ending.is_unfinished(day) for day in ("2025-06-02", "2025-06-03")] == [True, False]


def test_a_clock_behind_the_ledger_replaces_nothing(federation: SmallFederation) -> None:
    replace_key(federation.home("north"), now=LATER)
    for attempt in (require_replaceable, replace_key):
        with pytest.raises(ClockError):
            attempt(federation.home("north"), now=NOW)


def test_a_home_in_which_nothing_can_be_written_keeps_its_key(
    federation: SmallFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, old = federation.home("north"), federation.home("north").key.public

    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "hardlink_to", full)
    with pytest.raises(StorageError, match="cannot be changed now"):
        replace_key(home, now=NOW)
    monkeypatch.undo()
    assert federation.home("north").key.public == old
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StorageError, match="cannot be changed now"):
        replace_key(federation.home("north"), now=NOW)
    monkeypatch.undo()
    after = federation.home("north")
    assert after.key.public != old, "it was logged, and the home finds the key where it waits"
    replace_key(after, now=NOW)
    assert keys_in(after) == ["subjects.key", "unit.key"]


def test_a_copy_of_the_home_from_before_goes_on_only_with_its_own_ledger(
    federation: SmallFederation, tmp_path: Path
) -> None:
    home = federation.home("north")
    shutil.copytree(home.path, tmp_path / "copy")
    replace_key(home, now=NOW)
    shutil.copy(tmp_path / "copy" / "ledger.db", home.path / "ledger.db")
    with pytest.raises(Exception, match="belongs to the key"):
        federation.home("north").ledger()


def test_a_key_is_the_ledgers_own_choice(federation: SmallFederation) -> None:
    home = federation.home("north")
    stray = SigningKey.generate()
    stray.save(home.key_file.with_name("unit.next.key"))
    assert federation.home("north").key.public == home.key.public
    replace_key(federation.home("north"), now=NOW)
    assert federation.home("north").key.public not in {home.key.public, stray.public}
