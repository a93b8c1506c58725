"""Ownership: True and False as a lock is acquired and lost, for a reader who takes its time."""

from __future__ import annotations

import threading

from distlock_core.errors import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from distlock_core.base.deadline import Cancel


class Ownership:
    """Iterates over True (it is held now) and False (it is not, or nobody can tell), in turns.

    It starts with the present state, and ends when the lock is released, the manager is shut down, or it is
    closed. Whoever reports a change never waits for the reader, and at most two changes are kept for it: a True that
    is over by the time it is read is not delivered at all; a loss is, even if the lock has been regained since. May be
    read by one thread while others report and close.
    """

    def __init__(self, is_held: bool, leave: Callable[[Ownership], None] | None = None) -> None:
        """`leave` is called once, when the reader closes it."""
        self._changed = threading.Condition()
        self._read: bool | None = None
        self._waiting = [is_held]
        self._ended = False
        self._leave = leave

    def report(self, is_held: bool) -> None:
        """Say how it stands now. Never blocks."""
        with self._changed:
            waiting = self._waiting
            if self._ended or is_held == (waiting[-1] if waiting else self._read):
                return
            if is_held:
                waiting.append(True)
            elif waiting and waiting[-1]:
                waiting.pop()  # a True that nobody has read is not true any more
            if not waiting and not is_held and self._read is not False:
                waiting.append(False)
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more will come: the reader gets what is there, and then the end."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def next(self, timeout: float | None = None) -> bool | None:
        """Return the next change, None when none has come within `timeout` seconds (default: wait).

        Raises `StopIteration` at the end.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout)
            if self._waiting:
                self._read = self._waiting.pop(0)
                return self._read
            if self._ended:
                raise StopIteration
            return None

    def take(self, cancel: Cancel) -> bool:
        """Return the next change. Raises `Cancelled` at the end, and when cancel is set and `wake()` called."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended or cancel.is_set())
            if not self._waiting or cancel.is_set():
                raise Cancelled("interrupted")
            self._read = self._waiting.pop(0)
            return self._read

    def give_back(self, is_held: bool) -> None:
        """A change that was taken and could not be used: the next to ask has it, unless it is not true any more."""
        with self._changed:
            self._read = None
            if not is_held or not self._waiting:
                self._waiting.insert(0, is_held)
            self._changed.notify_all()

    def wake(self) -> None:
        """Let whoever waits look whether it was called off."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Read no more: ends the iteration at once, from any thread."""
        with self._changed:
            self._waiting.clear()
        self.end()
        leave, self._leave = self._leave, None
        if leave is not None:
            leave(self)

    def __iter__(self) -> Iterator[bool]:
        return self

    def __next__(self) -> bool:
        is_held = self.next()
        assert is_held is not None
        return is_held

    def __enter__(self) -> Ownership:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Readers:
    """Everybody who reads the ownership of one lock."""

    def __init__(self) -> None:
        self._readers: list[Ownership] = []
        self._guard = threading.Lock()
        self._closed = False

    def join(self, is_held: Callable[[], bool]) -> Ownership:
        """Return a new reader's end, which starts with what `is_held` says."""
        with self._guard:  # what changes after it was asked is reported after it has joined
            reader = Ownership(is_held(), self._leave)
            if self._closed:
                reader.end()
            else:
                self._readers.append(reader)
        return reader

    def report(self, is_held: bool) -> None:
        """Say how it stands, once it stands so."""
        with self._guard:
            for reader in self._readers:
                reader.report(is_held)

    def end(self, *, for_good: bool = False) -> None:
        """Say that nothing more will come: to those who read now, or to all who ever will."""
        with self._guard:
            self._closed = for_good
            for reader in self._readers:
                reader.end()
            self._readers.clear()

    def _leave(self, reader: Ownership) -> None:
        with self._guard:
            if reader in self._readers:
                self._readers.remove(reader)
