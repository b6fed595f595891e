"""`Statement`: one thing that a document says, with the place it is known from; or a blank that people must fill. Pure.

Names in statements come from policies, settings and plans, which others wrote: a statement is plain text, and whoever
writes it into a file escapes it for that file.
"""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

TO_BE_FILLED: Final = "TO BE FILLED: "
"""What a blank begins with."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that a document says."""

    place: str
    """Where in the document: an article, a question, a heading."""
    about: str
    """What it is about."""
    says: str
    """Plain text."""
    source: str
    """What it is known from; empty for a blank."""

    @property
    def is_blank(self) -> bool:
        """Whether people must fill it."""
        return not self.source


def fact(place: str, about: str, says: str, source: str) -> Statement:
    """What is known, and from what."""
    return Statement(place, about, visible(says), source)


def blank(place: str, about: str, what: str) -> Statement:
    """What nothing here knows."""
    return Statement(place, about, TO_BE_FILLED + what, "")


def blanks(statements: Iterable[Statement]) -> int:
    """How many of them people must fill."""
    return sum(one.is_blank for one in statements)


def visible(text: str) -> str:
    r"""The text with every character that cannot be seen written as its code, so that no name can pose as another.

    >>> visible("a\tb")
    'a\\u0009b'
    """
    return "".join(
        one if one == " " or unicodedata.category(one)[0] not in "CZ" else f"\\u{ord(one):04x}" for one in text
    )
