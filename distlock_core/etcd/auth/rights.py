"""Diagnosis of a missing right. etcd only answers "permission denied", so each right is tried by itself.

A write is tried in the branch of a transaction that is not executed: etcd checks the rights for both branches.
"""

from __future__ import annotations

from distlock_core.errors import AccessDenied, DistlockError
from distlock_core.etcd.refused import PERMISSION_DENIED, Refused
from distlock_core.etcd.values import Compare, Get, LeaseGone, Put, prefix_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.values import Op

TRYING = 1.0  # seconds that the diagnosis may take
MOST = 4  # keys that a message names


def name_missing(
    denied: AccessDenied,
    access: Access | None,
    compares: Sequence[Compare],
    ops: Sequence[Op],
    attempt: Callable[[Sequence[Op], Sequence[Op]], object],
) -> AccessDenied:
    """Return an error that names the user, the missing right and the key.

    `attempt` sends a transaction without conditions, from its `then` and `otherwise` operations. It raises the errors
    of `Etcd.txn()`.
    """
    cause = denied.__cause__
    if not isinstance(cause, Refused) or cause.code != PERMISSION_DENIED:
        return denied
    reads: list[Op] = [
        Get(one.key, one.range_end, limit=1) for one in [*compares, *ops] if isinstance(one, (Compare, Get))
    ]
    writes: list[Op] = [op for op in ops if not isinstance(op, Get)]
    lacking: dict[str, list[str]] = {"read": [], "write": []}
    try:
        for right, tried in (("read", reads), ("write", writes)):
            for op in tried:
                shown = _shown(op.key, getattr(op, "range_end", None))
                if shown not in lacking[right] and not _may(op, attempt):
                    lacking[right].append(shown)
    except (DistlockError, LeaseGone):
        return denied  # etcd went away meanwhile: no more can be found out
    said = [f"{right} {_listed(keys)}" for right, keys in lacking.items() if keys]
    if not said:
        return denied  # the right was granted meanwhile, or it is about a lease
    return AccessDenied(
        f"{client_of(access)} may not {', nor '.join(said)}; docs/security.md has the role that it needs"
    )


def _may(op: Op, attempt: Callable[[Sequence[Op], Sequence[Op]], object]) -> bool:
    if isinstance(op, Put):
        op = Put(op.key, b"")  # without the lease, which needs other rights
    try:
        attempt(*(([op], []) if isinstance(op, Get) else ([], [op])))
    except AccessDenied:
        return False
    return True


def client_of(access: Access | None) -> str:
    """The client in words, as etcd knows it."""
    if access is not None and access.user:
        return f"etcd's user {access.user!a}"
    if access is not None and access.cert:
        return "this client certificate, without an etcd user,"
    return "a client without an etcd user"


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - MOST} more" if len(keys) > MOST else ""
    return ", ".join(keys[:MOST]) + more


def _shown(key: bytes, end: bytes | None) -> str:
    text = key.decode(errors="backslashreplace")
    if end is None:
        return text
    return f"{text}*" if end == prefix_end(key) else f"{text} to {end.decode(errors='backslashreplace')}"
