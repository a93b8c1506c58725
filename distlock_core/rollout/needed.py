"""Only where there is work: checks before a lock is acquired, and again once it is held.

A check is a line of shell, or a callable that returns a truth value. `only_if` says that there is work if it is true,
`unless` if it is false. A line is true if it exits with 0, and false with 1 to 125. With any other exit code (126 and
127 are the shell's own, for a program that it cannot run or find) or if a signal ends it, it has given no answer: that
is an error, and nothing is taken.
"""

from __future__ import annotations

import os

from distlock_core.base.deadline import FOREVER, Patience, Wait, now
from distlock_core.base.value import Value
from distlock_core.errors import AcquireTimeout, CheckFailed, DistlockError
from distlock_core.lock.lock import hold_of
from distlock_core.model.ttl import longest_call
from distlock_core.rollout.shell import Shell, stderr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Union

    from distlock_core.base.deadline import Cancel
    from distlock_core.lock.acquire import Waiting
    from distlock_core.lock.lock import Lock

    Check = Union[str, Callable[[], object]]
    # Called while a check runs; returns the moment of the next call.
    Meanwhile = Callable[[], float]

TRUE, LARGEST_FALSE = 0, 125


class Work(Value):
    """The checks whether there is work: without any, there is. `environ` is that of a line of shell."""

    only_if: Check | None = None
    unless: Check | None = None
    environ: Mapping[str, str] | None = None  # default: this process's own

    def why_not(self, patience: Patience, meanwhile: Meanwhile | None = None) -> str:
        """Why there is nothing to do, in words; "" if there is work.

        A check is ended at the end of the patience, and if `meanwhile` raises. Raises `CheckFailed`, `AcquireTimeout`
        at the end of the patience, `Cancelled`, and what a callable raises.
        """
        if self.only_if is not None and not self._is_true("only_if", self.only_if, patience, meanwhile):
            return "only_if is false"
        if self.unless is not None and self._is_true("unless", self.unless, patience, meanwhile):
            return "unless is true"
        return ""

    def _is_true(self, name: str, check: Check, patience: Patience, meanwhile: Meanwhile | None) -> bool:
        if not isinstance(check, str):
            answer = bool(check())
            if meanwhile is not None:
                meanwhile()
            return answer
        what = f"the check {name}"
        try:
            status = _status(check, self.environ, patience, meanwhile)
        except CheckFailed as error:
            raise CheckFailed(f"{what} gave no answer: {error.message}") from error
        if status is None:
            raise AcquireTimeout(f"{what} gave no answer in time: it was ended, and the lock is not taken")
        if not 0 <= status <= LARGEST_FALSE:
            raise CheckFailed(f"{what} gave no answer: {_how(status)}")
        return status == TRUE


def acquire_if_needed(
    lock: Lock,
    *,
    only_if: Check | None = None,
    unless: Check | None = None,
    timeout: float | None = None,
    cancel: Cancel | None = None,
    progress: Callable[[Waiting], None] | None = None,
) -> Lock | None:
    """Acquire a lock if there is work: return it, held, or None if there is nothing to do.

    `only_if` and `unless` are callables, or lines that `/bin/sh -c` reads (0 is true, 1 to 125 false, all else an
    error). They are checked before etcd is asked, and again once the lock is held, since another may have done the work
    meanwhile; if there is nothing to do any more, the lock is released. The other arguments are those of
    `Lock.acquire()`; `timeout` covers the first check too, unless it is 0. Raises as `Lock.acquire()` does,
    `CheckFailed`, and what a callable raises: then the lock is not held.
    """
    work = Work(only_if, unless)
    began, wait = now(), Wait.of(timeout)
    if work.why_not(first_patience(wait, cancel)):
        return None
    left = timeout if timeout is None or wait.is_none else max(0.001, timeout - (now() - began))
    lock.acquire(left, cancel, progress)
    try:
        nothing_to_do = bool(work.why_not(Patience(FOREVER, cancel), renewing(lock)))
    except BaseException:
        try:
            lock.release()
        except DistlockError:
            pass  # the error of the check is raised; a lease expires
        raise
    if nothing_to_do:
        lock.release()
        return None
    return lock


def first_patience(wait: Wait, cancel: Cancel | None) -> Patience:
    """The patience for the check before the lock is acquired: as long as the wait may take, if there is one."""
    return Patience(FOREVER if wait.is_none else now() + wait.seconds, cancel)


def renewing(lock: Lock) -> Meanwhile:
    """Keeps a held lock alive while a check runs. The call raises `LockLost` if it is lost."""
    hold = hold_of(lock)
    lease = hold.lease

    def renew() -> float:
        if not hold.is_sound:
            raise hold.loss_error()
        if lease is None:
            return FOREVER
        if not hold.session.is_running:
            lease.renew_if_due(Patience.lasting(longest_call(lease.ttl)))
            if lease.gone:
                raise hold.loss_error()
        return min(now() + 1.0, max(lease.renew_at, now() + 0.05))

    return renew


def _status(
    line: str, environ: Mapping[str, str] | None, patience: Patience, meanwhile: Meanwhile | None
) -> int | None:
    """The exit code of a line, -n for signal n; None if it was ended at the end of the patience."""
    shell = Shell(line, os.environ if environ is None else environ, stderr())
    try:
        while True:
            moment = FOREVER if meanwhile is None else meanwhile()
            status = shell.wait(patience.until(moment))
            if status is not None or patience.over():
                return status
    finally:
        shell.end()


def _how(status: int) -> str:
    if status < 0:
        return f"signal {-status} has ended it"
    if status in (126, 127):
        return f"exit code {status}: a program that it names is not there, or cannot be executed"
    return f"exit code {status}, and only 0 (true) and 1 to {LARGEST_FALSE} (false) are answers"
