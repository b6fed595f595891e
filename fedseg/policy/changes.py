"""What two policies say differently, key by key. Pure; which customers that concerns, `analysis.py` finds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedseg.policy.document import Policy


@dataclass(frozen=True, slots=True)
class Change:
    """A key that differs, and what it says before and after; None where it is absent."""

    key: str
    before: Any
    after: Any


def keys_changed(before: Policy, after: Policy) -> list[Change]:
    """Every key of the documents that differs, whether it changes a decision about customers or not."""
    old, new = (dict(_flat(one.model_dump(mode="json", exclude_none=True))) for one in (before, after))
    keys = [*old, *(key for key in new if key not in old)]
    return [Change(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """The document as one line per key; lists are compared as a whole, those of mappings item by item."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _flat(below, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for place, one in enumerate(value, 1):
            yield from _flat(one, f"{key}.{place}")
    else:
        yield key, value
