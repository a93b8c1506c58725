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
    """Costs nothing (no thread, no import) until somebody asks for something."""

    def __init__(self) -> None:
        self._was_lost = False
        self._event: threading.Event | None = None
        self._readers: Readers | None = None

    @property
    def lost_event(self) -> threading.Event:
        """Set from a loss to the next hold."""
        if self._event is None:
            import threading

            self._event = threading.Event()
            if self._was_lost:
                self._event.set()
            _set_in_children(self._event)
        return self._event

    @property
    def has_readers(self) -> bool:
        """True once somebody has asked for the ownership."""
        return self._readers is not None

    def ownership(self, is_held: Callable[[], bool]) -> Ownership:
        """Return another reader's end, which starts with what `is_held` says."""
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
        """This is a child of the process that told: nothing is held here, and the readers have stayed there."""
        self._readers = None
        self.report_lost()

    def report_released(self) -> None:
        """The hold has ended: so do the readers."""
        if self._readers is not None:
            self._readers.report(False)
            self._readers.end()


_events: Any = None  # all that were asked for, as long as somebody has them


def _set_in_children(event: threading.Event) -> None:
    """Have it set in every process that is forked from now on: what was held here is not held there."""
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
            renew()  # another thread, which the child has not, may have been about to set it
        event.set()
