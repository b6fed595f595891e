"""Canonical JSON (RFC 8785) without floats: the same fact always has the same bytes.

Pure functions on bytes: no files, no clock. Floats are left out because a hash must not depend on how a machine
rounds; whoever needs a fraction writes it as text or as two integers.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Never, TypeAlias, cast

import rfc8785

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json] | None"

MAX_DEPTH = 64
"""Deepest nesting of lists and objects; a fixed number, so that what is canonical never depends on a stack size."""
MAX_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader keeps exactly."""
_MOST_DIGITS = len(str(-MAX_INTEGER))
_encode_sorted = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False
).encode


def canonical(value: Mapping[str, Json]) -> bytes:
    """The RFC 8785 form of `value`, in UTF-8.

    Raises:
        ValueError: If `value` holds a float, an integer outside ±(2**53 - 1), text that has no UTF-8 form, a key that
            is not text, anything that is not JSON, or nests deeper than `MAX_DEPTH`.

    >>> canonical({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    plain = dict(value)
    _check(plain, depth=1)
    # For ASCII the standard library escapes and sorts as RFC 8785 does, five times faster: the two orders of keys, by
    # code point and by UTF-16, differ only far beyond ASCII.
    text = _encode_sorted(plain)
    return text.encode("ascii") if text.isascii() else rfc8785.dumps(plain)


def parse_canonical(data: bytes) -> dict[str, Json]:
    """The object whose canonical form is exactly `data`; encoding it again gives `data` back.

    Raises:
        ValueError: If `data` is anything else: another spelling of the same object, a repeated key, a float, a list.

    >>> parse_canonical(b'{"a":1}')
    {'a': 1}
    """
    text = data.decode("utf-8")
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("JSON nests too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("JSON must be an object")  # noqa: TRY004 - the bytes are wrong, not a caller's type
    parsed = cast("dict[str, Json]", value)
    # A repeated key, a blank, an escape that is not needed: all of them change the bytes on the way back.
    if not _is_plainly_canonical(parsed, text) and canonical(parsed) != data:
        raise ValueError("JSON is not in canonical form (RFC 8785)")
    return parsed


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data` as 64 lowercase hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _is_plainly_canonical(parsed: dict[str, Json], text: str) -> bool:
    """Whether `text`, which reads as `parsed`, is canonical beyond doubt; False only says that it takes a closer look.

    What was read holds no float and no integer out of range, and with so few brackets it cannot nest too deeply. So all
    that `canonical` would do is the same encoding.
    """
    return text.isascii() and text.count("[") + text.count("{") <= MAX_DEPTH and _encode_sorted(parsed) == text


def _read_integer(text: str) -> int:
    if len(text) > _MOST_DIGITS or abs(value := int(text)) > MAX_INTEGER:
        raise ValueError("JSON integers must lie within ±(2**53 - 1)")
    return value


def _refuse_number(text: str) -> Never:
    raise ValueError(f"JSON numbers must be whole, got one of {len(text)} characters that is not")


def _check(value: object, *, depth: int) -> None:
    """Refuse what rfc8785 would accept but a log must not: floats, tuples, and nesting without a bound."""
    if depth > MAX_DEPTH:
        raise ValueError(f"JSON may nest {MAX_DEPTH} levels deep, not more")
    if isinstance(value, list):
        for item in cast("list[object]", value):
            _check(item, depth=depth + 1)
    elif isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            if not isinstance(key, str):
                raise ValueError("JSON keys must be text")  # noqa: TRY004 - one error for all that is not JSON
            _check(item, depth=depth + 1)
    elif isinstance(value, int):
        # rfc8785 checks this too, but prints the number it refuses.
        if abs(value) > MAX_INTEGER:
            raise ValueError("JSON integers must lie within ±(2**53 - 1)")
    elif not (value is None or isinstance(value, str)):
        raise ValueError(f"JSON may hold no {type(value).__name__} here")


_DECODER = json.JSONDecoder(parse_int=_read_integer, parse_float=_refuse_number, parse_constant=_refuse_number)
