"""Notifications about the holds of one `Lock`: an event that is set at a loss, and iterators over its ownership."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import Any

    from distlock_core.events.ownership import Ownership, Readers


class HoldNotifier:
    """Notifies of the holds of one lock. Costs nothing (no thread, no import) until it is first used."""

    def __init__(self) -> None:
        self._was_lost = False
        self._event: threading.Event | None = None
        self._readers: Readers | None = None

    @property
    def lost_event(self) -> threading.Event:
        """An event that is set from a loss until the next hold."""
        if self._event is None:
            import threading

            self._event = threading.Event()
            if self._was_lost:
                self._event.set()
            _set_in_children(self._event)
        return self._event

    @property
    def has_readers(self) -> bool:
        """True once `ownership()` has been called."""
        return self._readers is not None

    def ownership(self, is_held: Callable[[], bool]) -> Ownership:
        """Return the iterator of a new reader, which starts with the result of `is_held`."""
        if self._readers is None:
            from distlock_core.events.ownership import Readers

            self._readers = Readers()
        return self._readers.join(is_held)

    def report_acquired(self) -> None:
        self._was_lost = False
        if self._event is not None:
            self._event.clear()
        if self._readers is not None:
            self._readers.report(True)

    def report_lost(self) -> None:
        self._was_lost = True
        if self._event is not None:
            self._event.set()
        if self._readers is not None:
            self._readers.report(False)

    def report_forked(self) -> None:
        """Report a loss in a forked child: the hold and the readers belong to the parent."""
        self._readers = None
        self.report_lost()

    def report_released(self) -> None:
        """Report the end of the hold, which ends the readers."""
        if self._readers is not None:
            self._readers.report(False)
            self._readers.end()


_events: Any = None  # weak references to all events handed out


def _set_in_children(event: threading.Event) -> None:
    """Set the event in every child that is forked from now on: a child does not inherit the hold."""
    global _events
    if _events is None:
        import weakref

        _events = weakref.WeakSet()
        os.register_at_fork(after_in_child=_forked)
    _events.add(event)


def _forked() -> None:
    for event in list(_events):
        renew = getattr(event, "_at_fork_reinit", None)
        if renew is not None:
            renew()  # its lock may be held by a thread that does not exist in the child
        event.set()
