"""A stream of JSON objects, cut into single ones as its bytes come, each byte looked at once.

Between two there may be a newline or nothing: etcd 3.4 and 3.5 send an error with no newline behind it. A piece may end
inside of a character or a string.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BLANKS = b" \t\r\n"
QUOTE, BACKSLASH, OPEN, CLOSE = b'"\\{}'


class JsonStream:
    """Feed it bytes; it returns the objects that are whole."""

    def __init__(self, most: int) -> None:
        """One object has at most so many bytes."""
        self._most = most
        self.broken = False  # what comes next is no object, or too large for one
        self._data = bytearray()
        self._at = 0  # what comes before it has been looked at
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> list[Any]:
        """Return the objects that are complete with these bytes, up to one that is `broken`."""
        self._data += data
        objects: list[Any] = []
        try:
            while (end := self._find_end()) is not None:
                objects.append(json.loads(self._data[:end]))
                del self._data[:end]
                self._at = 0
            self.broken = len(self._data) > self._most
        except (ValueError, RecursionError):
            self.broken = True
        return objects

    def _find_end(self) -> int | None:
        """The end of the first object, None as long as it is not there."""
        data = self._data
        if not self._depth:
            start = len(data) - len(data.lstrip(BLANKS))
            del data[:start]
            if not data:
                return None
            if data[0] != OPEN:
                raise ValueError("no JSON object")
        while self._at < len(data):
            if self._in_string:
                if not self._leave_string():
                    return None
                continue
            # Brackets need no count: in JSON that is whole they come in pairs, and what is not is refused later.
            quote = _find(data, QUOTE, self._at)
            for at in range(self._at, quote):
                if data[at] == OPEN:
                    self._depth += 1
                elif data[at] == CLOSE:
                    self._depth -= 1
                    if self._depth <= 0:
                        self._depth = 0
                        return at + 1
            self._in_string = quote < len(data)
            self._at = min(quote + 1, len(data))
        return None

    def _leave_string(self) -> bool:
        """Go on behind the string, or in it. False: more has to come first."""
        data = self._data
        quote = _find(data, QUOTE, self._at)
        slashes = 0
        while quote - slashes > self._at and data[quote - slashes - 1] == BACKSLASH:
            slashes += 1
        if quote == len(data):
            self._at = quote - slashes % 2  # a backslash at the end is looked at again with what follows
            return False
        self._at = quote + 1
        self._in_string = bool(slashes % 2)  # then it is a quote inside of the string
        return True


def _find(data: bytearray, byte: int, start: int) -> int:
    found = data.find(byte, start)
    return len(data) if found < 0 else found
