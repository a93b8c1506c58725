"""Times of changes that carry none: bounded by the times of the changes before and after them. Pure.

Every change has a revision, and revisions are in order. A record that was written at 03:12 bounds all changes of
earlier revisions from above, and all those of later ones from below.
"""

from __future__ import annotations

from distlock_core.history.entries import Moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from distlock_core.history.entries import Entry


class Mark:
    """A moment of which so far only the earliest possible time may be known."""

    def __init__(self, moment: Moment, *, is_final: bool = True) -> None:
        self.moment = moment
        self.is_final = is_final

    @classmethod
    def exact(cls, at: int) -> Mark:
        return cls(Moment(at, at))


class Times:
    """Bounds the moments of a history. All methods are called in order of revision."""

    def __init__(self) -> None:
        self._last: int | None = None  # the time of the last change that has one
        self._open: list[Mark] = []

    def mark(self, at: int | None = None, earliest: int | None = None) -> Mark:
        """The moment of the present change: this time, or one that is to be bounded."""
        if at is not None:
            return Mark.exact(at)
        mark = Mark(Moment(self._last if earliest is None else earliest, None), is_final=False)
        self._open.append(mark)
        return mark

    def tick(self, at: int) -> None:
        """The present change was made at this time: all changes so far were not later."""
        for mark in self._open:
            earliest = mark.moment.earliest
            # The clocks of two machines may disagree.
            mark.moment = Moment(None, at) if earliest is None else Moment(min(earliest, at), max(earliest, at))
            mark.is_final = True
        self._open.clear()
        self._last = at

    def not_before(self, at: int) -> None:
        """The present change was not made before this time. That says nothing about the changes so far."""
        if self._last is None or at > self._last:
            self._last = at


class Outbox:
    """Entries on their way out, in order: each waits until all its moments are bounded."""

    def __init__(self, tell: Callable[[Entry], None]) -> None:
        self._tell = tell
        self._waiting: list[tuple[Callable[[], Entry], tuple[Mark, ...]]] = []

    def put(self, build: Callable[[], Entry], *marks: Mark) -> None:
        self._waiting.append((build, marks))

    def pass_on(self, entry: Entry) -> None:
        """Tell an entry that is complete, after those that wait."""
        self.put(lambda: entry)

    def flush(self) -> None:
        done = 0
        for build, marks in self._waiting:
            if not all(mark.is_final for mark in marks):
                break
            self._tell(build())
            done += 1
        del self._waiting[:done]
