"""Columns: the width of a text in a terminal, where some characters take two columns, and some none."""

from __future__ import annotations

CUT = "..."
MARKS = ("Mn", "Me")  # combined with the character before, as are the vowels and final consonants of Hangul below


def columns_of(text: str) -> int:
    """The number of columns that a printable text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    return sum(
        0 if category(one) in MARKS or "\u1160" <= one <= "\u11ff" else 2 if east_asian_width(one) in "WF" else 1
        for one in text
    )


def padded(text: str, width: int) -> str:
    """The text, with blanks up to this number of columns."""
    return text + " " * max(0, width - columns_of(text))


def cut_to(text: str, width: int) -> str:
    """The beginning of a printable text that fits into `width` columns, with an ellipsis if something is missing."""
    if columns_of(text) <= width:
        return text
    if width <= len(CUT):
        return CUT[:width]
    kept = ""
    for one in text:
        if columns_of(kept + one) > width - len(CUT):
            break
        kept += one
    return kept + CUT
