"""Teller: says in a thread what the main one has no time to wait for."""

from __future__ import annotations

from _queue import SimpleQueue

from distlock_core.base.threads import start_thread
from distlock_core.errors import DistlockError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Teller:
    """A thread that says one thing after the other. Where nobody reads what is said, only this thread waits for that.

    It is started when this is made, so that telling cannot fail later.
    """

    def __init__(self) -> None:
        """Raises `DistlockError` where no thread can be started."""
        self._words: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        try:
            self._thread = start_thread(self._tell, "distlock-tell")
        except (RuntimeError, MemoryError) as error:
            raise DistlockError(f"no thread can be started ({error}): see ulimit -u, ulimit -v, pids.max") from error

    def say(self, words: Callable[[], None]) -> None:
        """Call this, which says something, as soon as all before has been said."""
        self._words.put(words)

    def close(self) -> None:
        """Return when everything has been said."""
        self._words.put(None)
        self._thread.join()

    def _tell(self) -> None:
        while True:
            words = self._words.get()
            if words is None:
                return
            try:
                words()
            except Exception:  # noqa: BLE001, S110 - nobody listens, and there is more to say
                pass
