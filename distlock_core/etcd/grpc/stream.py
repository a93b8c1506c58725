"""A stream with one request and one answer: the renewal of a lease.

The client's side stays open until the answer has arrived. etcd itself would answer after it was closed, too, but
`etcd grpc-proxy` cancels a stream that its client has closed.
"""

from __future__ import annotations

import threading

from distlock_core.base.threads import start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


class FirstAnswer:
    """Adapter that lets `Channel.call` call a bidirectional stream like a unary method."""

    def __init__(self, method: Any) -> None:
        """`method` is gRPC's callable for the stream."""
        self._method = method

    def future(self, request: Any, **options: Any) -> _Call:
        """Send the request. To be called with all signals blocked."""
        return _Call(self._method, request, options)


class _Call:
    """One call, with the part of gRPC's future that a `Channel` needs."""

    def __init__(self, method: Any, request: Any, options: dict[str, Any]) -> None:
        self._request = request
        self._answered = threading.Event()
        self._callback: Callable[[Any], None] | None = None
        self._answer: Any = None
        self._stream = method(self._requests(), **options)
        try:
            start_thread(self._read, "distlock-stream")
        except BaseException:
            self.cancel()
            raise

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callback = callback
        if self._answered.is_set():
            callback(self)

    def code(self) -> Any:
        import grpc

        return grpc.StatusCode.OK if self._answer is not None else self._stream.code()

    def details(self) -> str:
        return str(self._stream.details() or "")

    def result(self) -> Any:
        return self._answer

    def cancel(self) -> None:
        self._answered.set()  # ends the requests
        self._stream.cancel()

    def _requests(self) -> Iterator[Any]:
        yield self._request
        self._answered.wait()

    def _read(self) -> None:
        """Wait for the answer. Runs in a separate thread."""
        try:
            self._answer = next(self._stream, None)
        except Exception:  # noqa: BLE001 - reported by `code()` and `details()`
            self._answer = None
        self._answered.set()
        if self._callback is not None:
            self._callback(self)
