"""Colours and letters are chosen once, for all pages."""

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "fedseg"


def test_colours_and_letters_are_named_in_one_sheet() -> None:
    sheets = {path.name: path.read_text("utf-8") for path in PACKAGE.rglob("*.css")}
    assert "--ink:" in sheets.pop("looks.css")
    assert {name: re.findall(r"--[\w-]+:|:root", text) for name, text in sheets.items()} == {
        name: [] for name in sheets
    }


def test_a_sheet_uses_no_name_that_there_is_not() -> None:
    sheets = {path.name: path.read_text("utf-8") for path in PACKAGE.rglob("*.css")}
    named = set(re.findall(r"(--[\w-]+):", sheets["looks.css"]))
    assert {used for text in sheets.values() for used in re.findall(r"var\((--[\w-]+)\)", text)} <= named
