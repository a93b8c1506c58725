"""One HTTP/1.1 reply, read as it comes: the head, then the body.

Whoever listens on the port is not trusted to be etcd, nor to be well: the deadline and the cancel are looked at before
every read, also while data keeps flowing; every byte is looked at once; heads, lines and bodies have limits.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from distlock_core.base.deadline import Patience

    class Source(Protocol):
        """A connection to read from."""

        def receive(self, patience: Patience) -> bytes | None:
            """Some bytes, b"" at the end of the connection, None at the deadline."""


MIB = 1024 * 1024
MAX_ANSWER = 64  # MiB; an answer beyond this is not read, unless `max_answer` says otherwise
MAX_HEAD = 64 * 1024  # bytes; a status line and headers beyond this are no etcd
MAX_LINE = 1024  # bytes of the line that begins a chunk
NO_HTTP, CLOSED, TIMED_OUT = "no HTTP answer", "closed the connection", "timed out"
HEX = frozenset(b"0123456789abcdefABCDEF")


class ConnectionLost(Exception):
    """The connection broke, or the time was up, after the request may have been sent."""


class TooLarge(ConnectionLost):
    """The answer is larger than this client reads. To ask again would not make it smaller."""

    def __init__(self, most: int) -> None:
        super().__init__(f"its answer is larger than {most // MIB} MiB: set max_answer (MiB) higher to read it")


class Inbox:
    """What has come over one connection and is not read yet."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False

    def fill(self, source: Source, patience: Patience) -> bool:
        """Wait for more. False at the deadline. At the end of the connection `ended` is set, and nothing has come."""
        data = source.receive(patience)
        if data is None:
            return False
        self.ended = not data
        self.data += data
        return True

    def take(self, count: int) -> bytes:
        """The next bytes, at most so many."""
        taken = bytes(memoryview(self.data)[:count])
        del self.data[:count]
        return taken

    def take_line(self, most: int) -> bytes | None:
        """The next line, without its end; None as long as it is not all here. Raises `ConnectionLost` past `most`."""
        end = self.data.find(b"\r\n", 0, most + 2)
        if end >= 0:
            line = self.take(end)
            del self.data[:2]
            return line
        if len(self.data) > most:
            raise ConnectionLost(NO_HTTP)
        return None


class Reply:
    """One reply: `status` and `headers` (their names in lower case), and the body as it comes."""

    def __init__(self, source: Source, inbox: Inbox, patience: Patience) -> None:
        """Read the head. Raises `ConnectionLost`, at the deadline too, and `Cancelled`."""
        self._source = source
        self._inbox = inbox
        self.status, self._is_1_1, self.headers = _read_head(source, inbox, patience)
        coding, length = self.headers.get("transfer-encoding", ""), self.headers.get("content-length")
        self._chunked = coding.lower() == "chunked"
        if coding and (not self._chunked or length is not None):
            raise ConnectionLost(NO_HTTP)
        self._left: int | None = 0 if self._chunked else _length(length)  # of the body, or of the present chunk
        self._in_chunk = self._in_trailer = False
        self._ended = not self._chunked and self._left == 0
        self._trailer_left = MAX_HEAD

    @property
    def reusable(self) -> bool:
        """True when the body has been read to its end and the server keeps the connection open."""
        delimited = self._chunked or self._left is not None
        closes = "close" in self.headers.get("connection", "").lower()
        return self._ended and delimited and self._is_1_1 and not closes and not self._inbox.data

    def read(self, patience: Patience) -> bytes | None:
        """Some of the body, b"" at its end, None at the deadline. Raises `ConnectionLost`, `Cancelled`.

        A deadline loses nothing of the body. What is here already is returned however late it is.
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
        """All of the body. Raises `TooLarge` for one beyond `most` bytes, `ConnectionLost`, `Cancelled`."""
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
        """What there is of the body; nothing where more has to come first."""
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
        """Read what stands between two chunks, or behind the last. False: more has to come, or it was the last."""
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
    """The status, whether the version is 1.1, and the headers. What comes before them (1xx) is skipped."""
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
        if status < 100 or status == 101:  # nobody has asked for another protocol
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
    """The length of a body; None where its end is that of the connection."""
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
