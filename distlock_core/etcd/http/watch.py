"""A watch over the JSON gateway: one endless answer with one message after another."""

from __future__ import annotations

from distlock_core.base.deadline import Patience
from distlock_core.etcd.http.http1 import Connection
from distlock_core.etcd.http.json_stream import JsonStream
from distlock_core.etcd.http.messages import is_created, read_events
from distlock_core.etcd.http.reply import TIMED_OUT, ConnectionLost, Reply
from distlock_core.etcd.refused import MALFORMED, WatchRefused
from distlock_core.etcd.values import Compacted, Event, WatchEnded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class GatewayWatch:
    """A stream of events from one member. Implements `Watch`."""

    def __init__(
        self,
        endpoint: str,
        connection: Connection,
        reply: Reply,
        check_cluster: Callable[[int], None],
        suspect: Callable[[], None] | None,
        most: int,
        ranges: int = 1,
    ) -> None:
        """`check_cluster` raises `ConnectionLost` for the id of another cluster.

        `ranges` is the number of ranges that etcd has to confirm before the watch has begun: from now on (revision 0)
        only what comes after that is sure to be reported.

        `suspect` is called if etcd refuses the watch to this user. `most` is the size limit of one message, in bytes.
        """
        self.endpoint = endpoint
        self._check_cluster = check_cluster
        self._suspect = suspect
        self._connection = connection
        self._reply = reply
        self._stream = JsonStream(most)
        self._unconfirmed = ranges
        self._has_begun = False
        self._early: list[Event] = []
        self._end: WatchEnded | None = None

    def begin(self, patience: Patience) -> None:
        """Wait until etcd has opened the watch; a proxy may not pass that on. Raises `ConnectionLost`.

        A refusal by etcd is raised by `wait()`.
        """
        try:
            while not self._has_begun:
                events = self._next(patience)
                if events is None or (not self._has_begun and patience.over()):
                    raise ConnectionLost(TIMED_OUT)
                self._early += events
            return
        except WatchEnded as ended:
            end = ended
        # Outside the handler, so that the exception and its cause do not refer to each other.
        if self._has_begun or isinstance(end, (Compacted, WatchRefused)):
            self._end = end
        elif isinstance(end.__cause__, ConnectionLost):
            raise end.__cause__
        else:
            raise ConnectionLost(str(end))

    def wait(self, patience: Patience) -> list[Event]:
        while True:
            events = self._next(patience)
            if events is None:
                return []
            if events:
                return events
            if patience.over():
                return []  # it receives only messages without events

    def _next(self, patience: Patience) -> list[Event] | None:
        """The events of the next bytes, possibly none; None at the deadline."""
        if self._early and self._has_begun:
            events, self._early = self._early, []
            return events
        if self._end is not None:
            raise self._end
        if self._stream.broken:
            raise WatchEnded("it answers, but not as etcd does")
        try:
            data = self._reply.read(patience)
        except ConnectionLost as failure:
            raise WatchEnded(str(failure)) from failure
        if data is None:
            return None
        if not data:
            raise WatchEnded("the stream ended")
        return self._events_of(data)

    def _events_of(self, data: bytes) -> list[Event]:
        events = []
        try:
            for message in self._stream.feed(data):
                events += read_events(message, self._check_cluster)
                if self._unconfirmed and is_created(message):
                    self._unconfirmed -= 1
                    self._has_begun = not self._unconfirmed
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
