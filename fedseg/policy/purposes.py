"""What customers may be counted for: fedseg's own purposes, each under a broader purpose of the W3C vocabulary.

DPV 2.3 (Data Privacy Vocabulary, https://w3id.org/dpv) has no term for customer segmentation, so fedseg names its own
and ties each to the closest broader DPV purpose. A pure vocabulary: no rules, no tables, no files.
"""

from enum import StrEnum
from typing import Final, Self

DPV: Final = "https://w3id.org/dpv#"
"""Namespace of the DPV terms; `dpv:X` stands for `DPV + "X"`."""


class Purpose(StrEnum):
    """One thing a customer can agree to. The three are asked for separately: agreeing to one is no yes to another."""

    SEGMENT_STATISTICS = "fedseg:SegmentStatistics"
    """Count the customer in noised statistics from which common segments are computed."""
    SEGMENT_ASSIGNMENT = "fedseg:SegmentAssignment"
    """Score this one person into a segment: profiling."""
    SEGMENT_ACTIVATION = "fedseg:SegmentActivation"
    """Use the person's segment to address them: campaigns, advertising."""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The purpose with this id.

        Raises:
            ValueError: If no purpose has this id.

        >>> Purpose.from_text("fedseg:SegmentStatistics").broader
        'dpv:ServiceUsageAnalytics'
        """
        try:
            return cls(text)
        except ValueError:
            known = ", ".join(purpose.value for purpose in cls)
            raise ValueError(f"unknown purpose {text!r}; known are {known}") from None

    @property
    def broader(self) -> str:
        """The DPV purpose this one falls under, written `dpv:Term`."""
        return _BROADER[self]

    @property
    def broader_iri(self) -> str:
        """The same as a full IRI."""
        return DPV + self.broader.removeprefix("dpv:")


_BROADER: Final = {
    Purpose.SEGMENT_STATISTICS: "dpv:ServiceUsageAnalytics",
    Purpose.SEGMENT_ASSIGNMENT: "dpv:CustomerRelationshipManagement",
    Purpose.SEGMENT_ACTIVATION: "dpv:TargetedAdvertising",
}
