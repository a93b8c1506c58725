"""A watch over gRPC: a stream of events from one member."""

from __future__ import annotations

import threading
from collections import deque

from distlock_core.base.deadline import Patience
from distlock_core.base.threads import start_thread
from distlock_core.etcd.grpc import messages
from distlock_core.etcd.grpc.channel import Bell, Channel, SignalsHeld, failure_of
from distlock_core.etcd.http.http1 import ConnectionLost
from distlock_core.etcd.refused import WatchRefused
from distlock_core.etcd.values import Event, WatchEnded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from distlock_core.etcd.grpc.channel import Metadata

MOST_UNREAD = 64  # messages that are buffered; after that etcd has to wait


class GrpcWatch:
    """A stream of events from one member, over a separate connection. Implements `Watch`."""

    def __init__(
        self,
        channel: Channel,
        method: Any,
        requests: Sequence[Any],
        metadata: Metadata,
        revision: int,
        check_cluster: Callable[[int], None],
        suspect: Callable[[], None] | None = None,
    ) -> None:
        """Watch from `revision` on. `method` is etcd's Watch on this channel.

        `check_cluster` raises `ConnectionLost` for the id of another cluster. `suspect` is called if etcd refuses the
        watch to this user.
        """
        self.endpoint = channel.address.url
        self._channel = channel
        self._check_cluster = check_cluster
        self._suspect = suspect
        self._closed = threading.Event()
        self._bell = Bell()
        self._unread: deque[Any] = deque()
        self._room = threading.Semaphore(MOST_UNREAD)
        self._end: Exception | None = None
        self._revision = revision
        # The ranges that etcd has to confirm: from now on, only what comes after that is sure to be reported.
        self._unconfirmed = 1 if revision else len(requests)
        self._has_begun = False
        self._early: list[Event] = []
        try:
            with SignalsHeld():
                self._stream = method(self._ask(requests), metadata=metadata)
            start_thread(self._read, "distlock-watch")
        except BaseException:
            self._closed.set()
            self._bell.close()
            raise

    def open(self, patience: Patience) -> None:
        """Wait until etcd has answered. Raises `ConnectFailed`, `ConnectionLost`, `Refused`, `Cancelled`."""
        if not self._bell.wait(patience):
            raise ConnectionLost("timed out")
        if self._end is not None and not self._unread:
            raise self._end
        while not self._revision and not self._has_begun:
            self._bell.hush()
            try:
                self._early = self._fetch()
            except WatchEnded:
                return  # `wait()` raises it
            if not self._has_begun and not self._bell.wait(patience):
                raise ConnectionLost("timed out")

    def wait(self, patience: Patience) -> list[Event]:
        while True:
            self._bell.hush()
            events = self._fetch()
            if events:
                return events
            if not self._bell.wait(patience):
                return []

    def close(self) -> None:
        self._end = self._end or ConnectionLost("closed")
        self._closed.set()
        self._room.release()
        with SignalsHeld():
            self._stream.cancel()
            self._channel.give_up()
        self._bell.close()  # wakes a waiting thread

    def _ask(self, requests: Sequence[Any]) -> Iterator[Any]:
        yield from requests
        self._closed.wait()  # keep this side open: `etcd grpc-proxy` cancels a stream that its client has closed

    def _fetch(self) -> list[Event]:
        """The events that have arrived. Raises `WatchEnded` when the watch is over and its last events are fetched."""
        end = self._end  # read first: events from before the end have then arrived
        events, self._early = self._early, []
        while self._unread:
            message = self._unread.popleft()
            self._room.release()
            try:
                if message.header.cluster_id:
                    self._check_cluster(message.header.cluster_id)
                events += messages.events(message)
                if self._unconfirmed and message.created:
                    self._unconfirmed -= 1
                    self._has_begun = not self._unconfirmed
            except ConnectionLost as lost:
                end = self._end = lost
            except WatchEnded as ended:
                end = self._end = ended
                if isinstance(ended, WatchRefused) and self._suspect is not None:
                    self._suspect()
        if end is not None and not events:
            if isinstance(end, WatchEnded):
                raise end
            raise WatchEnded(str(end)) from end
        return events

    def _read(self) -> None:
        """Take messages from gRPC as they arrive. Runs in a separate thread."""
        end: Exception = ConnectionLost("the stream ended")
        try:
            for message in self._stream:
                self._unread.append(message)
                self._bell.ring()
                self._room.acquire()
        except Exception as error:  # noqa: BLE001 - the waiting thread has to learn of any end
            end = failure_of(error)
        self._end = self._end or end
        self._bell.ring()
