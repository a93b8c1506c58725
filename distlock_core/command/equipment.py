"""Equipment: the threads, descriptors and modules that supervision needs, acquired before the lock is claimed."""

from __future__ import annotations

import os
from _queue import SimpleQueue

from distlock_core.base.threads import start_thread
from distlock_core.errors import ConfigError, DistlockError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from distlock_core.command.heartbeat import Heartbeat
    from distlock_core.command.prefork import Prefork
    from distlock_core.command.signalfd import SignalFd

ROOM = 20  # descriptors that connecting, waiting, monitoring the lock and its release may need at once


class Equipment:
    """All that supervision needs. The constructor loads, opens and starts it, so that none of it can be missing later.

    `ends_trees`: the command may have to be ended with all its descendants. `warning` is a sentence about processes
    that cannot be seen here, "" if all can.
    """

    def __init__(
        self, *, ends_trees: bool, prefork: Callable[[], Prefork | None], heartbeat: Callable[[], Heartbeat | None]
    ) -> None:
        """Raises `ConfigError` or `DistlockError` if something is missing."""
        self.warning = ""
        self.pending: SignalFd | None = None
        _check_room()
        if ends_trees:
            self.warning = self._load()
        self.prefork = prefork()  # before any thread is started
        try:
            self.reporter = Reporter()
            self.heartbeat = heartbeat()
        except BaseException:
            if self.prefork is not None:
                self.prefork.close()
            raise

    def close(self) -> None:
        """Release it, whether it was used or not. No effect on a command that was started."""
        if self.prefork is not None:
            self.prefork.close()
        if self.heartbeat is not None:
            self.heartbeat.close()

    def _load(self) -> str:
        what = (
            "the command is not started: with these settings (such as ttl or heartbeat), distlock must be able to end "
            "it and all that it starts, but"
        )
        try:
            from distlock_core.command import kill  # noqa: F401 - loaded while no lock depends on it
            from distlock_core.command.signal_mask import CATCHABLE
            from distlock_core.command.signalfd import SignalFd
            from distlock_core.process import table, tree  # noqa: F401

            table.load()
            self.pending = SignalFd(CATCHABLE)
        except ImportError as error:
            raise ConfigError(f"{what} this Python has no {error.name or error}") from error
        except OSError as error:
            raise ConfigError(f"{what} the system refuses: {error.strerror or error}") from error
        try:
            hidden = table.check_visible()
        except ConfigError as error:
            raise ConfigError(f"{what} {error}. See: mount -t proc proc /proc") from None
        return (
            f"{hidden}: what the command starts as another user cannot be seen, and is not ended with it"
            if hidden
            else ""
        )


def _check_room() -> None:
    taken: list[int] = []
    try:
        while len(taken) < ROOM:
            taken.append(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        found = f"{len(taken)} more files can be opened ({error.strerror}), and {ROOM} are needed"
        raise DistlockError(f"only {found}: see ulimit -n") from None
    finally:
        for descriptor in taken:
            os.close(descriptor)


class Reporter:
    """A thread that writes one report after another. If the output is not read, only this thread blocks.

    It is started by the constructor, so that reporting cannot fail later.
    """

    def __init__(self) -> None:
        """Raises `DistlockError` if no thread can be started."""
        self._words: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._has_said = False
        try:
            self._thread = start_thread(self._tell, "distlock-tell")
        except (RuntimeError, MemoryError) as error:
            raise DistlockError(f"no thread can be started ({error}): see ulimit -u, ulimit -v, pids.max") from error

    def say(self, words: Callable[[], None]) -> None:
        """Queue a report: `words` is called, and writes it, after all previous ones."""
        self._has_said = True
        self._words.put(words)

    def close(self) -> None:
        """Return when all reports have been written."""
        self._words.put(None)
        if self._has_said:
            self._thread.join()  # else there is nothing to wait for, and a lock to release

    def _tell(self) -> None:
        while True:
            words = self._words.get()
            if words is None:
                return
            try:
                words()
            except Exception:  # noqa: BLE001, S110 - the output is broken; go on with the next report
                pass
