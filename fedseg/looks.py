"""What all pages that people read have in common: one style sheet of colours, letters, tables and notices."""

from importlib.resources import files


def style_sheet(*more: str) -> str:
    """The common sheet, and after it the rules that a page has of its own."""
    return "\n".join([files("fedseg").joinpath("looks.css").read_text(encoding="utf-8"), *more])
