"""Patterns of lock names, for lists: `es-*` is every name that begins with `es-`. Pure."""

from __future__ import annotations


def is_pattern(name: str) -> bool:
    """True for a name with a `*` or a `?` in it. A lock whose own name has them matches itself."""
    return "*" in name or "?" in name


def matches(pattern: str, name: str) -> bool:
    """True if the whole name fits: `*` is any text, `?` any one character, and all else itself."""
    import re  # costs a list without patterns much of its start

    parts = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in pattern)
    return re.fullmatch("".join(parts), name, re.DOTALL) is not None
