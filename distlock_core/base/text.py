"""Escaping of texts from elsewhere, for terminals and shells."""

from __future__ import annotations

MOST_SHOWN = 300  # characters of a reason or an owner in a message
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,")  # to a shell


def printable(text: str) -> str:
    """The text with all invisible characters escaped: control and format characters, line ends."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii", "replace") for c in text
    )


def shortened(text: str) -> str:
    """`printable()`, cut to the length of a message: a value in etcd may be megabytes long."""
    return printable(text) if len(text) <= MOST_SHOWN else f"{printable(text[:MOST_SHOWN])}..."


def for_shell(word: str) -> str:
    """A word for a shell, quoted if necessary."""
    if word and PLAIN.issuperset(word):
        return word
    import shlex

    return shlex.quote(word)
