"""Another lease for a hold, without letting go: how a lock takes another ttl."""

from __future__ import annotations

from collections.abc import Callable

from distlock_core.errors import EtcdUnavailable
from distlock_core.etcd.values import LeaseGone
from distlock_core.lock.lease import Lease
from distlock_core.lock.rewrite import amend

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import KeyValue
    from distlock_core.lock.spec import Acquired


def rehang(
    etcd: Etcd,
    acquired: Acquired,
    mine: Callable[[KeyValue], bool],
    ttl: int | None,
    refresh: float | None,
    patience: Patience,
) -> Acquired | None:
    """Put the hold's key on a new lease of this ttl (None: on none), and end the old one. None: it is not mine.

    Raises `EtcdUnavailable`, `AccessDenied`, `Cancelled`, `OutcomeUnknown`: the hold is what it was then, or lost.
    """
    old = acquired.lease
    lease = None if ttl is None else Lease(etcd, ttl, patience, refresh)
    if old is not None and lease is not None:
        # Until the answer is here, the key may hang on either.
        old.deadline = min(old.deadline, lease.deadline)
    try:
        kv = amend(etcd, acquired.kv, mine, lambda record: record, patience, 0 if lease is None else lease.id)
    except BaseException as error:
        if lease is not None:
            lease.give_up()
        if isinstance(error, LeaseGone):
            raise EtcdUnavailable("the new lease has run out before it was used") from error
        raise
    unused = lease if kv is None else old
    if unused is not None:
        unused.give_up()
    return None if kv is None else acquired._replace(kv=kv, lease=lease)
