"""Features that say to which group a customer belongs: binary, categorical, region. Lookups in public tables alone."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedseg.clustering.features import FEATURE_MAX, MISSING, TRUTH_LEVEL, Feature, Indicator
from fedseg.columns import ColumnType

YES = "yes"
"""What a binary feature's indicator says."""

OTHER = "other"
"""The category of whatever the vocabulary does not name."""

CATEGORY_LEVEL = math.isqrt(FEATURE_MAX**2 // 2)
"""A customer's own category stands at this, all others at 0: two categories are sqrt(2) times this apart, which is half
the range of a number. The reason stands in docs/adr/0015-feature-kinds.md."""


@final
@dataclass(frozen=True, slots=True)
class BinaryFeature(Feature):
    """Yes or no: one column."""

    missing: bool = False
    """What stands for a missing answer."""
    yes_word: str = "yes"
    """One word for customers with a yes: "senior"."""
    no_word: str = "no"
    """One word for customers without."""

    kind: ClassVar[str] = "binary"
    type: ClassVar[ColumnType] = ColumnType.TRUTH

    @property
    def indicators(self) -> tuple[Indicator, ...]:
        """Yes, and the missing flag."""
        half = self.scaled(TRUTH_LEVEL)
        return (Indicator(YES, -half, half), *self.flag())

    @property
    def foreseen(self) -> str:
        """The two answers."""
        return "yes or no"

    @property
    def missing_text(self) -> str:
        """The answer."""
        return YES if self.missing else "no"

    def encode(self, cells: pa.Array) -> NDArray[np.int32]:
        """One level for yes, its negative for no.

        >>> BinaryFeature("senior").encode(pa.array([True, False, None])).tolist()
        [[262143], [-262143], [-262143]]
        """
        answers = pc.fill_null(cells, self.missing).to_numpy(zero_copy_only=False)
        return self.with_flag(cells, self.indicators[0].column(answers))

    def is_missing(self, cells: pa.Array) -> NDArray[np.bool_]:
        """Neither yes nor no."""
        missing: NDArray[np.bool_] = cells.is_null().to_numpy(zero_copy_only=False)
        return missing

    def is_outside(self, cells: pa.Array) -> NDArray[np.bool_]:
        """Nothing: the source reads what is neither yes nor no as missing."""
        return np.zeros(len(cells), np.bool_)


@dataclass(frozen=True, slots=True)
class CategoricalFeature(Feature):
    """One of the categories of a public vocabulary, or `OTHER`: one column each.

    A cell is read as UTF-8 without the white space around it, and must then be the same text, letter by letter. Empty
    is missing; whatever is neither that nor in the vocabulary is `OTHER`, and so is missing unless it has a flag.
    """

    vocabulary: tuple[str, ...]
    """The categories by name."""
    words: tuple[str, ...] = ()
    """What names of segments say for each category, in the vocabulary's order; the categories themselves if empty."""

    kind: ClassVar[str] = "categorical"
    type: ClassVar[ColumnType] = ColumnType.TEXT

    def __post_init__(self) -> None:
        Feature.__post_init__(self)
        if not self.vocabulary or len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError(f"feature {self.name}: the vocabulary needs categories, each of them once")
        for category in self.vocabulary:
            if category in {OTHER, MISSING}:
                raise ValueError(f"feature {self.name}: leave {category!r} out of the vocabulary, it is there anyway")
            if not category or category != self._category(category):
                raise ValueError(f"feature {self.name}: no cell would ever be read as {category!r}")
        if self.words and len(self.words) != len(self.vocabulary):
            raise ValueError(f"feature {self.name}: there must be as many words as categories, or none")

    @property
    def indicators(self) -> tuple[Indicator, ...]:
        """Each category, `OTHER`, and the missing flag: exactly one of them speaks of a customer."""
        level = self.scaled(CATEGORY_LEVEL)
        says = (*self.vocabulary, OTHER, *((MISSING,) if self.missing_flag else ()))
        return tuple(Indicator(category, 0, level) for category in says)

    @property
    def foreseen(self) -> str:
        """The vocabulary."""
        return f"{', '.join(self.vocabulary)} or {OTHER}"

    @property
    def missing_text(self) -> str:
        """The category."""
        return MISSING if self.missing_flag else OTHER

    def encode(self, cells: pa.Array) -> NDArray[np.int32]:
        """One-hot.

        >>> contract = CategoricalFeature("contract", ("monthly", "yearly"))
        >>> contract.encode(pa.array([b"yearly", b" monthly ", b"Monthly", None], pa.large_binary())).tolist()
        [[0, 370726, 0], [370726, 0, 0], [0, 0, 370726], [0, 0, 370726]]
        """
        places = self._places(cells)
        return np.column_stack([one.column(places == place) for place, one in enumerate(self.indicators)])

    def is_missing(self, cells: pa.Array) -> NDArray[np.bool_]:
        """Nothing but white space."""
        missing: NDArray[np.bool_] = self._places(cells, missing=-1) == -1
        return missing

    def is_outside(self, cells: pa.Array) -> NDArray[np.bool_]:
        """Text that the vocabulary does not name: it counts as `OTHER`."""
        outside: NDArray[np.bool_] = self._places(cells, missing=-1) == len(self.vocabulary)
        return outside

    def _places(self, cells: pa.Array, missing: int | None = None) -> NDArray[np.intp]:
        """Index of each cell's indicator; each distinct text is looked up once."""
        unread = len(self.vocabulary) + self.missing_flag if missing is None else missing
        known = {category: place for place, category in enumerate(self.vocabulary)}
        coded = cells.dictionary_encode()
        read = (self._read(cell) for cell in coded.dictionary.to_pylist())
        places = [known.get(text, len(known)) if text else unread for text in read]
        found: NDArray[np.intp] = np.array([*places, unread], np.intp)[
            pc.fill_null(coded.indices, len(places)).to_numpy(zero_copy_only=False)
        ]
        return found

    def _read(self, cell: bytes) -> str:
        """The category that the cell names; no vocabulary names what is not UTF-8."""
        try:
            return self._category(cell.decode("utf-8"))
        except UnicodeDecodeError:
            return OTHER

    def _category(self, text: str) -> str:
        return text.strip()


@final
@dataclass(frozen=True, slots=True)
class RegionFeature(CategoricalFeature):
    """A categorical feature of whose codes only the first characters count: postal codes, NUTS."""

    characters: int = 2
    """How many leading characters, of those left when white space around the code is gone."""

    kind: ClassVar[str] = "region"

    def __post_init__(self) -> None:
        if self.characters < 1:
            raise ValueError(f"feature {self.name}: a code is cut to at least one character")
        CategoricalFeature.__post_init__(self)

    @property
    def foreseen(self) -> str:
        """The vocabulary, and how long its codes are."""
        return f"first {self.characters}: {', '.join(self.vocabulary)} or {OTHER}"

    def _category(self, text: str) -> str:
        return text.strip()[: self.characters].strip()
