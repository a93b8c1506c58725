"""StandbyThread: a thread that is started before there is work for it, so that handing it work cannot fail."""

from __future__ import annotations

import _thread
import os
from collections.abc import Callable

from distlock_core.base.deadline import Interrupt
from distlock_core.base.threads import report, start_thread
from distlock_core.errors import DistlockError


class StandbyThread:
    """A thread that waits for work, does one piece after the other, and waits again, until it is closed.

    It is started, and all descriptors that it needs are opened, when it is made. So whoever makes one before a lock is
    claimed cannot fail for want of a thread afterwards. Handing it work, recalling it and closing it allocate nothing
    of the system. In a forked child it does not exist: `hand()` raises there, the rest does nothing. One that nobody
    refers to any more ends by itself, when it has no work.

    `interrupt` is what ends the work.
    """

    def __init__(self, name: str) -> None:
        """Raises `DistlockError` where there is no thread or no descriptor left."""
        try:
            self.interrupt = Interrupt()
        except OSError as error:
            raise DistlockError(
                f"the lock could not be looked after: no descriptor is left ({error.strerror}): see ulimit -n"
            ) from error
        self._pid = os.getpid()
        self._post = _Post(self.interrupt)
        try:
            self._thread = start_thread(self._post.serve, name)
        except (RuntimeError, MemoryError) as error:
            self.interrupt.close()
            self._post.closed = True
            raise DistlockError(
                f"the lock could not be looked after: no thread can be started ({error}): see ulimit -u, pids.max"
            ) from error

    @property
    def is_inherited(self) -> bool:
        """True in a forked child of the process that made it."""
        return self._pid != os.getpid()

    @property
    def is_working(self) -> bool:
        """True from `hand()` until the work has ended or is recalled."""
        return self._pid == os.getpid() and self._post.idle.locked() and not self._post.left_to_itself

    def hand(self, work: Callable[[Interrupt], object]) -> None:
        """Do this, which is to end soon after its interrupt is set. Only while it does not work."""
        if self._pid != os.getpid():
            raise DistlockError("the thread that looks after a lock does not exist in a forked child")
        post = self._post
        post.idle.acquire()  # it may be about to end what it has been recalled from
        post.left_to_itself = False
        self.interrupt.clear()
        post.work = work
        post.called.release()

    def recall(self) -> None:
        """End the work, and wait for that; called by the thread itself, it ends as soon as that returns."""
        if self._pid != os.getpid() or not self._post.idle.locked():
            return
        self.interrupt.set()
        if self._thread.is_current:
            self._post.left_to_itself = True
            return
        with self._post.idle:
            pass

    def close(self) -> None:
        """End the work and the thread, and close what it has opened."""
        if self._pid != os.getpid() or self._post.closed:
            return
        self._post.closed = True
        self.recall()
        if self._thread.is_current:
            return  # it closes the rest as it ends
        self._post.called.release()
        self._thread.join()
        self.interrupt.close()

    def __del__(self) -> None:
        # The lock was dropped without a release. Not waited for: the collector may run in any thread.
        try:
            if self._pid == os.getpid() and not self._post.closed:
                self._post.abandon()
        except Exception:  # noqa: BLE001, S110 - it was never whole, or the interpreter is ending
            pass


class _Post:
    """What the thread and whoever has it share. The thread knows nothing else: so it keeps no `StandbyThread` alive."""

    def __init__(self, interrupt: Interrupt) -> None:
        self.interrupt = interrupt
        self.called = _thread.allocate_lock()  # held while there is nothing to do
        self.idle = _thread.allocate_lock()  # held while it works
        self.called.acquire()
        self.work: Callable[[Interrupt], object] | None = None
        self.closed = False
        self.left_to_itself = False  # recalled or closed by its own thread, which cannot wait for itself
        self.abandoned = False  # nobody refers to the `StandbyThread` any more
        self._pid = os.getpid()

    def abandon(self) -> None:
        """Let the thread end, and close the rest, when it has no work."""
        self.abandoned = self.closed = True
        try:
            self.called.release()
        except RuntimeError:
            pass  # it has been called, and is about to begin: it looks again after that

    def serve(self) -> None:
        """The thread's life."""
        while True:
            self.called.acquire()
            work, self.work = self.work, None
            if work is None:
                if self.abandoned:
                    self.interrupt.close()
                return
            try:
                work(self.interrupt)
            except BaseException as error:  # noqa: BLE001 - the next work must find a thread
                report(error)
            work = None
            if self._pid != os.getpid():
                return  # a callback has forked, and the child came back here
            if self.abandoned or (self.closed and self.left_to_itself):
                self.interrupt.close()
                self.idle.release()
                return
            self.idle.release()
