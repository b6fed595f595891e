"""What kind of feature a column could be, from its name and type: the hints of `hints.toml`, applied.

And what becomes of numbers whose bounds are to be learned, or have been.
"""

import functools
import re
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

from fedseg.proposal.schema import Holds, SchemaColumn
from fedseg.segments.segmentation import LearnedBounds
from fedseg.segments.telling import percent

TO_DECIDE = "TO DECIDE"
"""Stands wherever a human must decide; no plan that holds it can be used."""

NAME_MAX = 63
LABEL_MAX = 80

WIDEST = 10**9
"""On a logarithm the range in which bounds are looked for may reach this far without getting coarse."""

MISSING_MANY = 0.05
"""From this share on a column of their own is worth it for those without a value."""

Terms = Mapping[str, str | float]


@dataclass(frozen=True, slots=True)
class ProposedFeature:
    """One `[[features]]` of a plan."""

    column: str
    """As the table calls it."""
    name: str
    """As the plan calls it."""
    terms: Terms
    """Its other keys; numbers, text, or `TO_DECIDE`."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """What to consider, by key."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A column that should not, or cannot, be a feature."""

    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Hint:
    """What some words in a name hint at."""

    words: tuple[frozenset[str], ...]
    """Any of these sets, all its words together."""
    fits: frozenset[Holds]
    """Types of columns it is for."""
    rank: int
    """A hint of a higher rank goes before it."""
    terms: Terms
    remarks: Mapping[str, str]

    def place(self, words: Sequence[str]) -> int:
        """Where in a name its last word stands, from 1; 0 if it does not occur."""
        found = (max(words.index(word) for word in one) + 1 for one in self.words if one <= set(words))
        return max(found, default=0)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why columns with some words in their names are left out."""

    reason: str
    words: tuple[frozenset[str], ...]
    unless: frozenset[str]
    """Words that say the opposite."""

    def fits(self, words: Sequence[str]) -> bool:
        """Whether a column with these words in its name is left out."""
        return not self.unless & set(words) and any(one <= set(words) for one in self.words)


def propose_feature(column: SchemaColumn) -> ProposedFeature | LeftOut:
    """What a column could be in a plan.

    >>> propose_feature(SchemaColumn("is_member")).terms["kind"]
    'binary'
    >>> propose_feature(SchemaColumn("customer_id")).reason
    'it names customers'
    """
    words = words_of(column.name)
    hints, reasons = _hints()
    reason = _BY_TYPE.get(column.holds) or next((one.reason for one in reasons if one.fits(words)), None)
    if reason:
        return LeftOut(column.name, reason)
    fitting = (one for one in hints if column.holds in one.fits and one.place(words))
    hint = max(fitting, key=lambda one: (one.rank, one.place(words)), default=_UNHINTED[column.holds])
    name = plan_name(column.name)
    mapped = "the tables call it otherwise: map it under [source.columns] in node.toml"
    remarks = hint.remarks if name == column.name else {"name": mapped, **hint.remarks}
    return ProposedFeature(column.name, name, {"label": " ".join(words)[:LABEL_MAX] or name, **hint.terms}, remarks)


def propose_search(column: SchemaColumn) -> ProposedFeature | LeftOut:
    """What a column could be in a plan for bounds: a number whose bounds nobody knows, over the widest range.

    >>> propose_search(SchemaColumn("gross_spend")).terms["transform"]
    'log1p'
    >>> propose_search(SchemaColumn("age")).reason
    'its bounds are known: 0 to 120'
    """
    usual = propose_feature(column)
    if isinstance(usual, LeftOut):
        return usual
    kind, lower, upper = (usual.terms.get(key) for key in ("kind", "lower", "upper"))
    if kind == TO_DECIDE:
        return LeftOut(column.name, "nothing says that it holds numbers: list it with its type in a TOML file")
    if kind != "numeric":
        return LeftOut(column.name, "only numbers have bounds")
    is_amount = usual.terms.get("transform") == "log1p"
    if not is_amount and TO_DECIDE not in (lower, upper):
        return LeftOut(column.name, f"its bounds are known: {lower} to {upper}")
    range_: Terms = {"transform": "log1p", "lower": 0} if is_amount else {"transform": "asinh", "lower": -WIDEST}
    return ProposedFeature(
        usual.column,
        usual.name,
        {"label": usual.terms["label"], **range_, "upper": WIDEST, "missing": 0, "missing_flag": True},
        {name: remark for name, remark in usual.remarks.items() if name == "name"},
    )


def with_bounds(feature: ProposedFeature, learned: LearnedBounds) -> ProposedFeature:
    """A proposed number with the bounds that a plan for bounds has learned; to be decided if it has found none."""
    words = {key: value for key, value in feature.terms.items() if key in ("low_word", "high_word")}
    if learned.lower is None or learned.upper is None:
        bounds: dict[str, str | float] = {"lower": TO_DECIDE, "upper": TO_DECIDE, "missing": TO_DECIDE}
        remark = "nothing stood above the noise where bounds were looked for"
    else:
        lower, upper, missing = learned.lower, learned.upper, feature.terms.get("missing", TO_DECIDE)
        known = TO_DECIDE if isinstance(missing, str) else _plain(min(upper, max(lower, missing)))
        scale: Terms = {} if learned.transform == "identity" else {"transform": learned.transform}
        bounds = {**scale, "lower": _plain(lower), "upper": _plain(upper), "missing": known}
        remark = f"learned; beyond the bounds are {percent(learned.outside.low)} to {percent(learned.outside.high)}"
    remarks = {key: text for key, text in feature.remarks.items() if key == "name"} | {"lower": remark}
    if learned.at_limit:
        remarks["upper"] = "some may be beyond the range in which bounds were looked for"
    if learned.missing and learned.missing.share >= MISSING_MANY:
        remarks["missing"] = f"{percent(learned.missing.share)} have no value: missing_flag = true shows them apart"
    terms = {"label": feature.terms["label"], "kind": "numeric", **bounds, **words}
    return ProposedFeature(feature.column, feature.name, terms, remarks)


def _plain(value: float) -> int | float:
    """As people write it."""
    return int(value) if value == int(value) else value


def words_of(name: str) -> tuple[str, ...]:
    """The words of a column's name in small letters.

    >>> words_of("MonthlyCharges"), words_of("days_since_last_purchase"), words_of("CRMScore2")
    (('monthly', 'charges'), ('days', 'since', 'last', 'purchase'), ('crm', 'score', '2'))
    """
    return tuple(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", _ascii(name)))


def plan_name(name: str) -> str:
    """The name as a plan may write it.

    >>> plan_name("visits"), plan_name("Umsatz (EUR)"), plan_name("2024 orders")
    ('visits', 'Umsatz_EUR', 'column_2024_orders')
    """
    plain = _ascii(name)
    written = plain if re.fullmatch(r"\w+", plain) else re.sub(r"\W+", "_", plain).strip("_")
    started = written if re.match(r"[A-Za-z_]", written) else f"column_{written}".rstrip("_")
    return started[:NAME_MAX]


def _ascii(name: str) -> str:
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()


def _hint(holds: Holds, terms: Terms, remarks: Mapping[str, str]) -> Hint:
    return Hint((), frozenset({holds}), rank=0, terms=terms, remarks=remarks)


_BY_TYPE = {
    Holds.TIME: "a date is no feature; export a number, such as days since then",
    Holds.NESTED: "lists and records are no features",
}

_UNHINTED = {
    Holds.TRUTH: _hint(Holds.TRUTH, {"kind": "binary"}, {}),
    Holds.TEXT: _hint(
        Holds.TEXT,
        {"kind": "categorical", "vocabulary": TO_DECIDE},
        {"vocabulary": "a list of the categories, from what is public; all else counts as other"},
    ),
    Holds.NUMBER: _hint(
        Holds.NUMBER,
        {"kind": "numeric", "lower": TO_DECIDE, "upper": TO_DECIDE, "missing": TO_DECIDE},
        {"upper": "public bounds, generous", "missing": "what stands for a missing value"},
    ),
    Holds.UNKNOWN: _hint(
        Holds.UNKNOWN,
        {"kind": TO_DECIDE},
        {"kind": "numeric (lower, upper, missing), binary, categorical or region (vocabulary), cyclic (period)"},
    ),
}
"""Of columns whose name says nothing."""


@functools.cache
def _hints() -> tuple[tuple[Hint, ...], tuple[Reason, ...]]:
    read = tomllib.loads(resources.files("fedseg.proposal").joinpath("hints.toml").read_text(encoding="utf-8"))
    hints = tuple(
        Hint(
            _sets(one["words"]),
            frozenset(Holds(name) for name in one["fits"]),
            one.get("rank", 1),
            one["terms"],
            one.get("remarks", {}),
        )
        for one in read["hints"]
    )
    reasons = (Reason(one["reason"], _sets(one["words"]), frozenset(one.get("unless", ()))) for one in read["reasons"])
    return hints, tuple(reasons)


def _sets(entries: Sequence[str]) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(entry.split()) for entry in entries)
