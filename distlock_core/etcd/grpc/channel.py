"""A gRPC connection to one member. Every wait has a `Patience`: one deadline for the whole call, interruptible.

gRPC works in its own threads. They must receive no signals, which `sigwaitinfo` in the main thread would then miss.
A thread inherits its signal mask from the one that starts it, so every step that may start one blocks all signals.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import threading
import weakref

from distlock_core.base.deadline import Patience
from distlock_core.base.threads import start_thread
from distlock_core.errors import Cancelled
from distlock_core.etcd.failover import LATE, LINGER
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.http1 import ConnectionLost, reason_of
from distlock_core.etcd.http.reply import TooLarge
from distlock_core.etcd.refused import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from distlock_core.etcd.address import Address

    Metadata = tuple[tuple[str, str], ...]

CANCELLED, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = 1, 4, 8, 12, 14
READY = 2  # the state of a channel
TOO_LARGE = "Received message larger than max ("  # followed by both sizes, the allowed one last
OURS = "etcdserver: "  # the beginning of etcd's own refusals, unlike gRPC's
NOT_SENT = "failed to connect to all addresses"

_ALL: weakref.WeakSet[Channel] = weakref.WeakSet()


def _never_take_apart() -> None:
    """Prevent the deallocation of channels, which may wait for threads that no longer run.

    These threads do not exist in a forked child, and end first at the interpreter's exit. So each channel gets a
    reference that is never released.
    """
    for channel in _ALL:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(channel.raw))


os.register_at_fork(after_in_child=_never_take_apart)
atexit.register(_never_take_apart)


class Bell:
    """A wake-up from one thread for another, which waits for it with a `Patience`."""

    def __init__(self) -> None:
        """Raises `ConnectFailed` if no descriptor is left: without a bell nothing can be sent."""
        self._lock = threading.RLock()
        self._closed = False
        self._waiting = 0
        try:
            self._reader, self._writer = os.pipe()
        except OSError as error:
            raise ConnectFailed(reason_of(error)) from error
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def ring(self, *_: object) -> None:
        """Wake the present or the next waiting thread. Harmless after `close()`, since gRPC may ring late."""
        with self._lock:
            if not self._closed:
                self._write()

    def hush(self) -> None:
        with self._lock:
            try:
                if not self._closed:
                    os.read(self._reader, 4096)
            except BlockingIOError:
                pass

    def wait(self, patience: Patience) -> bool:
        """Return True when it is rung or closed, False at the deadline. Raises `Cancelled`."""
        with self._lock:
            if self._closed:
                return True
            self._waiting += 1
        try:
            return patience.wait(self._reader)
        finally:
            with self._lock:
                self._waiting -= 1
                self._close_if_unused()

    def close(self) -> None:
        """Wake waiting threads, and close the descriptors as soon as none waits on them."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._write()
            self._close_if_unused()

    def _write(self) -> None:
        try:
            os.write(self._writer, b"!")
        except BlockingIOError:
            pass  # it is already ringing

    def _close_if_unused(self) -> None:
        if self._closed and not self._waiting:
            os.close(self._reader)
            os.close(self._writer)


class SignalsHeld:
    """Blocks all signals in a `with` block, so that threads started in it receive none."""

    def __enter__(self) -> None:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


class Channel:
    """A connection to one member, for any number of simultaneous calls. Made by `open_channel()`."""

    def __init__(self, address: Address, raw: Any) -> None:
        self.address = address
        self.raw = raw
        self._lock = threading.Lock()
        self._calls = 0
        self._given_up = False
        self.has_told_cluster = False  # its id, in an answer over this channel
        self.is_known = False  # checked to lead to the same cluster as the other channels
        _ALL.add(self)

    def call(self, method: Callable[[Any], Any], request: Any, metadata: Metadata, patience: Patience) -> Any:
        """Send one request and return its answer. `method` returns the callable from a raw channel.

        Raises `ConnectFailed` if it was certainly not sent, `ConnectionLost` if it may have been, `Refused`, and
        `Cancelled`.
        """
        bell = Bell()
        late = False
        call: Any = None
        try:
            call = self.begin(method, request, metadata, patience, bell)
            try:
                answered = bell.wait(patience)
            except Cancelled:
                bell.wait(Patience.lasting(LINGER))
                raise
            if not answered:
                late = True
                raise ConnectionLost("timed out")
            return result_of(call)
        finally:
            if late:
                start_thread(lambda: self._end_late(call, bell), "distlock-late")
            else:
                if call is not None:
                    self.end(call)
                bell.close()

    def begin(
        self, method: Callable[[Any], Any], request: Any, metadata: Metadata, patience: Patience, bell: Bell
    ) -> Any:
        """Send one request and return gRPC's call, which rings `bell` when it is done. Release it with `end()`."""
        with self._lock:
            self._calls += 1
        try:
            # etcd receives the timeout too, and obeys it by itself.
            timeout = patience.left() + LATE
            with SignalsHeld():
                call = method(self.raw).future(request, timeout=timeout, metadata=metadata)
                call.add_done_callback(bell.ring)
        except BaseException:
            self.end(None)
            raise
        return call

    def end(self, call: Any) -> None:
        """Release a call, and cancel it if it has not ended."""
        with SignalsHeld():
            if call is not None:
                call.cancel()
            with self._lock:
                self._calls -= 1
            self._close_if_unused()

    def is_connected(self) -> bool:
        """False if the connection is lost: gRPC then reconnects by itself, possibly to another server.

        Also False if gRPC does not tell. Its public API for this starts threads, and a fork meanwhile kills the child.
        """
        ask = getattr(getattr(self.raw, "_channel", None), "check_connectivity_state", None)
        try:
            return ask is not None and ask(False) == READY
        except ValueError:
            return False  # another thread has closed it

    def give_up(self) -> None:
        """Close it as soon as its calls have ended."""
        with SignalsHeld():
            self._given_up = True
            self._close_if_unused()

    def _end_late(self, call: Any, bell: Bell) -> None:
        bell.wait(Patience.lasting(LATE))
        self.end(call)
        bell.close()

    def _close_if_unused(self) -> None:
        with self._lock:
            unused = self._given_up and not self._calls
        if unused:
            self.raw.close()


def result_of(call: Any) -> Any:
    """The answer of an ended call. Raises `ConnectFailed`, `ConnectionLost`, `Refused`."""
    if call.code().value[0]:
        raise failure_of(call)
    return call.result()


def failure_of(call: Any) -> Exception:
    """The error for a call that gRPC has ended with one: `ConnectFailed`, `ConnectionLost` or `Refused`."""
    code, details = call.code().value[0], call.details() or ""
    if details.startswith(OURS):
        return Refused(code, details)
    if code == UNAVAILABLE:
        return (ConnectFailed if details.startswith(NOT_SENT) else ConnectionLost)("closed the connection")
    if code in (CANCELLED, DEADLINE_EXCEEDED):
        return ConnectionLost("timed out" if code == DEADLINE_EXCEEDED else "closed the connection")
    if code == RESOURCE_EXHAUSTED and TOO_LARGE in details:
        _, _, most = details.rstrip(")").rpartition(" ")
        return TooLarge(int(most)) if most.isdigit() else ConnectionLost(details)
    if code == UNIMPLEMENTED:
        return ConnectionLost("it answers, but not as etcd does")
    return Refused(code, details)
