"""Renewal of a lease: tries that overlap, so that none waits for a connection which has fallen silent.

A connection whose packets are dropped says nothing: TCP sends again after ever longer pauses, and a try that waits for
it may outlast the lease though etcd is back. So the first try has a moment for itself; after it others follow, each
over a connection of its own and beside those that still wait, until one is answered.
"""

from __future__ import annotations

import os

from distlock_core.base.deadline import Interrupt, Patience, now
from distlock_core.errors import Cancelled, EtcdUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # Renews within a patience, over a new connection or not, and returns the TTL that is left.
    Ask = Callable[[Patience, bool], int]

ALONE = 1.0  # seconds that the first try has for itself
SHORT, LONG = 1.0, 5.0  # seconds that a try may take; one that begins in every second may take long: etcd may be slow


def renew(ask: Ask, patience: Patience, every: float) -> int:
    """Renew, and return the first answer: the TTL. When there is none, another try begins every so many seconds.

    Nobody knows which try etcd has answered: `etcd grpc-proxy` gives the answer to one to whoever asks for the same
    lease by then. So count the TTL from the sending of the first one since the last answer.

    Raises what the last try has raised, and `Cancelled`.
    """
    try:
        return ask(patience.within(min(ALONE, patience.left() / 3)), False)
    except EtcdUnavailable:
        if patience.over():
            raise
    tries: _Tries | None = None
    try:
        tries = _Tries(ask)
        return tries.answer(patience, every)
    except (ImportError, OSError, RuntimeError, MemoryError):
        # No descriptor, or no thread, is to be had: one try after the other, then.
        return _in_turn(ask, patience)
    finally:
        if tries is not None:
            tries.end()


def _in_turn(ask: Ask, patience: Patience) -> int:
    while True:
        try:
            return ask(patience.within(SHORT), True)
        except EtcdUnavailable:
            if patience.over():
                raise


class _Tries:
    """Tries that run beside each other, in threads of their own."""

    def __init__(self, ask: Ask) -> None:
        import threading

        self._ask = ask
        self._lock = threading.Lock()
        self._running = 1  # whoever waits counts too
        self._answer: int | None = None
        self._error: Exception | None = None
        self._over = Interrupt()  # ends those that still run when one was answered
        try:
            self._reader, self._writer = os.pipe()
        except BaseException:
            self._over.close()
            raise

    def answer(self, patience: Patience, every: float) -> int:
        """Begin tries until one is answered. Raises what the last one raised, as `start_thread`, and `Cancelled`."""
        long_one = now()
        while not patience.over():
            is_long = now() >= long_one
            if is_long:
                long_one = now() + SHORT
            self._begin(patience.within(LONG if is_long else SHORT).deadline)
            if patience.within(every).wait(self._reader):
                break
        if self._answer is None:
            patience.until(now()).wait(self._reader)
        with self._lock:
            if self._answer is None:
                raise self._error or EtcdUnavailable("no etcd answered in time")
            return self._answer

    def end(self) -> None:
        """Call the others off, without waiting for them."""
        self._over.set()
        self._leave()

    def _begin(self, deadline: float) -> None:
        from distlock_core.base.threads import start_thread

        with self._lock:
            self._running += 1
        try:
            start_thread(lambda: self._try(Patience(deadline, self._over)), "distlock-renewal")
        except BaseException:
            self._leave()
            raise

    def _try(self, patience: Patience) -> None:
        try:
            ttl = self._ask(patience, True)
            with self._lock:
                if self._answer is None:
                    self._answer = ttl
                    os.write(self._writer, b"!")
        except Cancelled:
            pass
        except Exception as error:  # noqa: BLE001 - raised where it is waited for, if no other try is answered
            self._error = error
        finally:
            self._leave()

    def _leave(self) -> None:
        # Whoever is the last closes: a descriptor is never closed while another may still use its number.
        with self._lock:
            self._running -= 1
            last = not self._running
        if last:
            self._over.close()
            os.close(self._reader)
            os.close(self._writer)
