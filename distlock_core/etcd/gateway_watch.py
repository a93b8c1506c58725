"""A watch over the JSON gateway: one answer without an end, in which message follows on message."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable

from distlock_core.etcd.api import Event, WatchEnded
from distlock_core.etcd.http1 import Connection, ConnectionLost, Stream
from distlock_core.etcd.messages import MALFORMED, WatchRefused, begins_behind, read_events
from distlock_core.patience import Patience

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGEST_ANSWER = 64 * 1024 * 1024  # characters of one watch message; beyond this it is no etcd


class GatewayWatch:
    """A stream of events from one member. Implements `Watch`."""

    def __init__(
        self,
        endpoint: str,
        connection: Connection,
        stream: Stream,
        revision: int,
        check_cluster: Callable[[int], None],
        suspect: Callable[[], None] | None = None,
    ) -> None:
        """It begins at this revision. `check_cluster` raises `ConnectionLost` for another cluster than it should be.

        `suspect` is called when etcd refuses the watch to this user.
        """
        self.endpoint = endpoint
        self._check_cluster = check_cluster
        self._suspect = suspect
        self._connection = connection
        self._stream = stream
        # A chunk may end inside a character or a value, and an error comes with no newline behind it.
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._revision = revision
        self._behind: bool | None = None  # None: it has not begun

    def wait(self, patience: Patience) -> list[Event]:
        while True:
            events = self._next(patience)
            if events is None:
                return []
            if events:
                return events

    def wait_for_hint(self, patience: Patience) -> bool:
        while True:
            events = self._next(patience)
            if events is None:
                return False
            if events or self._behind:
                self._behind = False
                return True

    def _next(self, patience: Patience) -> list[Event] | None:
        """The events of what comes next, which may have none; None: nothing came by the deadline."""
        try:
            data = self._stream.read(patience)
            if data is None:
                return None
            self._text += self._decode.decode(data)
        except (ConnectionLost, UnicodeDecodeError) as failure:
            raise WatchEnded(str(failure)) from failure
        if data == b"" or len(self._text) > LARGEST_ANSWER:
            raise WatchEnded("the stream ended")
        events: list[Event] = []
        try:
            for message in self._messages():
                events += read_events(message, self._check_cluster)
                if self._behind is None:
                    self._behind = begins_behind(message, self._revision)
        except WatchRefused:
            if self._suspect is not None:
                self._suspect()
            raise
        except ConnectionLost as failure:
            raise WatchEnded(str(failure)) from failure
        except MALFORMED as failure:
            raise WatchEnded("it answers, but not as etcd does") from failure
        return events

    def close(self) -> None:
        self._connection.close()

    def _messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        decoder = json.JSONDecoder()
        while True:
            self._text = self._text.lstrip()
            try:
                message, end = decoder.raw_decode(self._text)
            except ValueError:
                return messages  # not all here yet
            self._text = self._text[end:]
            messages.append(message)
