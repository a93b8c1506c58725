"""Threads beside the main one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable


def start_thread(target: Callable[[], None], name: str) -> threading.Thread:
    """Start a daemon thread that takes no signals.

    A signal goes to any thread that does not block it. One that such a thread took would be missed by whoever waits
    for it with `sigwaitinfo`; and a SIGCHLD, which does nothing by default, would be lost for good. That holds to the
    very end of the thread, which comes a little after `join()` has returned.
    """
    thread = threading.Thread(target=target, name=name, daemon=True)
    # Inherited, not set inside: so there is no moment without it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        thread.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return thread
