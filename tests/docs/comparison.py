"""What must be the same in two outputs of one command: words and layout, not numbers, hashes, keys or names of rows."""

import re

_VARYING = re.compile(
    r"[A-Za-z0-9+/]{43}="  # public keys
    r"|\b[0-9a-f]{4}(-[0-9a-f]{4}){7}\b"  # fingerprints
    r"|\b[0-9a-f]{16,}\b"  # hashes
    r"|-?\d[\d,]*(\.\d+)?(e[-+]?\d+)?"
)


_NAMED_SIZE = re.compile(r"^.+: # customers \(")
"""The first line about a segment; its name is made from its numbers."""


def shape(text: str) -> list[str]:
    """The lines without what varies from run to run; like rows of a table count once, and so do like pairs of lines."""
    lines: list[str] = []
    for line in text.splitlines():
        first, *rest = re.split(r"\s{2,}", _NAMED_SIZE.sub("NAME: # customers (", _VARYING.sub("#", line.strip())))
        named = bool(rest) and all(re.fullmatch(r"[#x/%, to-]+", cell) for cell in rest)
        found = "  ".join(["NAME" if named else first, *rest])
        if found and not (lines and lines[-1] == found):
            lines.append(found)
        if len(lines) > 3 and lines[-4:-2] == lines[-2:]:
            del lines[-2:]
    return lines
