"""Ownership: an iterator over True and False as a lock is acquired and lost, for readers of any speed."""

from __future__ import annotations

import threading

from distlock_core.errors import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from distlock_core.base.deadline import Cancel


class Ownership:
    """Alternates between True (held) and False (not held, or unknown).

    It starts with the current state, and ends when the lock is released, the manager is shut down, or the iterator is
    closed. Reporting a change never blocks, and at most two changes are queued: a stale True is dropped; a loss is
    always delivered, even if the lock has been regained since. One thread may read while others report and close.
    """

    def __init__(self, is_held: bool, leave: Callable[[Ownership], None] | None = None) -> None:
        """`leave` is called once, when the reader closes the iterator."""
        self._changed = threading.Condition()
        self._read: bool | None = None
        self._waiting = [is_held]
        self._ended = False
        self._leave = leave

    def report(self, is_held: bool) -> None:
        """Report the current state. Never blocks."""
        with self._changed:
            waiting = self._waiting
            if self._ended or is_held == (waiting[-1] if waiting else self._read):
                return
            if is_held:
                waiting.append(True)
            elif waiting and waiting[-1]:
                waiting.pop()  # an unread True that is stale
            if not waiting and not is_held and self._read is not False:
                waiting.append(False)
            self._changed.notify_all()

    def end(self) -> None:
        """End the iteration, after the queued changes."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def next(self, timeout: float | None = None) -> bool | None:
        """Return the next change, or None if there is none within `timeout` seconds (default: no limit).

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
        """Return the next change. Raises `Cancelled` at the end, and after `wake()` if `cancel` is set."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended or cancel.is_set())
            if not self._waiting or cancel.is_set():
                raise Cancelled("interrupted")
            self._read = self._waiting.pop(0)
            return self._read

    def give_back(self, is_held: bool) -> None:
        """Put back a change that was taken but not used, for the next call. A stale True is dropped."""
        with self._changed:
            self._read = None
            if not is_held or not self._waiting:
                self._waiting.insert(0, is_held)
            self._changed.notify_all()

    def wake(self) -> None:
        """Make waiting readers check their `cancel`."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """End the iteration at once, from any thread."""
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
    """All readers of the ownership of one lock."""

    def __init__(self) -> None:
        self._readers: list[Ownership] = []
        self._guard = threading.Lock()
        self._closed = False

    def join(self, is_held: Callable[[], bool]) -> Ownership:
        """Return the iterator of a new reader, which starts with the result of `is_held`."""
        with self._guard:  # a change after `is_held()` is reported only once the reader has joined
            reader = Ownership(is_held(), self._leave)
            if self._closed:
                reader.end()
            else:
                self._readers.append(reader)
        return reader

    def report(self, is_held: bool) -> None:
        """Report a state that has taken effect to all readers."""
        with self._guard:
            for reader in self._readers:
                reader.report(is_held)

    def end(self, *, for_good: bool = False) -> None:
        """End the iteration of the current readers; `for_good` also that of all future ones."""
        with self._guard:
            self._closed = for_good
            for reader in self._readers:
                reader.end()
            self._readers.clear()

    def _leave(self, reader: Ownership) -> None:
        with self._guard:
            if reader in self._readers:
                self._readers.remove(reader)
