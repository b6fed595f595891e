"""Purposes: three ids, each under a DPV term."""

import pytest

from fedseg.policy.purposes import Purpose


def test_each_purpose_names_its_broader_dpv_purpose() -> None:
    assert {purpose.value: purpose.broader for purpose in Purpose} == {
        "fedseg:SegmentStatistics": "dpv:ServiceUsageAnalytics",
        "fedseg:SegmentAssignment": "dpv:CustomerRelationshipManagement",
        "fedseg:SegmentActivation": "dpv:TargetedAdvertising",
    }
    assert Purpose.SEGMENT_ACTIVATION.broader_iri == "https://w3id.org/dpv#TargetedAdvertising"


def test_a_purpose_is_found_by_its_id() -> None:
    assert Purpose.from_text("fedseg:SegmentAssignment") is Purpose.SEGMENT_ASSIGNMENT


@pytest.mark.parametrize(
    "text", ["", "SegmentStatistics", "fedseg:segmentstatistics", "dpv:ServiceUsageAnalytics", "*"]
)
def test_an_unknown_purpose_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown purpose .*; known are fedseg:SegmentStatistics, "):
        Purpose.from_text(text)
