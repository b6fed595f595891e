"""Text that somebody else wrote and people here will read: only characters that can be seen, in their usual order.

A name that holds a line break, an invisible character or one that turns the direction of what follows can look like
another name, or like another line of a table.
"""

import unicodedata

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Categories of Unicode: control, format (zero-width, direction), surrogate, private, unassigned, line, paragraph."""


def require_visible(text: str) -> str:
    """The text itself, if all of its characters can be seen and it neither begins nor ends with a blank.

    >>> require_visible("days since the last purchase (€)")
    'days since the last purchase (€)'

    Raises:
        ValueError: If not; names the first character that cannot be seen.
    """
    for character in text:
        if unicodedata.category(character) in _UNSEEN:
            raise ValueError(f"holds a character that cannot be seen, U+{ord(character):04X}")
        if character.isspace() and character != " ":
            raise ValueError(f"holds a blank that is no space, U+{ord(character):04X}")
    if text != text.strip():
        raise ValueError("begins or ends with a blank")
    return text


def visible(text: str) -> str:
    r"""The text with each character that `require_visible` refuses as its number, for texts that nobody has refused.

    >>> visible("ann\u202e\nbob")
    'ann[U+202E][U+000A]bob'
    """
    return "".join(f"[U+{ord(one):04X}]" if _is_unseen(one) else one for one in text)


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN or (character.isspace() and character != " ")


def require_plain(text: str) -> str:
    """The text itself, if it is visible and in Unicode's composed form (NFC), so that what looks alike is alike.

    Raises:
        ValueError: If not.
    """
    if not unicodedata.is_normalized("NFC", require_visible(text)):
        raise ValueError("is not in Unicode's composed form, NFC")
    return text
