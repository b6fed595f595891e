"""Every fact a server's ledger states follows from the units' signed bytes in it: no key holder can change one unseen.

Each forgery is signed by the server's true key, and changed wherever the same fact stands again.
"""

import tomllib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from fedseg.audit.cross import uncounted
from fedseg.audit.verify import check_against_units, recompute_segmentation, verify_ledger
from fedseg.errors import VerificationError
from fedseg.ledger.keys import SigningKey
from fedseg.plan import Plan, parse_plan
from fedseg.privacy.release import HEADER
from fedseg.segments.segmentation import LearnedBounds, Other, Segmentation, Share, SignedSegmentation, parse_signed
from tests.forged_ledger import Forgery, Line, resigned
from tests.small_federation import SmallFederation, plan_terms

Edit = Callable[[Forgery], None]

HASH = "ab" * 32
"""Of nothing."""
ANOTHER_SHAPE = "another shape"
BYTES_SAY = "does not say what its bytes say"
DOES_NOT_FOLLOW = "does not check out"


def refused(forgery: Forgery, path: Path, match: str) -> None:
    with pytest.raises(VerificationError, match=match):
        forgery.verify(path / "forged.db")


def test_a_ledger_that_is_only_written_anew_verifies(
    server: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    facts = server.verify(tmp_path / "copy.db")
    with finished.server.ledger() as ledger:
        assert list(facts.raw.entries) == ledger.entries()
    assert list(facts.published) == [finished.plan.digest]


# One field of one entry at a time

FIELDS: list[tuple[str, str, Any, str]] = [
    ("plan", "plan_sha256", HASH, "is not the plan it says"),
    ("contribution", "plan_sha256", HASH, DOES_NOT_FOLLOW),
    ("contribution", "unit", "south", BYTES_SAY),
    ("contribution", "unit", "east", BYTES_SAY),
    ("contribution", "step", 1, BYTES_SAY),
    ("contribution", "step", False, ANOTHER_SHAPE),
    ("contribution", "release_id", HASH, BYTES_SAY),
    ("contribution", "request_sha256", HASH, BYTES_SAY),
    ("round", "plan_sha256", HASH, DOES_NOT_FOLLOW),
    ("round", "step", 1, DOES_NOT_FOLLOW),
    ("round", "step", 7, DOES_NOT_FOLLOW),
    ("round", "step", False, ANOTHER_SHAPE),
    ("round", "units", [], "0 of 2 units answered"),
    ("round", "units", ["east", "north", "south"], DOES_NOT_FOLLOW),
    ("round", "units", ["south", "north"], "names its units twice or out of order"),
    ("round", "units", ["north", "south", "south"], "names its units twice or out of order"),
    ("round", "units", "nobody", ANOTHER_SHAPE),
    ("publication", "plan_sha256", HASH, "does not say what its segmentation says"),
    ("publication", "units", ["north"], "does not say what its segmentation says"),
    ("publication", "units", ["north", "south", "z-never-took-part"], "does not say what its segmentation says"),
    ("publication", "units", ["south", "north"], "does not say what its segmentation says"),
]


@pytest.mark.parametrize(("kind", "name", "value", "match"), FIELDS)
def test_no_field_can_be_changed(
    server: Forgery, tmp_path: Path, *, kind: str, name: str, value: Any, match: str
) -> None:
    # Replies come in any order; the table is about the one from north.
    server.line(kind, unit="north" if kind == "contribution" else None).body[name] = value
    refused(server, tmp_path, match)


def test_every_field_a_server_writes_is_in_the_table(server: Forgery) -> None:
    written = {(line.kind, name) for line in server.lines for name in line.body}
    assert written == {(kind, name) for kind, name, _, _ in FIELDS}


@pytest.mark.parametrize("kind", ["plan", "contribution", "round", "publication"])
def test_no_field_can_be_left_out_or_added(true_server: Forgery, tmp_path: Path, kind: str) -> None:
    for name in true_server.line(kind).body:
        server = true_server.fresh()
        del server.line(kind).body[name]
        with pytest.raises(VerificationError, match=f"another shape than its kind: {name}"):
            server.verify(tmp_path / f"{name}.db")
    server = true_server.fresh()
    server.line(kind).body["audited"] = True
    refused(server, tmp_path, "another shape than its kind: audited")


@pytest.mark.parametrize("kind", ["plan", "contribution", "publication"])
def test_no_payload_can_be_left_out_renamed_or_replaced(true_server: Forgery, tmp_path: Path, kind: str) -> None:
    name, data = true_server.line(kind).payload or ("", b"")
    other = f"{name[:-1]}{'0' if name[-1] != '0' else '1'}"
    for number, payload in enumerate((None, (other, data), (name, b"something else"))):
        server = true_server.fresh()
        server.line(kind).payload = payload
        with pytest.raises(VerificationError):
            server.verify(tmp_path / f"{number}.db")


def test_a_round_has_no_payload(server: Forgery, tmp_path: Path) -> None:
    server.line("round").payload = ("minutes", b"all went well")
    refused(server, tmp_path, "another shape than its kind: payload")


# A fact changed wherever it stands


def with_units_bytes(forgery: Forgery, key: SigningKey, nth: int = 0, **changes: Any) -> None:
    line = forgery.line("contribution", nth)
    assert line.payload is not None
    line.payload = (line.payload[0], resigned(line.data, key, **changes))


def a_value_changed_by_the_server(server: Forgery) -> None:
    line = server.line("contribution")
    assert line.payload is not None
    changed = bytearray(line.data)
    changed[HEADER.size] ^= 1
    line.payload = (line.payload[0], bytes(changed))


def a_value_signed_by_the_server(server: Forgery) -> None:
    with_units_bytes(server, server.key, values=[0] * 4)


def noise_called_real_by_the_server(server: Forgery) -> None:
    with_units_bytes(server, server.key, noise=0)


def bytes_of_another_unit(server: Forgery) -> None:
    one, other = server.line("contribution", 0), server.line("contribution", 1)
    assert one.payload is not None
    assert other.payload is not None
    one.payload, other.payload = (one.payload[0], other.data), (other.payload[0], one.data)


def one_contribution_less(server: Forgery) -> None:
    server.drop("contribution")


def one_unit_less_in_a_round(server: Forgery) -> None:
    """The quorum of one is kept, and the unit's other contributions as well; but the next request is another."""
    server.line("round").body["units"] = ["north"]


def a_round_less(server: Forgery) -> None:
    server.drop("round", 1)


def a_round_more(server: Forgery) -> None:
    server.lines.append(Line("round", {**server.line("round").body, "step": 3}))


def a_round_closed_twice(server: Forgery) -> None:
    server.lines.append(Line("round", dict(server.line("round").body)))


def a_round_closed_before_its_contributions(server: Forgery) -> None:
    closed = server.drop("round")
    server.lines.insert(1, closed)


def a_contribution_after_its_round(server: Forgery) -> None:
    late = server.drop("contribution", 1)
    server.line("round").body["units"] = [server.line("contribution").body["unit"]]
    server.lines.insert(server.lines.index(server.line("round")) + 1, late)


def no_plan(server: Forgery) -> None:
    server.drop("plan")


def a_plan_that_is_none(server: Forgery) -> None:
    server.lines.append(Line("plan", {"plan_sha256": HASH}, (f"plan:{HASH}", b"not a plan at all")))


def the_plan_under_another_hash(server: Forgery) -> None:
    server.lines.append(Line("plan", {"plan_sha256": HASH}, (f"plan:{HASH}", server.line("plan").data)))


def the_plan_twice(server: Forgery) -> None:
    server.lines.append(Line("plan", dict(server.line("plan").body), ("plan:again", server.line("plan").data)))


def an_entry_of_no_kind(server: Forgery) -> None:
    server.lines.append(Line("certificate", {"by": "a friend"}))


def a_units_entry(server: Forgery) -> None:
    server.lines.append(Line("release", {}))


def published_before_the_end(server: Forgery) -> None:
    published = server.drop("publication")
    server.lines.insert(server.lines.index(server.line("round", 2)), published)


def published_without_a_run(server: Forgery) -> None:
    server.lines = [server.line("plan"), server.line("publication")]


CONSISTENT: list[tuple[Edit, str]] = [
    (a_value_changed_by_the_server, "not signed by the unit"),
    (a_value_signed_by_the_server, "not signed by the unit"),
    (noise_called_real_by_the_server, "not signed by the unit"),
    (bytes_of_another_unit, BYTES_SAY),
    (one_contribution_less, DOES_NOT_FOLLOW),
    (one_unit_less_in_a_round, "answers another request"),
    (a_round_less, "answers another request"),
    (a_round_more, DOES_NOT_FOLLOW),
    (a_round_closed_twice, DOES_NOT_FOLLOW),
    (a_round_closed_before_its_contributions, DOES_NOT_FOLLOW),
    (a_contribution_after_its_round, "answers another request"),
    (no_plan, DOES_NOT_FOLLOW),
    (a_plan_that_is_none, DOES_NOT_FOLLOW),
    (the_plan_under_another_hash, "is not the plan it says"),
    (the_plan_twice, "is there twice"),
    (an_entry_of_no_kind, "of a kind no server writes"),
    (a_units_entry, "of a kind no server writes"),
    (published_before_the_end, "still open"),
    (published_without_a_run, "still open"),
]


@pytest.mark.parametrize(("edit", "match"), CONSISTENT, ids=[edit.__name__ for edit, _ in CONSISTENT])
def test_no_fact_can_be_changed_everywhere_at_once(server: Forgery, tmp_path: Path, edit: Edit, match: str) -> None:
    edit(server)
    refused(server, tmp_path, match)


# Contributions under a false plan


def false_plan(finished: SmallFederation, **changes: Any) -> tuple[Plan, bytes]:
    document = tomli_w.dumps(tomllib.loads(finished.document.decode()) | changes).encode()
    return parse_plan(document), document


def test_contributions_cannot_be_counted_under_another_plan(
    server: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    plan, document = false_plan(finished, min_segment_size=1)
    for line in server.lines:
        line.body["plan_sha256"] = plan.digest
    server.line("plan").payload = (f"plan:{plan.digest}", document)
    refused(server, tmp_path, "not a release of this plan")


def test_a_contribution_cannot_be_filed_under_a_second_plan(
    server: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    plan, document = false_plan(finished, name="second")
    server.lines.insert(1, Line("plan", {"plan_sha256": plan.digest}, (f"plan:{plan.digest}", document)))
    server.line("contribution").body["plan_sha256"] = plan.digest
    refused(server, tmp_path, "not a release of this plan")


def test_a_second_plan_that_nobody_answered_is_no_false_fact(
    server: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    plan, document = false_plan(finished, name="second")
    server.lines.append(Line("plan", {"plan_sha256": plan.digest}, (f"plan:{plan.digest}", document)))
    facts = server.verify(tmp_path / "two.db")
    assert list(facts.published) == [finished.plan.digest]
    # A run without noise of any kind does not make the noise of another real.
    assert facts.simulated
    with pytest.raises(VerificationError, match="not been published"):
        recompute_segmentation(facts, plan)


def test_the_server_cannot_make_up_a_run_of_units_of_its_own(
    server: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    """It may invent units; but then the plan names keys that are not those of the true ones, and their ledgers tell."""
    units = [{"name": name, "public_key": SigningKey.generate().public.to_text()} for name in ("north", "south")]
    document = tomli_w.dumps(plan_terms(units)).encode()
    plan = parse_plan(document)
    server.lines = [Line("plan", {"plan_sha256": plan.digest}, (f"plan:{plan.digest}", document))]
    facts = server.verify(tmp_path / "own.db")
    with pytest.raises(VerificationError, match="not signed with the key the plan names"):
        check_against_units(facts, [verify_ledger(finished.path / "north" / "ledger.db")], plan)


# The published segments

A_RANGE = LearnedBounds(
    feature="visits",
    label="visits a year",
    lower=0.0,
    upper=100.0,
    transform="identity",
    outside=Share(category="outside", share=0.0, low=0.0, high=0.1),
    missing=None,
    at_limit=False,
)
FALSE_SEGMENTS: dict[str, Callable[[Segmentation], dict[str, Any]]] = {
    "version": lambda true: {"version": 2},
    "name": lambda true: {"name": "another"},
    "plan_sha256": lambda true: {"plan_sha256": HASH},
    "algorithm": lambda true: {"algorithm": "guess"},
    "trust": lambda true: {"trust": "secure-aggregation"},
    "epsilon": lambda true: {"epsilon": "1/1"},
    "delta": lambda true: {"delta": "1/1000000000"},
    "rho": lambda true: {"rho": "1/1000"},
    "rounds": lambda true: {"rounds": 4},
    "units": lambda true: {"units": ("north",)},
    "noise": lambda true: {"noise": "system"},
    "segments": lambda true: {"segments": true.segments[:-1]},
    "a segment's name": lambda true: first_segment(true, name="Best customers"),
    "a segment's size": lambda true: first_segment(true, size=(true.segments[0].size or 0) + 1),
    "a segment's interval": lambda true: first_segment(true, size_interval=(0, 1)),
    "a segment's values": lambda true: first_segment(true, values=()),
    "a segment's place": lambda true: first_segment(true, encoded_center=(0, 0)),
    "a segment's suppression": lambda true: first_segment(true, suppressed=True),
    "a segment's stability": lambda true: first_segment(true, stability=-1.0),
    "a segment's clipping": lambda true: first_segment(true, clipped=not true.segments[0].clipped),
    "bounds": lambda true: {"bounds": (A_RANGE,)},
    "other": lambda true: {"other": Other(segments=9, size=None, size_interval=None)},
    "findings": lambda true: {"findings": true.findings.model_copy(update={"choice": None})},
}


def first_segment(true: Segmentation, **changes: Any) -> dict[str, Any]:
    return {"segments": (true.segments[0].model_copy(update=changes), *true.segments[1:])}


def published(server: Forgery) -> Segmentation:
    return parse_signed(server.line("publication").data).segmentation


def test_every_field_of_the_segments_is_in_the_table(server: Forgery) -> None:
    assert set(Segmentation.model_fields) <= FALSE_SEGMENTS.keys()


@pytest.mark.parametrize("change", FALSE_SEGMENTS.values(), ids=list(FALSE_SEGMENTS))
def test_no_published_fact_can_be_changed(
    server: Forgery, tmp_path: Path, change: Callable[[Segmentation], dict[str, Any]]
) -> None:
    true, line = published(server), server.line("publication")
    false = true.model_copy(update=change(true))
    assert false != true
    assert line.payload is not None
    line.payload = (line.payload[0], SignedSegmentation.sign(false, server.key).to_json())
    line.body["units"] = list(false.units)
    refused(server, tmp_path, "not those that the logged contributions give")


def test_the_segments_are_signed_with_the_key_of_the_ledger(server: Forgery, tmp_path: Path) -> None:
    line = server.line("publication")
    assert line.payload is not None
    line.payload = (line.payload[0], SignedSegmentation.sign(published(server), SigningKey.generate()).to_json())
    refused(server, tmp_path, "signed with another key than the server's ledger")


# Against the units' ledgers


def test_what_the_server_counted_stands_in_the_units_ledgers(
    server: Forgery, unit: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    facts, plan = server.verify(tmp_path / "server.db"), finished.plan
    check_against_units(facts, [verify_ledger(home.path / "ledger.db") for home in finished.homes], plan)
    unit.drop("release", 2)
    shorter = unit.verify(tmp_path / "shorter.db")
    with pytest.raises(VerificationError, match="not in the ledger of north"):
        check_against_units(facts, [shorter], plan)


def test_a_release_of_other_bytes_is_not_what_the_server_counted(
    server: Forgery, unit: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    line = unit.line("release")
    assert line.payload is not None
    line.payload = (line.payload[0], resigned(line.data, unit.key, values=[0] * 4))
    other = unit.verify(tmp_path / "other.db")
    with pytest.raises(VerificationError, match="not in the ledger of north"):
        check_against_units(server.verify(tmp_path / "server.db"), [other], finished.plan)


def test_what_a_unit_charged_under_another_plan_is_not_missing_from_this_one(
    server: Forgery, unit: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    counted, charged = server.verify(tmp_path / "server.db"), unit.verify(tmp_path / "unit.db")
    elsewhere = replace(charged.releases[0], plan_sha256=HASH, step=9)
    lost = replace(charged.releases[0], step=9)
    both = replace(charged, releases=(*charged.releases, elsewhere, lost))
    assert uncounted(counted, both, finished.plan) == [lost]


def test_a_ledger_under_another_key_is_not_a_units_ledger(
    server: Forgery, unit: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    unit.lines, unit.key = [], SigningKey.generate()
    empty = unit.verify(tmp_path / "empty.db")
    stranger = replace(empty, unit="east")
    for facts in (empty, stranger):
        with pytest.raises(VerificationError, match="not signed with the key the plan names"):
            check_against_units(server.verify(tmp_path / f"{facts.unit}.db"), [facts], finished.plan)


# Whose ledger it is

WHOSE: list[tuple[str, dict[str, Any]]] = [
    ("fedseg/server", {"role": "server", "unit": "north"}),
    ("fedseg/server/2", {"role": "server"}),
    ("fedseg/unit/north", {"role": "server"}),
    ("fedseg/server", {"role": "auditor"}),
    ("fedseg/server", {}),
    ("fedseg/server", {"role": "server", "certified": "by a friend"}),
]


@pytest.mark.parametrize(("origin", "genesis"), WHOSE)
def test_the_first_entry_says_that_it_is_a_servers_and_nothing_else(
    server: Forgery, tmp_path: Path, origin: str, genesis: dict[str, Any]
) -> None:
    server.origin, server.genesis, server.lines = origin, genesis, []
    refused(server, tmp_path, "does not say whose ledger this is|another shape than its kind")


def test_a_ledger_under_another_key_is_found_by_the_key_of_the_segments(server: Forgery, tmp_path: Path) -> None:
    server.key = SigningKey.generate()
    refused(server, tmp_path, "signed with another key than the server's ledger")


def test_the_units_share_of_the_loss_is_recomputed_for_the_customer(
    server: Forgery, finished: SmallFederation, tmp_path: Path
) -> None:
    """The published rho is the sum of all charges over the units that one customer may be in."""
    facts = server.verify(tmp_path / "server.db")
    rho = sum(
        (
            fact.rho
            for home in finished.homes
            for fact in verify_ledger(home.path / "ledger.db", home.key.public).releases
        ),
        Fraction(0),
    )
    numerator, denominator = recompute_segmentation(facts, finished.plan).segmentation.rho.split("/")
    assert Fraction(int(numerator), int(denominator)) == rho
