"""Published results made by hand, signed with a key made for them."""

from typing import Any

from fedseg.ledger.keys import SigningKey
from fedseg.segments.segmentation import (
    CyclicValue,
    Findings,
    GroupValue,
    NumericValue,
    Other,
    Segment,
    Segmentation,
    Share,
    SignedSegmentation,
    Spread,
    Value,
)


def number(center: float, low: float, high: float, *, label: str = "pounds", feature: str = "spend") -> NumericValue:
    spread = Spread(sd=1, low=0.5, high=1.5, typical_low=center / 2, typical_high=2 * center)
    return NumericValue(
        kind="numeric", feature=feature, label=label, shares=(), center=center, low=low, high=high, spread=spread
    )


def parts(*shares: tuple[str, float, float, float], label: str = "contract") -> GroupValue:
    each = tuple(Share(category=name, share=share, low=low, high=high) for name, share, low, high in shares)
    return GroupValue(kind="categorical", feature="contract", label=label, shares=each)


def hour(center: float, low: float, high: float, *, label: str = "hour of the day") -> CyclicValue:
    return CyclicValue(
        kind="cyclic",
        feature="hour",
        label=label,
        shares=(Share(category="missing", share=0.1, low=0.05, high=0.15),),
        center=center,
        low=low,
        high=high,
        concentration=0.8,
        concentration_low=0.7,
        concentration_high=0.9,
        period=24,
        start=0,
        names=(),
    )


def segment(name: str, size: int | None, *values: Value, **terms: Any) -> Segment:
    """A segment; without a size it is suppressed."""
    shown = size is not None
    made: dict[str, Any] = {
        "name": name,
        "suppressed": not shown,
        "size": size,
        "size_interval": (size - 50, size + 50) if size is not None else None,
        "above_noise": shown,
        "clipped": False,
        "stability": 0.9 if shown else None,
        "stable": shown,
        "values": values,
        "encoded_center": (0,) * len(values),
    }
    return Segment(**(made | terms))


def signed(*segments: Segment, **terms: Any) -> SignedSegmentation:
    """A result that holds these segments."""
    made: dict[str, Any] = {
        "version": 1,
        "name": "spring",
        "plan_sha256": "5" * 64,
        "algorithm": "fedseg-cells-1",
        "trust": "unit-noise",
        "epsilon": "2/1",
        "delta": "1/1000000",
        "rho": "1/8",
        "rounds": 6,
        "units": ("north", "south"),
        "noise": "system",
        "segments": segments,
        "bounds": (),
        "other": Other(segments=1, size=None, size_interval=None) if any(one.suppressed for one in segments) else None,
        "findings": Findings(choice=None, merges=(), alike=(), mixed=()),
    }
    return SignedSegmentation.sign(Segmentation(**(made | terms)), SigningKey.generate())


def hostile(text: str) -> SignedSegmentation:
    """A result in which every word that a plan's author or a server chooses is `text`."""
    values = (
        (1200.0, 0.9, 23.5),
        (300.0, 0.2, 12.0),
    )
    shown = [
        segment(
            text,
            400,
            number(center, center - 100, center + 100, label=text),
            parts((text, share, share - 0.1, share + 0.1), ("other", 1 - share, 0, 1), label=text),
            hour(time, (time - 1) % 24, (time + 1) % 24, label=text),
        )
        for center, share, time in values
    ]
    return signed(*shown, segment(text, None), name=text, units=(text, "south"))
