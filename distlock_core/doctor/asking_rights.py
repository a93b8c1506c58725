"""Questions about this user's rights. Nothing is written: a write is named where a transaction can never come to."""

from __future__ import annotations

from distlock_core.doctor.rights import READ, Granted, Need, of_a_lock, of_the_realm, whole_realm
from distlock_core.errors import AccessDenied, Cancelled, DistlockError
from distlock_core.etcd.refused import PERMISSION_DENIED, Refused
from distlock_core.etcd.values import Delete, Get

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.client import Etcd
    from distlock_core.model.keys import Keys


def ask_rights(etcd: Etcd, prefix: str, locks: Sequence[Keys], patience: Callable[[], Patience]) -> list[Granted]:
    """Whether the needs of a realm, or of these locks, are granted. Raises `AccessDenied` if etcd refuses the user."""
    found = [_ask(etcd, need, patience()) for need in whole_realm(prefix)]
    if all(one.granted for one in found) or any(one.granted is None for one in found):
        return found
    needs = [need for keys in locks for need in of_a_lock(keys)] if locks else of_the_realm(prefix)
    for need in needs:
        found.append(_ask(etcd, need, patience()))
        if found[-1].granted is None:
            break  # the others would take as long, for the same reason
    return found


def _ask(etcd: Etcd, need: Need, patience: Patience) -> Granted:
    try:
        if need.right == READ:
            etcd.read([Get(need.key, need.end, keys_only=True, limit=1)], patience)
        else:
            # A transaction without conditions always succeeds, so this branch is never executed: etcd checks the rights
            # for it all the same. A delete, as a full database takes no put.
            etcd.txn([], [], [Delete(need.key, need.end)], patience)
    except AccessDenied as denied:
        if isinstance(denied.__cause__, Refused) and denied.__cause__.code == PERMISSION_DENIED:
            return Granted(need, False)
        raise
    except Cancelled:
        raise
    except DistlockError as error:
        return Granted(need, None, error.message)
    return Granted(need, True)
