"""Threads beside the main one: without the module `threading` where nobody has loaded it, which is dear at start-up."""

from __future__ import annotations

import _thread
import os
import signal
import sys
from collections.abc import Callable


class Thread:
    """A daemon thread that takes no signals. Made by `start_thread()`.

    In a forked child it does not exist: there it has ended.
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
            # As whoever lists the program's threads expects it.
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
        """Wait for its end, at most `timeout` seconds (default: for ever)."""
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
    """Start a daemon thread that takes no signals. Raises `RuntimeError` where the system allows no more threads.

    A signal goes to any thread that does not block it. One that such a thread took would be missed by whoever waits
    for it with `sigwaitinfo`; and a SIGCHLD, which does nothing by default, would be lost for good. That holds to the
    very end of the thread, which comes a little after `join()` has returned.
    """
    # Inherited, not set inside: so there is no moment without it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        return Thread(target, name)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def report(error: BaseException) -> None:
    """Report what nobody catches (an error of a caller's own callback, say), as Python does for any thread.

    Never raises, and loads nothing: whoever reports goes on.
    """
    try:
        threading = sys.modules.get("threading")
        if isinstance(error, SystemExit):
            return
        if threading is not None and hasattr(threading, "excepthook"):
            threading.excepthook(threading.ExceptHookArgs([type(error), error, error.__traceback__, None]))
        else:
            sys.excepthook(type(error), error, error.__traceback__)
    except Exception:  # noqa: BLE001, S110 - there is nobody left to tell
        pass
