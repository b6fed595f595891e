"""A strict reader of a small part of YAML 1.2: mappings, lists, text and whole numbers, each on a known line.

A policy must mean to the person who reads it what it means to the program. So whatever YAML can say in a surprising
way is refused, with the line and the key, rather than interpreted: repeated keys, anchors and aliases, merge keys,
tags, more than one document, invisible characters, and every unquoted value that some YAML version takes for a truth
value, a date, a number with a point, nothing, or an octal. Pure: no files.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Final, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamStartEvent,
)

from fedseg.errors import PolicyDocumentError

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 16

Value: TypeAlias = "int | str | list[Value] | dict[str, Value]"
Path: TypeAlias = "tuple[str | int, ...]"
"""Keys and list places from the top of the document to a value."""

_INTEGER: Final = re.compile(r"0|[1-9][0-9]{0,14}")
# Anything that starts otherwise may be a number, a date or a sign of YAML in some version of it.
_TEXT: Final = re.compile(r"[A-Za-z].*")
_NOT_TEXT: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, and where it says so."""

    root: Mapping[str, Value]
    """The outermost mapping."""
    lines: Mapping[Path, int]
    """The line, from 1, of every value; `()` is the document itself."""

    def line_of(self, path: Path) -> int:
        """The line of the value at `path`, or of the innermost value around it that is there."""
        while path not in self.lines:
            path = path[:-1]
        return self.lines[path]


def read_document(data: bytes) -> Document:
    """Read the one mapping that `data` holds.

    Raises:
        PolicyDocumentError: If the data are too large, no UTF-8, no YAML, or hold anything named at the top of this
            module. Names the line and the key.
    """
    text = _text(data)
    lines: dict[Path, int] = {}
    try:
        events = _one_document(YAML(typ="safe", pure=True).parse(text))
        root = _read(events, (), lines)
        # Only at the end of the file is it sure that nothing follows.
        list(events)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise refusal("this is not YAML", line=None if mark is None else mark.line + 1) from error
    except (ValueError, OverflowError) as error:
        # The YAML reader lets these out for escapes of characters that do not exist.
        raise refusal("it holds an escape of a character that does not exist", line=None) from error
    if not isinstance(root, dict):
        raise refusal("a policy is a mapping of keys to values", line=lines[()])
    return Document(MappingProxyType(root), MappingProxyType(lines))


def refusal(why: str, *, line: int | None, path: Path = ()) -> PolicyDocumentError:
    """The error for a document: where, what, and what to do."""
    place = [] if line is None else [f"line {line}"]
    place += [f"key {'.'.join(map(str, path))}"] if path else []
    return PolicyDocumentError(
        "the policy document cannot be read",
        why=f"{', '.join(place)}: {why}" if place else why,
        fix="correct the file and run `fedseg policy check FILE`",
    )


def _text(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise refusal(f"it is {len(data)} bytes long; at most {MAX_BYTES} are read", line=None)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refusal("it is not UTF-8 text", line=data[: error.start].count(b"\n") + 1) from error
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        # Also a tab, a byte order mark, and marks that turn the direction of writing.
        if not line.isprintable():
            raise refusal("it holds an invisible character, such as a tab; use spaces and visible text", line=number)
    return text


def _one_document(events: Iterator[Event]) -> Iterator[Event]:
    """The events inside the only document of a stream."""
    documents = 0
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise refusal("a second document begins here; a policy is one document", line=line)
            if event.version is not None or event.tags:
                raise refusal("a directive (%) stands before this line; a policy has none", line=line)
        elif not isinstance(event, (StreamStartEvent, DocumentEndEvent)):
            yield event


def _read(events: Iterator[Event], path: Path, lines: dict[Path, int]) -> Value:
    """The next value."""
    event = next(events)
    line = event.start_mark.line + 1
    lines[path] = line
    if len(path) > MAX_DEPTH:
        raise refusal(f"values nest deeper than {MAX_DEPTH}", line=line, path=path)
    if isinstance(event, AliasEvent):
        raise refusal("an alias (*) repeats another value; write the value out", line=line, path=path)
    if isinstance(event, NodeEvent) and event.anchor is not None:
        raise refusal("an anchor (&) names a value for reuse; write values out", line=line, path=path)
    if isinstance(event, (ScalarEvent, SequenceStartEvent, MappingStartEvent)) and event.tag is not None:
        raise refusal("a tag (!) changes what a value is; leave it out", line=line, path=path)
    if isinstance(event, ScalarEvent):
        return _scalar(event, line, path)
    if isinstance(event, SequenceStartEvent):
        return _list(events, path, lines)
    if isinstance(event, MappingStartEvent):
        return _mapping(events, path, lines)
    raise refusal("there is no value here", line=line, path=path)


def _list(events: Iterator[Event], path: Path, lines: dict[Path, int]) -> list[Value]:
    values: list[Value] = []
    while not isinstance(event := next(events), SequenceEndEvent):
        values.append(_read(chain((event,), events), (*path, len(values)), lines))
    return values


def _mapping(events: Iterator[Event], path: Path, lines: dict[Path, int]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    while not isinstance(event := next(events), MappingEndEvent):
        line = event.start_mark.line + 1
        key = _read(chain((event,), events), path, {}) if isinstance(event, ScalarEvent) else None
        if not isinstance(key, str):
            raise refusal("a key must be text", line=line, path=path)
        if key in values:
            raise refusal("the key stands here a second time", line=line, path=(*path, key))
        values[key] = _read(events, (*path, key), lines)
        # A key's own line says more than that of a list or mapping below it.
        lines[(*path, key)] = line
    return values


def _scalar(event: ScalarEvent, line: int, path: Path) -> int | str:
    text: str = event.value
    if event.style in ("'", '"'):
        if not text.isprintable():
            raise refusal("text must be visible and on one line", line=line, path=path)
        return text
    if not event.style:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _TEXT.fullmatch(text) and text.lower() not in _NOT_TEXT:
            return text
    raise refusal(f"{text[:40]!r} can be read in more than one way; write text in quotes", line=line, path=path)
