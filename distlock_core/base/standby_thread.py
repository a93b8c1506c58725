"""StandbyThread: a thread that is started before there is work for it, so that handing it work cannot fail."""

from __future__ import annotations

import _thread
import os

from distlock_core.base.deadline import Interrupt
from distlock_core.base.threads import report, start_thread
from distlock_core.errors import DistlockError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class StandbyThread:
    """A thread that waits for work, does one piece after another, and waits again, until it is closed.

    The constructor starts the thread and opens all descriptors that it needs: code that makes one before it claims a
    lock cannot fail later for lack of a thread. `hand()`, `recall()` and `close()` allocate no system resources.
    The thread does not exist in a forked child: there `hand()` raises, and the other methods do nothing. A thread that
    is no longer referred to ends by itself when it has no work.

    Setting `interrupt` ends the work.
    """

    def __init__(self, name: str) -> None:
        """Raises `DistlockError` if no thread or descriptor is left."""
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

    def hand(self, work: Callable[[Interrupt], object]) -> None:
        """Do `work`, which must end soon after its interrupt is set. To be called only while the thread is idle."""
        if self._pid != os.getpid():
            raise DistlockError("the thread that looks after a lock does not exist in a forked child")
        post = self._post
        post.idle.acquire()  # the work that was recalled may be about to end
        post.left_to_itself = False
        self.interrupt.clear()
        post.work = work
        post.called.release()

    def recall(self) -> None:
        """End the work and wait for its end. Called by the thread itself, the work ends as soon as it returns."""
        if self._pid != os.getpid() or not self._post.idle.locked():
            return
        self.interrupt.set()
        if self._thread.is_current:
            self._post.left_to_itself = True
            return
        with self._post.idle:
            pass

    def close(self) -> None:
        """End the work and the thread, and close its descriptors."""
        if self._pid != os.getpid() or self._post.closed:
            return
        self._post.closed = True
        self.recall()
        if self._thread.is_current:
            return  # the thread closes the rest when it ends
        self._post.called.release()
        self._thread.join()
        self.interrupt.close()

    def __del__(self) -> None:
        # The lock was dropped without a release. Do not wait here: the garbage collector may run in any thread.
        try:
            if self._pid == os.getpid() and not self._post.closed:
                self._post.abandon()
        except Exception:  # noqa: BLE001, S110 - the constructor failed, or the interpreter is exiting
            pass


class _Post:
    """State shared by the thread and its `StandbyThread`. The thread refers to nothing else, so it keeps none alive."""

    def __init__(self, interrupt: Interrupt) -> None:
        self.interrupt = interrupt
        self.called = _thread.allocate_lock()  # locked while there is no work
        self.idle = _thread.allocate_lock()  # locked while the thread works
        self.called.acquire()
        self.work: Callable[[Interrupt], object] | None = None
        self.closed = False
        self.left_to_itself = False  # recalled or closed by its own thread, which cannot wait for itself
        self.abandoned = False  # the `StandbyThread` is no longer referred to
        self._pid = os.getpid()

    def abandon(self) -> None:
        """Let the thread end, and close its descriptors, when it has no work."""
        self.abandoned = self.closed = True
        try:
            self.called.release()
        except RuntimeError:
            pass  # work is about to begin: the thread checks `abandoned` after it

    def serve(self) -> None:
        """The thread's main loop."""
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
