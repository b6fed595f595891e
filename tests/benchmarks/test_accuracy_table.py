"""The accuracy table: which cells it has, what its rows hold, and what is concluded from them."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy.comparison import behind_peers, geometric_means, load, worse_than_before
from benchmarks.accuracy.families import SHAPES
from benchmarks.accuracy.measurement import NON_PRIVATE, OURS, Cell, Row, measure
from benchmarks.accuracy.plot import draw
from benchmarks.accuracy.table import Asked, cells
from benchmarks.accuracy.trust import Trust
from fedseg.errors import SettingsError

DELTA = Fraction(1, 10**6)

CONTRACT = {"data", "n", "d", "k", "units", "trust", "epsilon", "algorithm", "repetitions"} | {
    f"cost_ratio_{what}" for what in ("median", "q1", "q3")
}


def row(data: str, algorithm: str, ratio: float, **changes: Any) -> Row:
    made = Row(data, 5000, 10, 8, 10, "unit-noise", 1.0, 1e-6, algorithm, ratio, ratio, ratio, 20, "")
    return dataclasses.replace(made, **changes)


def test_a_row_holds_what_scripts_rely_on_and_quartiles_in_order() -> None:
    measured = measure(Cell("retail", 5, Trust.SECURE_AGGREGATION, Fraction(1), DELTA, "dp-lloyd"), repetitions=3)
    assert set(dataclasses.asdict(measured)) >= CONTRACT
    assert (measured.n, measured.d, measured.k, measured.units, measured.repetitions) == (4338, 3, 8, 5, 3)
    assert 1 < measured.cost_ratio_q1 <= measured.cost_ratio_median <= measured.cost_ratio_q3
    assert measured.stamp == "simulated"  # there is no secure aggregation behind it


def test_a_cell_measured_again_gives_the_same_row() -> None:
    cell = Cell("retail", 10, Trust.UNIT_NOISE, Fraction(2), DELTA, OURS)
    assert measure(cell, repetitions=1) == measure(cell, repetitions=1)


def test_without_privacy_the_cost_ratio_is_about_one() -> None:
    measured = measure(Cell("digits", 1, Trust.NONE, None, None, NON_PRIVATE), repetitions=10)
    assert 0.999 <= measured.cost_ratio_q1 <= measured.cost_ratio_q3 < 1.1
    assert measured.epsilon is None


def test_more_noise_costs_more() -> None:
    ratios = [
        measure(Cell("retail", units, Trust.UNIT_NOISE, epsilon, DELTA, "clipped-lloyd"), 5).cost_ratio_median
        for epsilon, units in ((Fraction(4), 5), (Fraction(1, 4), 5), (Fraction(1, 4), 20))
    ]
    assert ratios == sorted(ratios)


def test_the_table_spans_what_was_asked_for() -> None:
    algorithms = [OURS, "diffprivlib", NON_PRIVATE]
    trusts = [Trust.UNIT_NOISE, Trust.SECURE_AGGREGATION]
    asked = Asked(["retail", SHAPES[0].name], trusts, [5, 20], [Fraction(1)], [DELTA, None], algorithms)
    found = cells(asked)
    assert len(found) == len(set(found))
    ours = {(one.data, one.trust, one.units) for one in found if one.algorithm == OURS and one.delta == DELTA}
    model, other = trusts
    kinds = {(model, 5), (model, 20), (other, 20)}
    assert ours == {(data, *kind) for data in asked.data for kind in kinds}
    literature = [one for one in found if one.delta not in {DELTA, 0, None}]
    assert {one.data for one in literature} == {"retail"}  # n^-1.1 is for real tables
    assert {float(one.delta or 0) for one in literature} == {4338**-1.1}
    assert [one.trust for one in found if one.algorithm == "diffprivlib"] == [Trust.CENTRAL] * 2
    assert [one.epsilon for one in found if one.algorithm == NON_PRIVATE] == [None] * 2


def test_the_geometric_mean_is_over_made_up_shapes_of_one_budget_and_trust_model() -> None:
    rows = [
        row(SHAPES[0].name, OURS, 1.0),
        row(SHAPES[1].name, OURS, 4.0),
        row(SHAPES[0].name, OURS, 7.0, epsilon=4.0),
        row(SHAPES[0].name, OURS, 9.0, trust="secure-aggregation"),
        row("retail", OURS, 100.0),
    ]
    found = geometric_means(rows)
    assert [mean.cost_ratio for mean in found] == pytest.approx([2.0, 7.0, 9.0])
    places = [(mean.trust, mean.epsilon, mean.shapes) for mean in found]
    assert places == [("unit-noise", 1.0, 2), ("unit-noise", 4.0, 1), ("secure-aggregation", 1.0, 1)]


def test_the_check_names_cells_of_ours_that_a_private_peer_beats_by_over_a_percent() -> None:
    rows = [
        row("retail", OURS, 1.10),
        row("retail", "eugkm", 1.095),  # within one per cent
        row("retail", "dp-lloyd", 1.05, units=5),  # less noise: another cell
        row("retail", NON_PRIVATE, 1.0, trust="none", epsilon=None, delta=None),  # no privacy: no peer
        row("bank", OURS, 1.10),
        row("bank", "diffprivlib", 1.05, trust="central", units=1, delta=0.0),
        row("bank", "eugkm", 1.08),
    ]
    (behind,) = behind_peers(rows)
    assert (behind.data, behind.than) == ("bank", "diffprivlib (central)")
    assert behind.worse_by == pytest.approx(1.10 / 1.05 - 1)


def test_a_check_without_anything_to_compare_is_an_error() -> None:
    with pytest.raises(SettingsError):
        behind_peers([row("retail", OURS, 1.1)])
    with pytest.raises(SettingsError):
        worse_than_before([row("retail", OURS, 1.1)], [row("bank", OURS, 1.1)], "old.json")


def test_an_earlier_table_shows_what_got_worse(tmp_path: Path) -> None:
    before = tmp_path / "before.json"
    rows = [row("retail", OURS, 1.10), row("bank", OURS, 1.10), row("bank", OURS, 1.10, delta=1e-5)]
    before.write_text(json.dumps({"rows": [dataclasses.asdict(one) for one in rows]}), encoding="utf-8")
    now = [row("retail", OURS, 1.12), row("bank", OURS, 1.105), row("digits", OURS, 9.0)]
    (worse,) = worse_than_before(now, load(before), before.name)
    assert (worse.data, worse.cost_ratio, worse.cost_ratio_of_that) == ("retail", 1.12, 1.10)


@pytest.mark.parametrize("text", ["", "[]", '{"rows": [{"data": "retail"}]}', '{"other": 1}'])
def test_a_file_that_is_no_table_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError):
        load(path)


def test_the_picture_names_every_algorithm_it_draws_and_is_the_same_each_time(tmp_path: Path) -> None:
    rows = [
        row(SHAPES[0].name, algorithm, 1 + 1 / epsilon, epsilon=epsilon, trust=trust)
        for algorithm in (OURS, "dp-lloyd")
        for epsilon in (0.5, 1.0, 4.0)
        for trust in ("unit-noise", "secure-aggregation")
    ]
    paths = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for path in paths:
        draw(geometric_means(rows), 10, path)
    text = paths[0].read_text("utf-8")
    assert text == paths[1].read_text("utf-8")
    assert text.count("<!-- fedseg -->") == 2
    assert text.count("<!-- DP-Lloyd -->") == 2
    assert "diffprivlib* -->" not in text
