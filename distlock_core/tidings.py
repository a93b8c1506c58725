"""Tidings: what a `Lock` tells of its holds to whoever wants to know: an event at a loss, and its ownership."""

from __future__ import annotations

from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading

    from distlock_core.ownership import Ownership, Readers


class Tidings:
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
        return self._event

    @property
    def has_readers(self) -> bool:
        """True once somebody has asked for the ownership."""
        return self._readers is not None

    def ownership(self, mine: Callable[[], bool]) -> Ownership:
        """Return another reader's end, which starts with what `mine` says."""
        if self._readers is None:
            from distlock_core.ownership import Readers

            self._readers = Readers()
        return self._readers.join(mine)

    def acquired(self) -> None:
        self._was_lost = False
        if self._event is not None:
            self._event.clear()
        if self._readers is not None:
            self._readers.report(True)

    def lost(self) -> None:
        self._was_lost = True
        if self._event is not None:
            self._event.set()
        if self._readers is not None:
            self._readers.report(False)

    def let_go(self) -> None:
        """The hold has ended: so do the readers."""
        if self._readers is not None:
            self._readers.report(False)
            self._readers.end()
