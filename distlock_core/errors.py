"""Every error that distlock raises.

    DistlockError
    |-- ConfigError          kind config: a setting or an argument is wrong; nothing was sent
    |-- EtcdUnavailable      kind unreachable: no endpoint gave an answer in time
    |   `-- AnotherCluster   the same; every endpoint answers, but belongs to another cluster than before
    |-- NoSpace              kind error: etcd's database is full, and refuses every write that adds to it
    |-- AccessDenied         kind denied: etcd refuses this user or certificate
    |-- LockBusy             kind busy: another holder has it, or a waiter is ahead, and the call was not to wait
    |   |-- OutsideWindow    kind window: it is outside the times at which it may be acquired, and was not to wait
    |   `-- GateClosed       kind gate: the lock is free, but its gate is red, and the call was not to wait
    |-- AcquireTimeout       kind timeout: not acquired within the timeout
    |-- LockLost             kind lost: it was held by the caller, and is no longer
    |-- NotHolder            kind not_holder: the lock to be released belongs to another holder
    |-- LockNotFound         kind not_locked: the lock is free
    |-- Frozen               kind frozen: the lock or its whole realm is frozen
    |-- NotFrozen            kind not_frozen: there is no freeze to end
    |-- LimitConflict        kind limit: its holder has acquired it with another number of slots
    |-- OutcomeUnknown       kind unknown: etcd may or may not have applied a write, and may still apply it
    |-- NotSettled           kind gate: the work is done, but the gate was not green in time; the lock is not released
    |-- NotStarted           kind not_started: the command could not be started
    |-- CheckFailed          kind check: a check (is there work?) gave no answer; nothing was taken
    `-- Cancelled            kind interrupted: a signal, or the caller's cancel, ended the call

`error.message` says what is wrong and where, in one line. `error.hints` name the next step, as codes with data
(`distlock_core.hints`). `str(error)` has both, worded for users of the Python library.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from distlock_core.hints import Hint


class DistlockError(Exception):
    """Base class of all errors. `kind` is the word that `--json` prints."""

    kind = "error"
    hints: Sequence[Hint] = ()
    realm_settings: Mapping[str, Any] = {}  # those that were arguments of an adapter: they lead to this realm again

    def __init__(self, message: str, *, kind: str | None = None, hints: Sequence[Hint] = ()) -> None:
        super().__init__(message)
        self.message = message
        if kind is not None:
            self.kind = kind
        if hints:
            self.hints = tuple(hints)

    def __str__(self) -> str:
        if not self.hints:
            return self.message
        from distlock_core.hints import PYTHON, in_words

        return in_words(self.message, self.hints, PYTHON, repr)


class ConfigError(DistlockError):
    """A setting or an argument is wrong. Nothing was sent to etcd.

    `about` has the keys of settings that contradict each other.
    """

    kind = "config"

    def __init__(
        self, message: str, *, kind: str | None = None, hints: Sequence[Hint] = (), about: Sequence[str] = ()
    ) -> None:
        super().__init__(message, kind=kind, hints=hints)
        self.about = tuple(about)


class EtcdUnavailable(DistlockError):
    """No endpoint answered in time. Nothing that was asked for is known to have happened."""

    kind = "unreachable"


class AnotherCluster(EtcdUnavailable):
    """Every endpoint answers, but belongs to another cluster than at first. Unlike an outage this is not waited out."""


class NoSpace(DistlockError):
    """etcd's database is full: it refuses every write that adds to it until an administrator has made room."""


class AccessDenied(DistlockError):
    """etcd refuses this user or certificate."""

    kind = "denied"


class _AboutALock(DistlockError):
    """An error about a lock. `state` is the `LockState` as it was read, None if none was read.

    `states` are those of all locks of the call; of several, `state` is the first that the error is about.
    """

    def __init__(
        self, message: str, *, state: Any = None, states: Sequence[Any] = (), hints: Sequence[Hint] = ()
    ) -> None:
        super().__init__(message, hints=hints)
        self.state = state
        self.states = tuple(states) or (() if state is None else (state,))


class LockBusy(_AboutALock):
    """Another holder has the lock, or another waiter is ahead in the queue, and the call was not to wait."""

    kind = "busy"


class OutsideWindow(LockBusy):
    """The lock is outside the times at which it may be acquired, and the call was not to wait.

    `opens_at` is the Unix time at which it may be, None if that is not within two years.
    """

    kind = "window"

    def __init__(
        self,
        message: str,
        *,
        state: Any = None,
        states: Sequence[Any] = (),
        opens_at: float | None = None,
        hints: Sequence[Hint] = (),
    ) -> None:
        super().__init__(message, state=state, states=states, hints=hints)
        self.opens_at = opens_at


class GateClosed(LockBusy):
    """The lock is free, but its gate is red, and the call was not to wait."""

    kind = "gate"


class AcquireTimeout(_AboutALock):
    """The lock was not acquired within the timeout. The place in the queue is given up."""

    kind = "timeout"


class LockLost(_AboutALock):
    """The caller no longer holds the lock: it was deleted or replaced, or its lease has expired."""

    kind = "lost"


class NotHolder(_AboutALock):
    """The lock to be released belongs to another holder. It was left alone."""

    kind = "not_holder"


class LockNotFound(_AboutALock):
    """The lock is free."""

    kind = "not_locked"


class Frozen(_AboutALock):
    """The lock or its realm is frozen: it cannot be acquired until it is thawed, or until the freeze ends by itself.

    Also raised for a freeze of what is already frozen. Holders are not affected.
    """

    kind = "frozen"


class NotFrozen(_AboutALock):
    """The lock or the realm to be thawed is not frozen, or has been frozen anew in the meantime."""

    kind = "not_frozen"


class LimitConflict(_AboutALock):
    """The lock's holder has acquired it with another number of slots."""

    kind = "limit"


class OutcomeUnknown(DistlockError):
    """A write was sent and its reply lost: etcd may have applied it, or may still apply it.

    `run` is the id of the acquisition in doubt, None if the write was no acquisition.
    """

    kind = "unknown"

    def __init__(self, message: str, *, run: str | None = None, hints: Sequence[Hint] = ()) -> None:
        super().__init__(message, hints=hints)
        self.run = run


class NotSettled(DistlockError):
    """The work under the lock is done, but the gate was not green in time. The lock is not released."""

    kind = "gate"


class NotStarted(DistlockError):
    """The command under the lock could not be started. The lock was released."""

    kind = "not_started"


class CheckFailed(DistlockError):
    """A check, such as `--unless`, gave no answer: it could not be started, was killed, or is broken."""

    kind = "check"


class Cancelled(DistlockError):
    """The caller's cancel, or a signal, ended the call. Nothing is left behind in etcd.

    `signal` is the signal's number, None for a cancel without one.
    """

    kind = "interrupted"
    signal: int | None = None
