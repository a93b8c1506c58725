"""Error answers of etcd, over either transport, and the distlock errors that they become."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.errors import AccessDenied, ConfigError, DistlockError, NoSpace
from distlock_core.etcd.values import Compacted, WatchEnded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# gRPC codes, as etcd's answers carry them.
INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION, UNAUTHENTICATED = 3, 5, 7, 9, 16
# Cancelled, Unknown, DeadlineExceeded, Aborted, Internal, Unavailable: temporary, another member may succeed.
PASSING = frozenset({1, 2, 4, 10, 13, 14})
# Python's errors for an answer that is no JSON, or JSON of another structure than etcd's.
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)
TOO_MANY_REQUESTS, NO_LEADER = "too many requests", "etcdserver: no leader"
# The gateway's error for an incomplete request, on a half-closed connection: it passes no part of it on.
CUT_SHORT = "unexpected EOF"
NO_SPACE = "database space exceeded"
# The last of these is the answer of 3.5 over its gateway, with an ambiguous code.
OUTDATED = ("user name is empty", "revision of auth store is old", "revision in header is old")
MOST_QUOTED = 300  # characters of an etcd message that are shown
# Reasons, by version of etcd, for ending a watch that this user may not open, or whose token is no longer valid.
REFUSALS = ("permission denied", "invalid auth token", "auth store is old", "in header is old", "user name is empty")


class WatchRefused(WatchEnded):
    """etcd has ended a watch because this user may not open it."""


class Refused(Exception):
    """etcd answered with an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def passing(self) -> bool:
        return self.code in PASSING or TOO_MANY_REQUESTS in self.message or self._cut_short

    @property
    def undone(self) -> bool:
        """True if the request was certainly refused before anything was done: a write may be sent again."""
        return NO_LEADER in self.message or TOO_MANY_REQUESTS in self.message or self._cut_short

    @property
    def wants_login(self) -> bool:
        """True if etcd wants a user's token, or another one: nothing was done."""
        return self.code == UNAUTHENTICATED or any(words in self.message for words in OUTDATED)

    @property
    def _cut_short(self) -> bool:
        return self.code == INVALID_ARGUMENT and self.message == CUT_SHORT


def watch_ended(said: str, compacted: int = 0) -> WatchEnded:
    """The error for a watch that etcd has ended with this message. `compacted`: its compact_revision."""
    if compacted:
        return Compacted(said, compacted)
    return (WatchRefused if any(word in said for word in REFUSALS) else WatchEnded)(said)


def translate(refusal: Refused) -> DistlockError:
    """The distlock error for an error of etcd."""
    message = refusal.message
    if refusal.code in (PERMISSION_DENIED, UNAUTHENTICATED) or "user name is empty" in message:
        if "user name is empty" in message:
            return AccessDenied(f"etcd refuses: {message}. It wants a user: set user, and a password")
        return AccessDenied(f"etcd refuses: {message}")
    if NO_SPACE in message:
        return NoSpace(
            "etcd's database is full (alarm NOSPACE): it takes no writes until somebody has compacted and "
            "defragmented it, and then disarmed the alarm. See: etcdctl alarm list"
        )
    if "too large" in message or "larger than max" in message:  # the second is gRPC's message, for its own limit
        return ConfigError(f"etcd refuses: {message}; shorten the reason or the value")
    return DistlockError(f"etcd refuses: {message}")


def quoted(said: Any) -> str:
    """A message from etcd for people: on one line, without control characters, shortened."""
    return printable(str(said)[:MOST_QUOTED])
