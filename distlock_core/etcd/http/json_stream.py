"""Splitting of a stream into JSON objects as its bytes arrive, in linear time.

Objects are separated by a newline or by nothing: etcd 3.4 and 3.5 send no newline after an error. A chunk may end
inside a character or a string.
"""

from __future__ import annotations

from distlock_core.base import plain_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

BLANKS = b" \t\r\n"
QUOTE, BACKSLASH, OPEN, CLOSE = b'"\\{}'


class JsonStream:
    """Receives bytes, and returns complete objects."""

    def __init__(self, most: int) -> None:
        """`most`: size limit of one object, in bytes."""
        self._most = most
        self.broken = False  # the next bytes are no object, or exceed the size limit
        self._data = bytearray()
        self._at = 0  # everything before it has been scanned
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> list[Any]:
        """Return the objects that these bytes complete, up to a broken one, which sets `broken`."""
        if not self._depth and not self._data.strip(BLANKS) and data.endswith(b"\n") and len(data) <= self._most:
            whole = _lines(data)
            if whole is not None:
                return whole
        self._data += data
        objects: list[Any] = []
        try:
            while (end := self._find_end()) is not None:
                objects.append(plain_json.loads(self._data[:end]))
                del self._data[:end]
                self._at = 0
            self.broken = len(self._data) > self._most
        except (ValueError, RecursionError):
            self.broken = True
        return objects

    def _find_end(self) -> int | None:
        """The end of the first object, None while it is incomplete."""
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
            # Brackets need no counting: in valid JSON they come in pairs, and invalid JSON is refused later.
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
        """Continue after the string. False if its end has not arrived yet."""
        data = self._data
        quote = _find(data, QUOTE, self._at)
        slashes = 0
        while quote - slashes > self._at and data[quote - slashes - 1] == BACKSLASH:
            slashes += 1
        if quote == len(data):
            self._at = quote - slashes % 2  # scan a trailing backslash again with the bytes after it
            return False
        self._at = quote + 1
        self._in_string = bool(slashes % 2)  # then the quote is inside the string
        return True


def _lines(data: bytes) -> list[Any] | None:
    """The objects if there is one on each line, None for any other text: nearly all that arrives, and fast to read."""
    try:
        objects = [plain_json.loads(line) for line in data.splitlines() if line]
    except (ValueError, RecursionError):
        return None
    return objects if all(type(one) is dict for one in objects) else None


def _find(data: bytearray, byte: int, start: int) -> int:
    found = data.find(byte, start)
    return len(data) if found < 0 else found
