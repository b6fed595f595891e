"""The segment page: what marketers read, as one HTML file without network, scripts or fonts of its own. Facts to text.

It says what the signed result, the plan and the policies say, and nothing else; all of them are public to the partners.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from fedseg.errors import DataError, StorageError, VerificationError
from fedseg.looks import style_sheet
from fedseg.policy.document import Policy
from fedseg.segments.advice import CLIPPED, ON_CLIPPING, ON_COMPARISON, on_number, on_other, on_stability, suggestions
from fedseg.segments.allowed import allowed
from fedseg.segments.compare import compare
from fedseg.segments.profile import Line, profile
from fedseg.segments.segmentation import GroupValue, Segment, SignedSegmentation
from fedseg.segments.telling import percent

_SHORT_HASH = 16


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """What a page takes from the plan behind a result."""

    min_segment_size: int
    scales: Mapping[str, str] = field(default_factory=dict[str, str])
    """The scale of each number by feature: "identity", "log1p" or "asinh"."""

    @property
    def uneven(self) -> bool:
        """Whether any number is drawn and averaged on a logarithm."""
        return any(scale != "identity" for scale in self.scales.values())


@dataclass(frozen=True, slots=True)
class _Sheet:
    """A segment as the page shows it."""

    number: int
    name: str
    size: int
    low: int
    high: int
    share: float
    """Of the customers in all shown segments."""
    stable: bool
    stability: str
    clipped: bool
    lines: tuple[Line, ...]
    bar: tuple[float, ...]
    """Lower end, size and upper end, as parts of the largest number drawn."""

    @property
    def outstanding(self) -> list[Line]:
        """In what it differs from all others by more than the noise."""
        return [line for line in self.lines if line.notable]


def write_page(
    signed: SignedSegmentation,
    out: Path,
    *,
    plan: PlanTerms | None,
    policies: Sequence[Policy],
    earlier: SignedSegmentation | None = None,
) -> None:
    """Write the page into the file `out`, replacing it in one step.

    Raises:
        DataError: If the result holds learned bounds, not segments, or the earlier one has other features.
        VerificationError: If its segments do not have the same features.
        StorageError: If the file cannot be written.
    """
    page = render(signed, plan=plan, policies=policies, earlier=earlier).encode()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _replace(out, page)
    except OSError as error:
        raise StorageError(
            f"cannot write the page to {out}",
            why=error.strerror or "the disk refused",
            fix="free space, or name another file with --out",
        ) from error


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(content)
        os.replace(part, path)  # noqa: PTH105 (Path.replace says the same less plainly)
    finally:
        part.unlink(missing_ok=True)


def render(
    signed: SignedSegmentation,
    *,
    plan: PlanTerms | None,
    policies: Sequence[Policy],
    earlier: SignedSegmentation | None = None,
) -> str:
    """The whole page. The same result, plan and policies give the same bytes.

    Raises:
        DataError, VerificationError: As `write_page`.
    """
    result = signed.segmentation
    if result.bounds:
        raise DataError(
            "the result holds no segments",
            why="its plan asked for the bounds of features",
            fix="fedseg segments show RESULT",
        )
    sheets = _sheets(result.segments, {} if plan is None else plan.scales)
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            result=result,
            fingerprint=signed.public_key.fingerprint(),
            plan=plan,
            sheets=sheets,
            customers=sum(sheet.size for sheet in sheets),
            hidden=[one.name for one in result.segments if one.suppressed],
            other=None if result.other is None else on_other(result.other, plan.min_segment_size if plan else None),
            allowed=allowed(policies),
            earlier=None if earlier is None else earlier.segmentation,
            on_comparison=ON_COMPARISON,
            since=None if earlier is None else compare(earlier.segmentation, result),
            number=on_number(result.findings.choice),
            hints=suggestions(result.findings),
            clipped=CLIPPED,
            on_clipping=ON_CLIPPING if any(sheet.clipped for sheet in sheets) else "",
            css=Markup(style_sheet(_template("page.css"))),  # noqa: S704 (ships with fedseg)
        )
    )


def _sheets(segments: Sequence[Segment], scales: Mapping[str, str]) -> list[_Sheet]:
    shown = [one for one in segments if not one.suppressed]
    if len({_form(one) for one in shown}) > 1:
        raise VerificationError(
            "the segments cannot be shown side by side",
            why="they do not have the same features, as those of one plan have",
            fix="fetch the result again from the server, and compare its key",
        )
    customers = sum(one.size or 0 for one in shown)
    largest = max([max(_size(one)) for one in shown] + [1])
    return [
        _Sheet(
            number=number,
            name=one.name,
            size=_size(one)[1],
            low=_size(one)[0],
            high=_size(one)[2],
            share=_size(one)[1] / customers if customers > 0 else 0.0,
            stable=one.stable and one.above_noise,
            stability=on_stability(one),
            clipped=one.clipped,
            lines=tuple(profile(one, shown, scales)),
            bar=tuple(max(0, part) / largest for part in _size(one)),
        )
        for number, one in enumerate(shown, 1)
    ]


def _form(segment: Segment) -> tuple[object, ...]:
    """What has to be the same in all shown segments of a result."""
    return tuple(
        (
            value.feature,
            value.kind,
            tuple(share.category for share in value.shares),
            isinstance(value, GroupValue) and not value.shares,
        )
        for value in segment.values
    )


def _size(segment: Segment) -> tuple[int, int, int]:
    """Lower end, size, upper end; 0 where a shown segment states none, as no server of ours publishes it."""
    low, high = segment.size_interval or (0, 0)
    return low, segment.size or 0, high


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(whole=_whole, percent=percent, place=_place, short=_short, unbroken=_unbroken)
    return environment


def _whole(number: int) -> str:
    return f"{number:,}"


def _place(part: float) -> str:
    """A place on a chart, as a percentage for SVG."""
    return f"{100 * part:.2f}%"


def _unbroken(name: str) -> str:
    """A name whose lines end, and never begin, with the dots between its parts."""
    return name.replace(" · ", "\N{NO-BREAK SPACE}· ")


def _short(digest: str) -> str:
    return digest[:_SHORT_HASH]


def _template(name: str) -> str:
    return files("fedseg.segments").joinpath("templates", name).read_text(encoding="utf-8")
