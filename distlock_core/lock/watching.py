"""Watching the locks of a realm, or one of them: the range of keys that is followed, and what each key stands for."""

from __future__ import annotations

from distlock_core.events.follow import Follower
from distlock_core.events.watch import Watching
from distlock_core.lock.status import frozen_by, held_by
from distlock_core.model.keys import Keys, ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.client import Etcd


def watch_realm(etcd: Etcd, prefix: str, mutex: str, contact: float, *, freezes: bool) -> Watching:
    """Watch every lock of a realm; with `freezes` also its own freeze, and theirs."""
    return Watching(
        Follower(
            etcd,
            ends(prefix.encode()),
            lambda key: held_by(key, prefix, mutex),
            contact,
            lambda key: frozen_by(key, prefix, mutex) if freezes else None,
        )
    )


def watch_lock(etcd: Etcd, keys: Keys, contact: float, *, freezes: bool) -> Watching:
    """Watch one lock; with `freezes` also its own freeze."""
    # The range includes other names too, such as NAME-b, which are filtered out.
    span = keys.lock, keys.lock + b"0"
    return Watching(
        Follower(
            etcd,
            span,
            lambda key: keys if keys.is_held_by(key) else None,
            contact,
            lambda key: keys.name if freezes and key == keys.lock_freeze else None,
        )
    )
