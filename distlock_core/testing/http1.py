"""HTTP/1.1 framing for the proxy: the ends of heads and bodies."""

from __future__ import annotations

HEAD_END = b"\r\n\r\n"


class Head:
    """The head of a request or of a reply, parsed from its raw bytes (HEAD_END included)."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.first, *lines = raw[: -len(HEAD_END)].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        self.fields = {name.strip().lower(): value.strip() for name, _, value in pairs}

    @property
    def path(self) -> str:
        """A request's path."""
        return self.first.split(" ")[1] if self.first.count(" ") >= 2 else ""

    @property
    def status(self) -> int:
        """A reply's status, 0 if there is none."""
        words = self.first.split(" ")
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0

    @property
    def last(self) -> bool:
        """True if the connection is closed after this message."""
        return self.fields.get("connection", "").lower() == "close"


class Body:
    """Tracks the bytes of one body, to find its end."""

    def __init__(self, head: Head, *, reply: bool) -> None:
        self.done = False
        self.content = bytearray()
        self._left = 0
        self._chunked = head.fields.get("transfer-encoding", "").lower() == "chunked"
        self._trailer = False
        self._line = bytearray()
        if self._chunked:
            return
        length = head.fields.get("content-length")
        if length is not None:
            self._left = int(length)
            self.done = self._left == 0
        elif reply and head.status >= 200 and head.status not in (204, 304):
            self._left = -1  # until the connection ends
        else:
            self.done = True

    def feed(self, data: bytes) -> int:
        """Consume the body's bytes from the front of `data`, and return their number."""
        if self._left < 0:
            self.content += data
            return len(data)
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                taken = data[at : at + self._left]
                self.content += taken
                at += len(taken)
                self._left -= len(taken)
                self.done = not self._chunked and not self._left
            else:
                at = self._feed_line(data, at)
        return at

    def _feed_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        if end < 0:
            self._line += data[at:]
            return len(data)
        self._line += data[at : end + 1]
        line = bytes(self._line).strip()
        self._line.clear()
        if self._trailer:
            self.done = not line
        elif line:  # an empty line is the end of the previous chunk
            self._left = int(line.split(b";")[0], 16)
            self._trailer = not self._left
        return end + 1
