"""Background threads, without the module `threading` unless it is already loaded: importing it slows start-up."""

from __future__ import annotations

import _thread
import os
import sys

from distlock_core.base.plain_signal import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Thread:
    """A daemon thread that receives no signals. Made by `start_thread()`.

    In a forked child it counts as ended.
    """

    def __init__(self, target: Callable[[], None], name: str) -> None:
        self.name = name
        self._target = target
        self._over = _thread.allocate_lock()
        self._pid = os.getpid()
        self._ident: int | None = None
        self._over.acquire()
        threading = sys.modules.get("threading")
        if threading is not None:
            # A debugger or a test that lists the program's threads expects to find it.
            threading.Thread(target=self._run, name=name, daemon=True).start()
        else:
            _thread.start_new_thread(self._run, ())

    @property
    def is_current(self) -> bool:
        """True in the thread itself."""
        return self._ident == _thread.get_ident() and self._pid == os.getpid()

    def is_alive(self) -> bool:
        return self._pid == os.getpid() and self._over.locked()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, at most `timeout` seconds (default: forever)."""
        if self._pid == os.getpid() and self._over.acquire(timeout=-1 if timeout is None else timeout):
            self._over.release()

    def _run(self) -> None:
        self._ident = _thread.get_ident()
        try:
            self._target()
        except BaseException as error:  # noqa: BLE001 - reported, as `threading` does it
            report(error)
        finally:
            self._over.release()


def start_thread(target: Callable[[], None], name: str) -> Thread:
    """Start a daemon thread that receives no signals. Raises `RuntimeError` if the system allows no more threads.

    The kernel delivers a signal to any thread that does not block it. `sigwaitinfo` in the main thread would miss a
    signal delivered to another one, and a SIGCHLD, which does nothing by default, would be lost for good. So all
    signals stay blocked until the very end of the thread, which is a little after `join()` has returned.
    """
    # The new thread inherits the mask, so that there is no moment without it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return Thread(target, name)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def report(error: BaseException) -> None:
    """Report an uncaught exception (of a caller's callback, for example), as Python does for any thread.

    Never raises, and imports nothing.
    """
    try:
        threading = sys.modules.get("threading")
        if isinstance(error, SystemExit):
            return
        if threading is not None and hasattr(threading, "excepthook"):
            threading.excepthook(threading.ExceptHookArgs([type(error), error, error.__traceback__, None]))
        else:
            sys.excepthook(type(error), error, error.__traceback__)
    except Exception:  # noqa: BLE001, S110 - there is no other place to report to
        pass
