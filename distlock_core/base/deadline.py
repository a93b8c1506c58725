"""How long to wait: the deadline of a call, what may end it early, and the pauses between two tries.

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
        """What may be given as `cancel=`: an `Interrupt`, or a `threading.Event`."""

        def is_set(self) -> bool: ...


FOREVER = float("inf")
RETRY_PAUSE = 0.05  # seconds before a request without a reply is sent again
FIRST_RETRY, LONGEST_RETRY = 0.1, 1.0  # seconds between two tries while etcd does not answer
EVENT_POLL = 0.1  # seconds; a threading.Event has no descriptor to wait on, so it is looked at this often

# A clock that goes on while the machine sleeps, as a lease on the server does.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds on a clock that never steps back and also counts the time that the machine is suspended."""
    return time.clock_gettime(_CLOCK)


def ready_within(seconds: float, watched: Mapping[int, int]) -> list[int]:
    """Wait for descriptors, each with its events (`POLLIN`, `POLLOUT`): those that are ready, none at the deadline."""
    if not hasattr(select, "poll"):
        return _selected(seconds, watched)
    poll = select.poll()
    for descriptor, events in watched.items():
        poll.register(descriptor, events)
    # Rounded up: a poll that ends a fraction of a millisecond early would spin.
    return [descriptor for descriptor, _ in poll.poll(int(seconds * 1000) + (1 if seconds > 0 else 0))]


def _selected(seconds: float, watched: Mapping[int, int]) -> list[int]:
    """The same where eventlet has taken `poll` out of the select module."""
    readers = [descriptor for descriptor, events in watched.items() if events & select.POLLIN]
    writers = [descriptor for descriptor, events in watched.items() if events & select.POLLOUT]
    return [descriptor for some in select.select(readers, writers, [], seconds) for descriptor in some]


def jittered(seconds: float, least: float = 0.5, most: float = 1.5) -> float:
    """Somewhere from `least` to `most` of that: those who lost the same server do not come back to it all at once."""
    return seconds * (least + (most - least) * os.urandom(1)[0] / 256)


class Backoff:
    """Pauses between tries: each twice as long as the one before, up to the longest, and jittered."""

    def __init__(self, first: float = FIRST_RETRY, longest: float = LONGEST_RETRY, most: float = 1.5) -> None:
        """`most`: as `jittered` has it."""
        self._first = self._next = first
        self._longest = longest
        self._most = most

    def next(self) -> float:
        """Seconds before the next try."""
        seconds, self._next = self._next, min(self._next * 2, self._longest)
        return jittered(seconds, most=self._most)

    def reset(self) -> None:
        """A try was answered: the next pause is the shortest again."""
        self._next = self._first


class Interrupt:
    """A cancel that can be set from a signal handler or another thread, and waited for with poll().

    In a forked child it is one of its own: what is set there is not set in the parent.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._set = False
        self._open()

    def set(self, signal_number: int | None = None) -> None:
        """End whatever waits with this interrupt. The first signal is the one that is remembered."""
        if not self._set:
            self._set = True
            self.signal = signal_number
            if self._pid == os.getpid():  # else the pipe is the parent's: it would be woken for nothing, for ever
                os.write(self._writer, b"!")

    def clear(self) -> None:
        """As it was before `set()`. Only by who sets it, and while nobody waits with it."""
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
    """How long an acquisition waits for others: `NO_WAIT`, for some seconds, or `WAIT_FOREVER`.

    Made once, where a caller's `timeout` comes in: below that nothing compares a timeout with 0 or -1.
    """

    seconds: float

    @classmethod
    def of(cls, timeout: float | None) -> Wait:
        """What a `timeout` stands for: 0 does not wait; None and a negative number wait for ever."""
        return WAIT_FOREVER if timeout is None or timeout < 0 else cls(timeout)

    @property
    def is_none(self) -> bool:
        return self.seconds == 0


NO_WAIT, WAIT_FOREVER = Wait(0.0), Wait(FOREVER)


class Patience:
    """A deadline on the `now()` clock, and the cancel that may come before it."""

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
        """Raise `Cancelled` if the caller has called it off."""
        if self.cancel is not None and self.cancel.is_set():
            raise Cancelled("interrupted")

    def wait(self, descriptor: int | None = None, events: int = select.POLLIN) -> bool:
        """Wait for a descriptor: True when it is ready, False at the deadline. Raises `Cancelled`."""
        return bool(self.wait_any({} if descriptor is None else {descriptor: events}))

    def wait_any(self, watched: Mapping[int, int]) -> list[int]:
        """Wait for descriptors, each with its events: those that are ready, none at the deadline. Raises alike."""
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
        """Sleep, at most to the deadline. Raises `Cancelled`."""
        self.within(seconds).wait()
