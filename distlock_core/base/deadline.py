"""Deadlines of calls, cancels that end them early, and pauses between retries.

One `Patience` is handed down from a public call to the socket: it holds the deadline of the whole call, and the
`Interrupt` that ends it early. Nothing below the public calls sleeps or blocks in any other way.
"""

from __future__ import annotations

import os
import select
import time

from distlock_core.base.value import Value
from distlock_core.errors import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    class Cancel(Protocol):
        """The type of an argument `cancel=`: an `Interrupt`, or a `threading.Event`."""

        def is_set(self) -> bool: ...


FOREVER = float("inf")
RETRY_PAUSE = 0.05  # seconds before a request without a reply is sent again
FIRST_RETRY, LONGEST_RETRY = 0.1, 1.0  # seconds between retries while etcd does not answer
EVENT_POLL = 0.1  # seconds; a threading.Event has no descriptor to wait on, so it is polled at this interval

# A clock that also runs while the machine is suspended, as a lease on the server does.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds on a clock that never steps back and also counts time during which the machine is suspended."""
    return time.clock_gettime(_CLOCK)


def ready_within(seconds: float, watched: Mapping[int, int]) -> list[int]:
    """Wait for descriptors, each with its events (`POLLIN`, `POLLOUT`). Return those that are ready, [] on timeout."""
    if not hasattr(select, "poll"):
        return _selected(seconds, watched)
    poll = select.poll()
    for descriptor, events in watched.items():
        poll.register(descriptor, events)
    # Rounded up: a poll that ends a fraction of a millisecond early would spin.
    return [descriptor for descriptor, _ in poll.poll(int(seconds * 1000) + (1 if seconds > 0 else 0))]


def _selected(seconds: float, watched: Mapping[int, int]) -> list[int]:
    """`ready_within()` where eventlet has removed `poll` from the select module."""
    readers = [descriptor for descriptor, events in watched.items() if events & select.POLLIN]
    writers = [descriptor for descriptor, events in watched.items() if events & select.POLLOUT]
    return [descriptor for some in select.select(readers, writers, [], seconds) for descriptor in some]


def jittered(seconds: float, least: float = 0.5, most: float = 1.5) -> float:
    """A random value between `least` and `most` times `seconds`, so that clients of one server do not retry in step."""
    return seconds * (least + (most - least) * os.urandom(1)[0] / 256)


class Backoff:
    """Pauses between retries: each twice as long as the previous one, up to `longest`, and jittered."""

    def __init__(self, first: float = FIRST_RETRY, longest: float = LONGEST_RETRY, most: float = 1.5) -> None:
        """`first` and `longest` in seconds; `most` as in `jittered()`."""
        self._first = self._next = first
        self._longest = longest
        self._most = most

    def next(self) -> float:
        """Seconds until the next retry."""
        seconds, self._next = self._next, min(self._next * 2, self._longest)
        return jittered(seconds, most=self._most)

    def reset(self) -> None:
        """Start again with the shortest pause, after an answer."""
        self._next = self._first


class Interrupt:
    """A cancel that can be set from a signal handler or another thread, and waited for with poll().

    A forked child has its own copy: setting it there does not set it in the parent.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._set = False
        self._open()

    def set(self, signal_number: int | None = None) -> None:
        """End every wait with this interrupt. Only the first signal number is recorded."""
        if not self._set:
            self._set = True
            self.signal = signal_number
            if self._pid == os.getpid():  # else the pipe is the parent's: a byte would wake it again and again
                os.write(self._writer, b"!")

    def clear(self) -> None:
        """Undo `set()`. To be called only by the setter, while nothing waits with this interrupt."""
        if self._set:
            self._set, self.signal = False, None
            poll = select.poll()
            poll.register(self.fileno(), select.POLLIN)
            if poll.poll(0):
                os.read(self._reader, 1)

    def is_set(self) -> bool:
        return self._set

    def fileno(self) -> int:
        if self._pid != os.getpid():
            self._open()
            if self._set:
                os.write(self._writer, b"!")
        return self._reader

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)

    def _open(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        self._reader, self._writer, self._pid = reader, writer, os.getpid()


class Wait(Value):
    """How long an acquisition waits for others: `NO_WAIT`, a number of seconds, or `WAIT_FOREVER`.

    Made once, from a public call's `timeout`: no code below compares a timeout with 0 or -1.
    """

    seconds: float

    @classmethod
    def of(cls, timeout: float | None) -> Wait:
        """The wait for a `timeout`: 0 does not wait; None and negative numbers wait forever."""
        return WAIT_FOREVER if timeout is None or timeout < 0 else cls(timeout)

    @property
    def is_none(self) -> bool:
        return self.seconds == 0


NO_WAIT, WAIT_FOREVER = Wait(0.0), Wait(FOREVER)


class Patience:
    """A deadline on the `now()` clock, and a cancel that may end the call before it."""

    def __init__(self, deadline: float = FOREVER, cancel: Cancel | None = None) -> None:
        self.deadline = deadline
        self.cancel = cancel

    @classmethod
    def lasting(cls, seconds: float, cancel: Cancel | None = None) -> Patience:
        return cls(now() + seconds, cancel)

    def within(self, seconds: float) -> Patience:
        """The same cancel, and a deadline no later than `seconds` from now."""
        return Patience(min(self.deadline, now() + seconds), self.cancel)

    def until(self, moment: float) -> Patience:
        """The same cancel, and a deadline no later than `moment`."""
        return Patience(min(self.deadline, moment), self.cancel)

    def left(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(0.0, self.deadline - now())

    def over(self) -> bool:
        return now() >= self.deadline

    def check(self) -> None:
        """Raise `Cancelled` if the cancel is set."""
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("interrupted")

    def wait(self, descriptor: int | None = None, events: int = select.POLLIN) -> bool:
        """Wait for a descriptor. Return True when it is ready, False at the deadline. Raises `Cancelled`."""
        return bool(self.wait_any({} if descriptor is None else {descriptor: events}))

    def wait_any(self, watched: Mapping[int, int]) -> list[int]:
        """Wait for descriptors, each with its events. Return the ready ones, [] at the deadline. Raises `Cancelled`."""
        self.check()
        fileno = getattr(self.cancel, "fileno", None)
        with_cancel = watched if fileno is None else {**watched, fileno(): select.POLLIN}
        longest = EVENT_POLL if self.cancel is not None and fileno is None else 3600.0
        while True:
            left = self.left()
            ready = ready_within(min(left, longest), with_cancel)
            self.check()
            found = [descriptor for descriptor in ready if descriptor in watched]
            if found or left <= 0:
                return found

    def pause(self, seconds: float) -> None:
        """Sleep, at most until the deadline. Raises `Cancelled`."""
        self.within(seconds).wait()
