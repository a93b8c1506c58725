"""Every error that distlock raises.

    DistlockError
    |-- ConfigError          kind config: a setting or an argument is wrong; nothing was sent
    |-- EtcdUnavailable      kind unreachable: no endpoint gave an answer in time
    |   `-- AnotherCluster   the same; all of them answer, and belong to another cluster than before
    |-- NoSpace              kind error: etcd's database is full, and takes nothing that adds to it
    |-- AccessDenied         kind denied: etcd refuses this user or certificate
    |-- LockBusy             kind busy: somebody else holds it, or is ahead in the queue, and I was not to wait
    |-- AcquireTimeout       kind timeout: waited, and did not get it in time
    |-- LockLost             kind lost: it was mine, and is no longer
    |-- NotHolder            kind not_holder: what was to be released is another's
    |-- LockNotFound         kind not_locked: nobody holds it
    |-- Frozen               kind frozen: the whole realm is frozen
    |-- LimitConflict        kind limit: it is held by somebody who counts its slots differently
    |-- OutcomeUnknown       kind unknown: nobody can tell whether etcd did it, or will do it yet
    |-- NotStarted           kind not_started: the command could not be started
    `-- Cancelled            kind interrupted: a signal, or the caller's own cancel, ended the call

`error.message` says what is wrong and where, in one line; `error.hints` say what to do next, as codes with their data
(`distlock_core.hints`). `str(error)` is both, in the words of Python's library.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from distlock_core.hints import Hint


class DistlockError(Exception):
    """The root of them all. `kind` is the word that `--json` prints."""

    kind = "error"
    hints: Sequence[Hint] = ()
    reach: Mapping[str, Any] = {}  # the settings that an adapter was given as arguments to reach this realm

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
    """A setting or an argument is wrong. Nothing was sent to etcd."""

    kind = "config"


class EtcdUnavailable(DistlockError):
    """No endpoint gave an answer in time. Nothing that was asked for is known to have happened."""

    kind = "unreachable"


class AnotherCluster(EtcdUnavailable):
    """Every endpoint answers, and belongs to another cluster than at first. Unlike an outage it is not waited out."""


class NoSpace(DistlockError):
    """etcd's database is full: it takes nothing that adds to it until somebody has made room."""


class AccessDenied(DistlockError):
    """etcd refuses this user or certificate."""

    kind = "denied"


class _AboutALock(DistlockError):
    """An error that can show the lock as it was seen: `state` is a `LockState`, None where nothing was read."""

    def __init__(self, message: str, *, state: Any = None, hints: Sequence[Hint] = ()) -> None:
        super().__init__(message, hints=hints)
        self.state = state


class LockBusy(_AboutALock):
    """Somebody else holds the lock, or waits for it ahead of me, and I was not to wait."""

    kind = "busy"


class AcquireTimeout(_AboutALock):
    """The lock did not become mine within the timeout. My place in the queue is given up."""

    kind = "timeout"


class LockLost(_AboutALock):
    """The lock was mine and is no longer: deleted, replaced, or run out."""

    kind = "lost"


class NotHolder(_AboutALock):
    """What was to be released is another's. It was left alone."""

    kind = "not_holder"


class LockNotFound(_AboutALock):
    """Nobody holds the lock."""

    kind = "not_locked"


class Frozen(_AboutALock):
    """The realm is frozen: nobody acquires anything in it until it is thawed."""

    kind = "frozen"


class LimitConflict(_AboutALock):
    """The lock is held by somebody who counts its slots differently than I do."""

    kind = "limit"


class OutcomeUnknown(DistlockError):
    """A write was sent and its reply lost: etcd may have applied it, or may apply it yet.

    `run` is the id of the acquisition in doubt, None where none is.
    """

    kind = "unknown"

    def __init__(self, message: str, *, run: str | None = None, hints: Sequence[Hint] = ()) -> None:
        super().__init__(message, hints=hints)
        self.run = run


class NotStarted(DistlockError):
    """The command under the lock could not be started. The lock was released."""

    kind = "not_started"


class Cancelled(DistlockError):
    """The caller's cancel, or a signal, ended the call. Nothing is left behind in etcd.

    `signal` is the signal's number, None where it was none.
    """

    kind = "interrupted"
    signal: int | None = None
