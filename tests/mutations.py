"""Seeded damage to valid bytes: the same coins give the same damage."""

import json
import random
import re
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

import rfc8785
import tomli_w

Changed = Callable[[random.Random, bytes], bytes]


def flipped(coins: random.Random, data: bytes) -> bytes:
    """A few bits the other way round."""
    changed = bytearray(data)
    for _ in range(coins.randint(1, 4)):
        changed[coins.randrange(len(changed))] ^= 1 << coins.randrange(8)
    return bytes(changed)


def cut(coins: random.Random, data: bytes) -> bytes:
    """An end, or a piece in the middle, is missing."""
    start = coins.randrange(len(data))
    return data[:start] + data[start + coins.randint(1, 40) :]


def grown(coins: random.Random, data: bytes) -> bytes:
    """More bytes somewhere."""
    place = coins.randint(0, len(data))
    return data[:place] + coins.randbytes(coins.randint(1, 40)) + data[place:]


def overwritten(coins: random.Random, data: bytes) -> bytes:
    """A stretch of extreme or random bytes."""
    place, length = coins.randrange(len(data)), coins.randint(1, 40)
    filling = coins.choice([b"\x00" * length, b"\xff" * length, coins.randbytes(length)])
    return (data[:place] + filling + data[place + length :])[: len(data)]


def from_nowhere(coins: random.Random, data: bytes) -> bytes:
    """Random bytes after the right beginning."""
    return data[: coins.randint(0, 40)] + coins.randbytes(coins.randint(0, 300))


NUMBERS = [
    b"0",
    b"-1",
    b"1",
    b"00",
    b"1e999",
    b"9" * 25,
    b"9" * 5000,
    b"4294967296",
    b"-9223372036854775809",
    b"0.5",
    b"nan",
]
PIECES = [
    *NUMBERS, b"\n", b"\n\n", b" ", b"\t", b"\r", b"\0", b'"', b"'", b"{", b"}", b"[", b"]", b"[[", b",", b":", b"=", b"#", b"null",
    b"true", b"\\u0000", b"\\ud800", b"\xed\xa0\x80", "é".encode(), "\u202e".encode(), "\u2028".encode(), b"&a", b"*a", b"!!x",
    b"../", b"%", b"+", b"[" * 200, b'{"a":' * 200, b"A" * 3000, "\N{EM DASH} a AAAA\n".encode(),
]  # fmt: skip


def renumbered(coins: random.Random, data: bytes) -> bytes:
    """Another number in place of one in the text."""
    found = list(re.finditer(rb"[0-9]+", data))
    if not found:
        return grown(coins, data)
    place = coins.choice(found)
    return data[: place.start()] + coins.choice(NUMBERS) + data[place.end() :]


def pieced(coins: random.Random, data: bytes) -> bytes:
    """A piece of some syntax where it does not belong."""
    place = coins.randint(0, len(data))
    return data[:place] + coins.choice(PIECES) + data[place + coins.choice([0, 0, 1, 5]) :]


def relined(coins: random.Random, data: bytes) -> bytes:
    """Lines twice, missing, or in another order."""
    lines = data.split(b"\n")
    one, other = coins.randrange(len(lines)), coins.randrange(len(lines))
    match coins.randrange(3):
        case 0:
            lines.insert(other, lines[one])
        case 1:
            del lines[one]
        case _:
            lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


ODD: Sequence[Any] = [
    None, True, False, 0, -1, 1, 0.5, -1e300, 2**31, 2**53 - 1, 2**60, -(2**70), "", "0", "a" * 3000, "é\0", "\u202e", "0" * 64, "..", "1/0", "9/1",
    [], {}, [[]], [None] * 300, {"": ""}, [{"a": []}] * 3,
]  # fmt: skip


def _replanted(coins: random.Random, value: Any) -> Any:
    """The tree with one leaf or branch exchanged, removed, doubled, or joined by another."""
    if isinstance(value, dict) and value and coins.random() < 0.85:
        key = coins.choice(sorted(value))
        changed = dict(value)
        match coins.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[coins.choice(["", "x", "version", "__proto__", f"{key} "])] = coins.choice(ODD)
            case _:
                changed[key] = _replanted(coins, value[key])
        return changed
    if isinstance(value, list) and value and coins.random() < 0.85:
        place = coins.randrange(len(value))
        match coins.randrange(6):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return [*value, value[place]]
            case _:
                return [*value[:place], _replanted(coins, value[place]), *value[place + 1 :]]
    if isinstance(value, str) and value and coins.random() < 0.5:
        return pieced(coins, value.encode()).decode("utf-8", "replace")
    return coins.choice(ODD)


def rejsoned(coins: random.Random, data: bytes) -> bytes:
    """Canonical JSON of another value."""
    value = _replanted(coins, json.loads(data))
    try:
        made = rfc8785.dumps(value)
    except rfc8785.CanonicalizationError:  # an integer that has no canonical form
        made = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    return made + (b"\n" if data.endswith(b"\n") else b"")


def retomled(coins: random.Random, data: bytes) -> bytes:
    """TOML of another value."""
    value = _replanted(coins, tomllib.loads(data.decode()))
    try:
        return tomli_w.dumps(value).encode()
    except (AttributeError, TypeError):  # TOML has no null
        return b"a = []"


BYTES: Sequence[Changed] = [flipped, cut, grown, overwritten, from_nowhere]
TEXT: Sequence[Changed] = [*BYTES, renumbered, pieced, relined]
JSON: Sequence[Changed] = [*TEXT, *[rejsoned] * 8]
TOML: Sequence[Changed] = [*TEXT, *[retomled] * 8]


def damaged(coins: random.Random, examples: Sequence[bytes], ways: Sequence[Changed]) -> bytes:
    """A valid example with one to three kinds of damage; sometimes the halves of two examples."""
    data = coins.choice(examples)
    if coins.random() < 0.05:
        other = coins.choice(examples)
        return data[: coins.randint(0, len(data))] + other[coins.randint(0, len(other)) :]
    first, *more = coins.choices(ways, k=coins.choice([1, 1, 1, 2, 3]))
    data = first(coins, data)
    for way in more:
        data = coins.choice([flipped, cut, grown, pieced])(coins, data) if data and way in TEXT else data
    return data
