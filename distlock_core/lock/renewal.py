"""Renewal of a lease: overlapping attempts, so that a dead connection cannot block the renewal.

A connection whose packets are dropped reports no error: TCP retransmits after growing pauses, and an attempt over it
may outlast the lease even though etcd is back. So the first attempt has some time for itself; after that others start,
each over a new connection and in parallel to those still waiting, until one is answered.
"""

from __future__ import annotations

import os

from distlock_core.base.deadline import Interrupt, Patience, now
from distlock_core.errors import Cancelled, EtcdUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    # Renews within a patience, over a new connection if True, and returns the remaining TTL.
    Ask = Callable[[Patience, bool], int]

ALONE = 1.0  # seconds before the second attempt starts
SHORT, LONG = 1.0, 5.0  # time limits of an attempt; once a second a long one starts, in case etcd is slow


def renew(ask: Ask, patience: Patience, every: float) -> int:
    """Renew the lease, and return the TTL from the first answer. Without one, an attempt starts `every` few seconds.

    An answer cannot be assigned to an attempt: `etcd grpc-proxy` delivers it to every pending request for the same
    lease. So the caller counts the TTL from the sending of the first attempt since the last answer.

    Raises the error of the last attempt, and `Cancelled`.
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
        # No descriptor or no thread is left: fall back to one attempt after the other.
        return _in_turn(ask, patience)
    finally:
        if tries is not None:
            tries.end()


def renew_gently(ask: Ask, patience: Patience) -> int:
    """Renew the lease with one attempt at a time, the second over a new connection. Raises as `renew()`."""
    try:
        return ask(patience.within(patience.left() / 3), False)
    except EtcdUnavailable:
        if patience.over():
            raise
    return ask(patience, True)


def _in_turn(ask: Ask, patience: Patience) -> int:
    while True:
        try:
            return ask(patience.within(SHORT), True)
        except EtcdUnavailable:
            if patience.over():
                raise


class _Tries:
    """Attempts that run in parallel, each in its own thread."""

    def __init__(self, ask: Ask) -> None:
        import threading

        self._ask = ask
        self._lock = threading.Lock()
        self._running = 1  # includes the waiting caller
        self._answer: int | None = None
        self._error: Exception | None = None
        self._over = Interrupt()  # cancels the remaining attempts after an answer
        try:
            self._reader, self._writer = os.pipe()
        except BaseException:
            self._over.close()
            raise

    def answer(self, patience: Patience, every: float) -> int:
        """Start attempts until one is answered. Raises the last one's error, as `start_thread`, and `Cancelled`."""
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
        """Cancel the remaining attempts, without waiting for them."""
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
        except Exception as error:  # noqa: BLE001 - raised in `answer()`, unless another attempt is answered
            self._error = error
        finally:
            self._leave()

    def _leave(self) -> None:
        # The last one closes, so that no descriptor is closed while another thread may still use its number.
        with self._lock:
            self._running -= 1
            last = not self._running
        if last:
            self._over.close()
            os.close(self._reader)
            os.close(self._writer)
