"""One HTTP/1.1 reply, read as it arrives: the head, then the body.

The server is not trusted to be a working etcd: deadline and cancel are checked before every read, even while data
keeps flowing; every byte is scanned once; heads, lines and bodies have size limits.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from distlock_core.base.deadline import Patience

    class Source(Protocol):
        """A connection to read from."""

        def receive(self, patience: Patience) -> bytes | None:
            """Return some bytes, b"" at the end of the connection, None at the deadline."""


MIB = 1024 * 1024
MAX_ANSWER = 64  # MiB; default of `max_answer`, the size limit of an answer
MAX_HEAD = 64 * 1024  # bytes; etcd's status line and headers are never longer
MAX_LINE = 1024  # bytes of a chunk's first line
NO_HTTP, CLOSED, TIMED_OUT = "no HTTP answer", "closed the connection", "timed out"
HEX = frozenset(b"0123456789abcdefABCDEF")


class ConnectionLost(Exception):
    """The connection broke, or the deadline passed, after the request may have been sent."""


class TooLarge(ConnectionLost):
    """The answer exceeds this client's size limit. Asking again would not help."""

    def __init__(self, most: int) -> None:
        super().__init__(f"its answer is larger than {most // MIB} MiB: set max_answer (MiB) higher to read it")


class Inbox:
    """Bytes that have arrived over one connection and have not been read yet."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False

    def fill(self, source: Source, patience: Patience) -> bool:
        """Wait for more bytes. False at the deadline. At the end of the connection, `ended` is set."""
        data = source.receive(patience)
        if data is None:
            return False
        self.ended = not data
        self.data += data
        return True

    def take(self, count: int) -> bytes:
        """Return the next bytes, at most `count`."""
        taken = bytes(memoryview(self.data)[:count])
        del self.data[:count]
        return taken

    def take_line(self, most: int) -> bytes | None:
        """Return the next line without its end, None while it is incomplete. Raises `ConnectionLost` beyond `most`."""
        end = self.data.find(b"\r\n", 0, most + 2)
        if end >= 0:
            line = self.take(end)
            del self.data[:2]
            return line
        if len(self.data) > most:
            raise ConnectionLost(NO_HTTP)
        return None


class Reply:
    """One reply: `status`, `headers` (names in lower case), and the body as it arrives."""

    def __init__(self, source: Source, inbox: Inbox, patience: Patience) -> None:
        """Read the head. Raises `ConnectionLost`, also at the deadline, and `Cancelled`."""
        self._source = source
        self._inbox = inbox
        self.status, self._is_1_1, self.headers = _read_head(source, inbox, patience)
        coding, length = self.headers.get("transfer-encoding", ""), self.headers.get("content-length")
        self._chunked = coding.lower() == "chunked"
        if coding and (not self._chunked or length is not None):
            raise ConnectionLost(NO_HTTP)
        self._left: int | None = 0 if self._chunked else _length(length)  # of the body, or of the current chunk
        self._in_chunk = self._in_trailer = False
        self._ended = not self._chunked and self._left == 0
        self._trailer_left = MAX_HEAD

    @property
    def reusable(self) -> bool:
        """True if the body has been read completely and the server keeps the connection open."""
        delimited = self._chunked or self._left is not None
        closes = "close" in self.headers.get("connection", "").lower()
        return self._ended and delimited and self._is_1_1 and not closes and not self._inbox.data

    def read(self, patience: Patience) -> bytes | None:
        """Return some of the body, b"" at its end, None at the deadline. Raises `ConnectionLost`, `Cancelled`.

        No byte is lost at a deadline. Bytes that have arrived are returned even after it.
        """
        tried = False
        while True:
            data = self._next()
            if data or self._ended:
                return data
            if tried and patience.over():
                return None
            tried = True
            patience.check()
            if not self._inbox.fill(self._source, patience):
                return None
            if self._inbox.ended:
                if self._chunked or self._left is not None:
                    raise ConnectionLost(CLOSED)
                self._ended = True

    def read_all(self, patience: Patience, most: int = MAX_ANSWER * MIB) -> bytearray:
        """Return the whole body. Raises `TooLarge` beyond `most` bytes, `ConnectionLost`, `Cancelled`."""
        body = bytearray()
        if not self._chunked and (self._left or 0) > most:
            raise TooLarge(most)
        while data := self.read(patience):
            if len(body) + len(data) > most:
                raise TooLarge(most)
            body += data
            if patience.over() and not self._ended:
                raise ConnectionLost(TIMED_OUT)
        if data is None:
            raise ConnectionLost(TIMED_OUT)
        return body

    def _next(self) -> bytes:
        """Return the bytes of the body that have arrived, possibly none."""
        inbox = self._inbox
        if not self._chunked:
            if self._left is None:
                return inbox.take(len(inbox.data))
            data = inbox.take(self._left)
            self._left -= len(data)
            self._ended = self._left == 0
            return data
        while not self._left:
            if not self._begin_chunk():
                return b""
        data = inbox.take(self._left)
        self._left -= len(data)
        return data

    def _begin_chunk(self) -> bool:
        """Read the line before a chunk, or the trailer. False if it is incomplete, or after the last chunk."""
        while not self._in_trailer:
            line = self._inbox.take_line(MAX_LINE)
            if line is None:
                return False
            if self._in_chunk:
                if line:
                    raise ConnectionLost(NO_HTTP)
                self._in_chunk = False
                continue
            self._left = _chunk_size(line)
            self._in_chunk = bool(self._left)
            self._in_trailer = not self._left
            if self._left:
                return True
        while (line := self._inbox.take_line(self._trailer_left)) is not None:
            self._trailer_left -= len(line)
            if not line:
                self._ended = True
                break
        return False


def _read_head(source: Source, inbox: Inbox, patience: Patience) -> tuple[int, bool, dict[str, str]]:
    """Return the status, whether the version is 1.1, and the headers. Interim responses (1xx) are skipped."""
    left = MAX_HEAD
    while True:
        searched = 0
        while (end := inbox.data.find(b"\r\n\r\n", searched)) < 0:
            if len(inbox.data) > left:
                raise ConnectionLost(NO_HTTP)
            if patience.over():
                raise ConnectionLost(TIMED_OUT)
            patience.check()
            searched = max(0, len(inbox.data) - 3)
            if not inbox.fill(source, patience):
                raise ConnectionLost(TIMED_OUT)
            if inbox.ended:
                raise ConnectionLost(CLOSED)
        left -= end + 4
        if left < 0:
            raise ConnectionLost(NO_HTTP)
        status, is_1_1, headers = _parse_head(inbox.take(end + 4)[:-4].decode("latin-1"))
        if status >= 200:
            return status, is_1_1, headers
        if status < 100 or status == 101:  # no upgrade was requested
            raise ConnectionLost(NO_HTTP)


def _parse_head(head: str) -> tuple[int, bool, dict[str, str]]:
    status_line, *lines = head.split("\r\n")
    version, _, rest = status_line.partition(" ")
    if not version.startswith("HTTP/1.") or not _is_number(rest[:3]) or rest[3:4] not in ("", " "):
        raise ConnectionLost(NO_HTTP)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise ConnectionLost(NO_HTTP)
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return int(rest[:3]), version == "HTTP/1.1", headers


def _length(said: str | None) -> int | None:
    """The length of a body, None if it extends to the end of the connection."""
    if said is None:
        return None
    lengths = {length.strip() for length in said.split(",")}
    length = lengths.pop()
    if lengths or not _is_number(length) or len(length) > 18:
        raise ConnectionLost(NO_HTTP)
    return int(length)


def _chunk_size(line: bytes) -> int:
    size = line.split(b";", 1)[0].strip(b" \t")
    if not 1 <= len(size) <= 15 or not HEX.issuperset(size):
        raise ConnectionLost(NO_HTTP)
    return int(size, 16)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
