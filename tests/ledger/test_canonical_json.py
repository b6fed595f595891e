"""Canonical JSON: one fact, one spelling."""

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from fedseg.ledger.canonical import MAX_DEPTH, MAX_INTEGER, Json, canonical, parse_canonical, sha256_hex

values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(), values, max_size=5)


@given(objects)
def test_what_was_written_is_read_back(value: dict[str, Json]) -> None:
    assert parse_canonical(canonical(value)) == value


@given(objects)
def test_the_order_of_keys_does_not_matter(value: dict[str, Json]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@given(objects)
def test_another_spelling_of_the_same_object_is_refused(value: dict[str, Json]) -> None:
    with pytest.raises(ValueError, match="canonical form"):
        parse_canonical(json.dumps(value, indent=1).encode() + b"\n")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner, max_size=4)))
def test_what_is_found_canonical_quickly_is_so_by_the_book(value: object) -> None:
    text = json.dumps({"a": value}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        data = text.encode()
        parsed = parse_canonical(data)
    except ValueError:
        return
    assert rfc8785.dumps(parsed) == data


@given(st.dictionaries(st.text(), values, max_size=5) | st.dictionaries(st.text('aé"\\\n\x7f😀\ufb33'), values))
def test_the_canonical_form_is_that_of_another_implementation(value: dict[str, Json]) -> None:
    assert canonical(value) == rfc8785.dumps(value)


def test_keys_in_the_order_of_code_points_are_refused_where_that_is_another() -> None:
    with pytest.raises(ValueError, match="canonical form"):
        parse_canonical('{"\ufb33":1,"\U0001f600":2}'.encode())
    assert list(parse_canonical('{"\U0001f600":2,"\ufb33":1}'.encode())) == ["\U0001f600", "\ufb33"]


@given(st.binary(max_size=40))
def test_bytes_are_canonical_or_refused(data: bytes) -> None:
    try:
        value = parse_canonical(data)
    except ValueError:
        return
    assert canonical(value) == data


def test_keys_sort_as_in_the_example_of_rfc_8785_section_3_2_3() -> None:
    value: dict[str, Json] = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    order = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(parse_canonical(canonical(value))) == order


def test_strings_are_written_as_in_the_example_of_rfc_8785_section_3_2_2() -> None:
    value: dict[str, Json] = {"string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/", "literals": [None, True, False]}
    expected = '{"literals":[null,true,false],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    assert canonical(value) == expected.encode()


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1.5},
        {"a": [2.0]},
        {"a": float("nan")},
        {"a": 2**53},
        {"a": -(2**53)},
        {"a": 10**5000},
        {"a": (1, 2)},
        {"a": b"bytes"},
        {"a": {1: "key"}},
        {1: "key"},
        {"a": "\ud800"},
        {"\ud800": 1},
    ],
)
def test_what_is_not_json_without_floats_is_refused(value: dict[str, Json]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        canonical(value)


@pytest.mark.parametrize("number", [2**53 - 1, -(2**53 - 1), 0])
def test_every_integer_that_all_readers_keep_exactly_is_kept(number: int) -> None:
    assert parse_canonical(b'{"a":%d}' % number) == {"a": number}
    assert canonical({"a": number, "ø": number}) == '{"a":%d,"ø":%d}'.encode() % (number, number)


def test_a_refused_number_is_not_printed() -> None:
    with pytest.raises(ValueError, match=r"2\*\*53") as caught:
        canonical({"a": 2**53 + 3917})
    assert "3917" not in str(caught.value).replace("2**53", "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1",
        b"[]",
        b"null",
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-0}',
        b'{"a":9007199254740992}',
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b'{"a":1}\n',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":"\xff"}',
        b'{"a":"\\ud800"}',
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_bytes_that_are_not_canonical_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_canonical(data)


def nested(depth: int) -> dict[str, Json]:
    value: dict[str, Json] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def test_nesting_has_a_fixed_limit() -> None:
    assert parse_canonical(canonical(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(ValueError, match="levels deep"):
        canonical(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 2_000, 200_000])
def test_bytes_that_nest_without_end_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="deep"):
        parse_canonical(b'{"a":' * depth + b"1" + b"}" * depth)


def test_sha256_is_the_published_one() -> None:
    assert sha256_hex(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
