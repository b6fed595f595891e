"""Noting down who stood in a list that a recipient got, so that it can be told when they ask for their rights.

A unit hands its lists over by its own means. What stays here of one are the pseudonyms in it, the day, and a keyed
hash by which the same file is known again.
"""

import csv
import hashlib
import hmac
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO, Final

from fedseg.errors import DataError, MissingColumnError, PolicyError, RightsRequestError
from fedseg.node.home import NodeHome
from fedseg.node.source import open_source, subject_key
from fedseg.plan import caps_of
from fedseg.policy.document import Policy, load_policy
from fedseg.privacy.account import PrivacyAccount, require_signed
from fedseg.table import SUBJECT

COMPARED: Final = 1000
"""One of so many people at the beginning of a list is a customer of the unit, or the column is another."""
_TAG: Final = b"fedseg/handed-over/v1\n"


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A list that a recipient got."""

    recipient: str
    """As the policy names it."""
    file: Path
    """CSV with a heading, UTF-8."""
    column: str
    """The one with the customers' identifiers as they stand in the unit's source."""
    day: date | None = None
    """Today, if not said."""


def record_handed_over(home: NodeHome, handed: HandedOver, now: datetime) -> int:
    """Note down who stands in a list; the same list again changes nothing but its day.

    Returns:
        LOCAL: how many people.

    Raises:
        PolicyError: If the policy names no such recipient, or too few officers have signed it.
        DataError, MissingColumnError: If the list cannot be read as a whole, or names no customer of the unit.
        RightsRequestError: If it names somebody who was erased, or the day lies in the future.
    """
    today = now.astimezone(UTC).date()
    day = handed.day or today
    if day > today:
        raise RightsRequestError(
            "the list was handed over in the future", why=f"{day}, today {today}", fix="correct the day"
        )
    if handed.recipient not in {one.id for one in policy_in_force(home).recipients or ()}:
        raise PolicyError(
            f"the policy names no recipient {handed.recipient}",
            why="so nobody has decided that it may have customers' data, and there is no address to tell it anything",
            fix="have the policy's owners add it under recipients, or name one of those",
        )
    try:
        with handed.file.open("rb") as file:
            before = os.fstat(file.fileno())
            hashed = hashlib.file_digest(file, lambda: hmac.new(home.subject_secret, _TAG, "sha256")).digest()
            file.seek(0)
            _require_customers(home, itertools.islice(_subjects(home, handed, file), COMPARED))
            file.seek(0)
            with home.rights() as rights:
                people = rights.notices.record(
                    handed.recipient, day, hashed, _unchanged(_subjects(home, handed, file), file, before)
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(handed.file, "it is no CSV in UTF-8, or the disk failed") from error
    return people


def policy_in_force(home: NodeHome) -> Policy:
    """The policy whose recipients count: their addresses get to know who asks.

    Raises:
        PolicyError: If the policy is not the one in the ledger, and too few officers have signed it.
    """
    policy = load_policy(home.policy_document())
    with home.ledger() as ledger:
        current = PrivacyAccount(ledger).state().caps
    if current is None or current.policy_sha256 != policy.digest:
        require_signed(current, caps_of(policy), home.policy_signatures())
    return policy


def _subjects(home: NodeHome, handed: HandedOver, file: BinaryIO) -> Iterator[bytes]:
    """The pseudonyms in a list, as they come."""
    text = (line.decode("utf-8") for line in file)
    first = next(text, "").removeprefix("\ufeff")
    rows = csv.reader(itertools.chain([first], text), strict=True)
    names = next(rows, [])
    if names.count(handed.column) != 1:
        raise MissingColumnError(
            f"the list has {names.count(handed.column)} columns {handed.column!r}",
            why=f"{handed.file.name} has others in its first line",
            fix="name the column with the customers' identifiers",
        )
    place, secret = names.index(handed.column), home.subject_secret
    for row in filter(None, rows):
        if len(row) != len(names) or not row[place]:
            raise _unreadable(handed.file, f"line {rows.line_num} has another number of fields, or no identifier")
        yield subject_key(row[place].encode(), secret)


def _unchanged(subjects: Iterator[bytes], file: BinaryIO, before: os.stat_result) -> Iterator[bytes]:
    yield from subjects
    after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DataError(
            "the list changed while it was read", why="nothing was recorded", fix="run the command once it is complete"
        )


def _require_customers(home: NodeHome, sample: Iterator[bytes]) -> None:
    found = frozenset(sample)
    if not any(not found.isdisjoint(batch.column(SUBJECT).to_pylist()) for batch in open_source(home, ()).batches()):
        raise DataError(
            "the list names no customer of this unit",
            why=f"nobody of the first {COMPARED:,} stands in the unit's source by the identifier in this column",
            fix="name the column with the identifiers as they stand in the source",
        )


def _unreadable(file: Path, why: str) -> DataError:
    return DataError(
        "the list cannot be read", why=f"{file.name}: {why}; nothing was recorded", fix="record the list as it was sent"
    )
