"""Texts that came from elsewhere, made harmless: for a terminal, and for a shell."""

from __future__ import annotations

MOST_SHOWN = 300  # characters of a reason or an owner in a message
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,")  # to a shell


def printable(text: str) -> str:
    """The text with everything escaped that is not plainly visible: control and format characters, line ends."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii", "replace") for c in text
    )


def shortened(text: str) -> str:
    """The same, cut to what fits into a message: anybody may have put megabytes there."""
    return printable(text) if len(text) <= MOST_SHOWN else f"{printable(text[:MOST_SHOWN])}..."


def for_shell(word: str) -> str:
    """A word as a shell takes it: in quotes where it needs them."""
    if word and PLAIN.issuperset(word):
        return word
    import shlex

    return shlex.quote(word)
