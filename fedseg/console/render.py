"""Pages from facts. No computing; whatever others wrote is text, and what cannot be seen in it is shown as a number."""

import functools
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from fedseg.errors import FedsegError
from fedseg.names import visible
from fedseg.privacy.budget import fraction_text, shown_fraction
from fedseg.report.officer.render import guess
from fedseg.report.page import left, probability, template, used

_HASH_GROUP: Final = 8
_REPORTS: Final = "report/"


def page(template: str, **facts: Any) -> str:
    """A page."""
    return _environment().get_template(f"{template}.html.j2").render(facts)


def file(name: str) -> str:
    """A file that pages refer to; what begins with `report/` is the officer's report's."""
    if name.startswith(_REPORTS):
        return template(name.removeprefix(_REPORTS))
    return files("fedseg.console").joinpath("templates", name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    environment.filters.update(_FILTERS)
    environment.tests["error"] = lambda value: isinstance(value, FedsegError)
    return environment


def _visible(value: Any) -> Any:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _percent(part: Fraction) -> str:
    """A part of the budget that is left, rounded down."""
    return _on_one_line(left(part, Fraction(1)))


def _percent_used(part: Fraction) -> str:
    """A part of the budget that is not left, rounded up."""
    return _on_one_line(used(part, Fraction(1)))


def _on_one_line(text: str) -> Markup:
    return Markup("&nbsp;").join(text.split())


def _groups(digits: str) -> list[str]:
    """A hash in groups that can be read aloud."""
    return [digits[start : start + _HASH_GROUP] for start in range(0, len(digits), _HASH_GROUP)]


_FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "whole": lambda number: f"{number:,}",
    "fraction": fraction_text,
    "decimal": lambda number: f"{float(number):.3g}" if isinstance(number, (Fraction, Decimal)) else number,
    "percent": _percent,
    "percent_used": _percent_used,
    "guess": guess,
    "chance": lambda delta: probability(Fraction(delta)),
    "epsilon": lambda value: shown_fraction(Fraction(value)),
    "short": lambda digits: digits[:16],
    "groups": _groups,
    "words": lambda text: str(text).replace("_", " "),
}
