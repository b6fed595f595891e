"""What a mutant is: each change that a test should notice, and none that nobody promised anything about."""

import ast

import pytest

from benchmarks.mutation import error_makers_of, mutants_of, mutated


def changes(source: str, *makers: str) -> list[str]:
    return [f"{one.before} -> {one.after}" for one in mutants_of(source, makers)]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a = b < c", ["b < c -> b <= c", "b < c -> b >= c"]),
        ("a = b and c", ["b and c -> b or c", "b and c -> c", "b and c -> b"]),
        ("a = not b", ["not b -> b"]),
        ("a = b * c", ["b * c -> b // c"]),
        ("a = 7", ["7 -> 8"]),
        ("a = True", ["True -> False"]),
        ("a = 'b'", ["'b' -> 'XXb'"]),
        ("a = b[:c]", [":c -> :"]),
        ("a += b", ["a += b -> a -= b", "a += b -> pass"]),
        ("check(a)", ["check(a) -> pass"]),
        ("if a: raise b", ["a -> True", "a -> False"]),
        ("a = [b for b in c if d]", ["d -> True", "d -> False"]),
        ("def a():\n  return b", ["return b -> return None"]),
        ("try: a\nexcept (b, c): d", ["except (b, c) -> except (c,)", "except (b, c) -> except (b,)"]),
        ("try: a\nexcept b: raise", ["except b -> except ()", "raise -> pass"]),
        ("a = min(b)", ["min -> max"]),
        ("a: Annotated[int, Field(ge=0)]", ["0 -> 1"]),
    ],
)
def test_each_kind_of_change_is_made(source: str, wanted: list[str]) -> None:
    assert changes(source) == wanted


@pytest.mark.parametrize(
    "source",
    [
        '"""What it holds."""',
        "a: 'Later'",
        "Type = One | Other | Third",
        "__slots__ = ('a',)",
        "@dataclass(frozen=True)\nclass A: b: int",
        "raise ValueError(f'got {a[:7]}')",
        "raise AnyError('what', why='a' if b else 'c', fix='d')",
        "why = f'it has {a} of {b}'",
        "def __repr__(self):\n  return 'A()'",
    ],
)
def test_no_change_is_made_where_nothing_is_promised(source: str) -> None:
    assert [one for one in changes(source) if not one.startswith("raise")] == []


def test_text_for_a_function_that_makes_an_error_is_no_code() -> None:
    makes = "def failed(what) -> TestError:\n  return TestError(what)\n"
    assert error_makers_of(makes) == {"failed"}
    assert changes("from a import failed\nfailed(b + 1, 'words')", "failed") == [
        "failed(b + 1, 'words') -> pass",
        "b + 1 -> b - 1",
        "1 -> 2",
    ]
    assert "'words' -> 'XXwords'" in changes("failed('words')", "failed")


def test_a_mutant_differs_from_its_module_in_one_place_and_its_module_stays_as_it_was() -> None:
    source = "def a(b):\n    if b > 0 and b < 9:\n        raise ValueError('no')\n    return b + 1\n"
    texts = [ast.unparse(mutated(source, one.number)) for one in mutants_of(source)]
    assert ast.unparse(ast.parse(source)) not in texts
    assert len(set(texts)) == len(texts)
    assert [one.line for one in mutants_of(source)][-1] == 4
    assert {one.function for one in mutants_of(source)} == {"a"}
