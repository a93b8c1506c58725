"""Plain YAML, parsed without PyYAML: `key: value`, lists of scalars, quotes, comments.

Every scalar is the text that was written: `010` is `010`. Anything that might mean something else in YAML is refused,
and left to PyYAML: a wrong guess here would mean another lock.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional, Union

    Scalar = Optional[str]  # None: empty, or null
    Entry = tuple[str, Union[Scalar, list[Scalar]]]

NULLS = ("", "~", "null", "Null", "NULL")
ESCAPES = {'"': '"', "\\": "\\", "/": "/", "n": "\n", "t": "\t"}

_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_-]{0,99}):(?: +|$)")
_ITEM = re.compile(r"( *)- +(?=[^ ])")
_REST = r" *(?: #.*)?$"
_SINGLE = re.compile(r"'((?:[^']|'')*)'(?:" + _REST + ")")
# Puppet's class escapes all but plain ASCII with \\U.
_HEX = r"x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U(?:000[0-9A-Fa-f]|0010)[0-9A-Fa-f]{4}"
_ESCAPE = re.compile(r'\\(["\\/nt]|' + _HEX + ")")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\(?:["\\/nt]|' + _HEX + r'))*)"(?:' + _REST + ")")
_PLAIN = re.compile(r"[A-Za-z0-9_./~+=$^()<;\\]|-(?=[A-Za-z0-9_./])")  # what a plain scalar may begin with
_FLOW = re.compile(r"\[([^\[\]{}\"'#]*)\](?:" + _REST + ")")
_IN_FLOW = re.compile(r"[A-Za-z0-9_./](?:[A-Za-z0-9_./:@+=~%-]*[A-Za-z0-9_./@+=~%-])?")


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
    indent = ""
    begun = False
    for line in lines:
        if not line.strip() or line.lstrip(" ").startswith("#"):
            continue
        if not begun and re.fullmatch("---" + _REST, line):
            begun = True
            continue
        begun = True
        item = _ITEM.match(line)
        if item is not None:
            if items is None or (items and item[1] != indent):
                raise NotPlain
            indent = item[1]
            items.append(_scalar(line[item.end() :]))
            entries[-1] = (entries[-1][0], items)
            continue
        key = _KEY.match(line)
        if key is None:
            raise NotPlain
        rest = line[key.end() :]
        is_empty = not rest or rest.startswith("#")
        entries.append((key[1], None if is_empty else _value(rest)))
        items = [] if is_empty else None
    return entries


def _value(rest: str) -> Scalar | list[Scalar]:
    if not rest.startswith("["):
        return _scalar(rest)
    flow = _FLOW.match(rest)
    if flow is None:
        raise NotPlain
    if not flow[1].strip(" "):
        return []
    return [_in_flow(item.strip(" ")) for item in flow[1].split(",")]


def _in_flow(item: str) -> Scalar:
    if not _IN_FLOW.fullmatch(item):
        raise NotPlain
    return None if item in NULLS else item


def _scalar(rest: str) -> Scalar:
    if rest.startswith("'"):
        quoted = _SINGLE.match(rest)
        if quoted is None:
            raise NotPlain
        return quoted[1].replace("''", "'")
    if rest.startswith('"'):
        quoted = _DOUBLE.match(rest)
        if quoted is None:
            raise NotPlain
        return _ESCAPE.sub(lambda escape: ESCAPES.get(escape[1]) or chr(int(escape[1][1:], 16)), quoted[1])
    if not _PLAIN.match(rest):
        raise NotPlain
    text = re.split(" +#", rest, maxsplit=1)[0].rstrip(" ")
    if ": " in text or text.endswith(":"):
        raise NotPlain
    return None if text in NULLS else text
