"""Plain YAML, parsed without PyYAML: `key: value`, lists of scalars, quotes, comments.

Every scalar is the text that was written: `010` is `010`. Anything that might mean something else in YAML is refused,
and left to PyYAML: a wrong guess here would mean another lock. `re` is not used: to load it, and to compile patterns,
would take longer than to read a file.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Union

    Scalar = Optional[str]  # None: empty, or null
    Entry = tuple[str, Union[Scalar, list[Scalar]]]

NULLS = ("", "~", "null", "Null", "NULL")
ESCAPES = {'"': '"', "\\": "\\", "/": "/", "n": "\n", "t": "\t"}
DIGITS = {
    "x": 2,
    "u": 4,
    "U": 8,
}  # of an escaped character's number. Puppet's class escapes all but plain ASCII with \U
LONGEST_KEY = 100  # characters

_HEX = "0123456789ABCDEFabcdef"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"
_KEY = _LETTERS + "0123456789-"
_WORD = _LETTERS + "0123456789./"
_FIRST = _WORD + "~+=$^()<;\\"  # what a plain scalar may begin with
_IN_FLOW = _WORD + ":@+=~%-"


class NotPlain(Exception):
    """The text is not in the plain form."""


def read(text: str) -> list[Entry]:
    """Return keys and values in the order of the file; a key may occur twice. Raises `NotPlain`."""
    text = text.removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").split("\n")
    if not all(line.isprintable() for line in lines):
        raise NotPlain
    entries: list[Entry] = []
    items: list[Scalar] | None = None  # of the previous key, if its line had no value
    indent = 0
    begun = False
    for line in lines:
        content = line.lstrip(" ")
        if not content or content.startswith("#"):
            continue
        if not begun and line.startswith("---") and _is_end(line[3:]):
            begun = True
            continue
        begun = True
        if content.startswith("- "):
            item = content[2:].lstrip(" ")
            if not item or items is None or (items and len(line) - len(content) != indent):
                raise NotPlain
            indent = len(line) - len(content)
            items.append(_scalar(item))
            entries[-1] = (entries[-1][0], items)
            continue
        key, rest = _split(line)
        is_empty = not rest or rest.startswith("#")
        entries.append((key, None if is_empty else _value(rest)))
        items = [] if is_empty else None
    return entries


def _split(line: str) -> tuple[str, str]:
    """The key in front of the colon, and what is behind it."""
    key, colon, rest = line.partition(":")
    is_key = _consists_of(_KEY, key) and key[0] in _LETTERS and len(key) <= LONGEST_KEY
    if not is_key or not colon or rest[:1] not in ("", " "):
        raise NotPlain
    return key, rest.lstrip(" ")


def _value(rest: str) -> Scalar | list[Scalar]:
    if not rest.startswith("["):
        return _scalar(rest)
    items, bracket, behind = rest[1:].partition("]")
    if not bracket or not _is_end(behind) or any(mark in items for mark in "[{}\"'#"):
        raise NotPlain
    if not items.strip(" "):
        return []
    return [_in_flow(item.strip(" ")) for item in items.split(",")]


def _in_flow(item: str) -> Scalar:
    if not _consists_of(_IN_FLOW, item) or item[0] not in _WORD or item.endswith(":"):
        raise NotPlain
    return None if item in NULLS else item


def _scalar(rest: str) -> Scalar:
    if rest.startswith("'"):
        return _single_quoted(rest)
    if rest.startswith('"'):
        return _double_quoted(rest)
    if rest[0] not in _FIRST and not (rest[0] == "-" and rest[1:] and rest[1] in _WORD):
        raise NotPlain
    text = rest.partition(" #")[0].rstrip(" ")
    if ": " in text or text.endswith(":"):
        raise NotPlain
    return None if text in NULLS else text


def _single_quoted(rest: str) -> str:
    end = rest.find("'", 1)
    while rest[end + 1 : end + 2] == "'" and end > 0:  # two of them are one that is written
        end = rest.find("'", end + 2)
    if end < 0 or not _is_end(rest[end + 1 :]):
        raise NotPlain
    return rest[1:end].replace("''", "'")


def _double_quoted(rest: str) -> str:
    text, at = "", 1
    while True:
        end = rest.find('"', at)
        escape = rest.find("\\", at, end)
        if end < 0 or escape < 0:
            break
        character, length = _escaped(rest[escape + 1 :])
        text += rest[at:escape] + character
        at = escape + 1 + length
    if end < 0 or not _is_end(rest[end + 1 :]):
        raise NotPlain
    return text + rest[at:end]


def _escaped(text: str) -> tuple[str, int]:
    """The character that stands behind a backslash, and the length of how it is written."""
    kind = text[0]
    if kind in ESCAPES:
        return ESCAPES[kind], 1
    length = DIGITS.get(kind, 0)
    digits = text[1 : 1 + length]
    if not length or len(digits) < length or not _consists_of(_HEX, digits) or int(digits, 16) > 0x10FFFF:
        raise NotPlain
    return chr(int(digits, 16)), 1 + length


def _is_end(text: str) -> bool:
    """True if nothing more than a comment is there."""
    rest = text.lstrip(" ")
    return not rest or (rest[0] == "#" and text[0] == " ")


def _consists_of(characters: str, text: str) -> bool:
    return bool(text) and not text.strip(characters)
