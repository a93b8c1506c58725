"""Facts about a realm for its examination, from one read: states, leases of waiters, processes that are gone."""

from __future__ import annotations

from distlock_core.doctor.locks import RealmFacts
from distlock_core.etcd.values import Get
from distlock_core.lock.holder_life import HolderLife
from distlock_core.lock.listing import keys_of_realm, reads_of, with_signs_of_life
from distlock_core.lock.snapshot import once
from distlock_core.lock.status import all_states, state_of
from distlock_core.model.keys import ends
from distlock_core.process.fate import GONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import KeyValue, Range
    from distlock_core.model.keys import Keys

MOST_LEASES = 50  # that are asked for their time left


def read_realm_facts(
    etcd: Etcd, prefix: str, mutex: str, locks: Sequence[Keys], state_dir: str | None, patience: Callable[[], Patience]
) -> RealmFacts:
    """Read a realm, or only these locks of it. `state_dir`: this machine's notes. Raises as `Etcd.read()`."""

    def read(gets: Sequence[Get]) -> Sequence[Range]:
        return etcd.read(gets, patience()).ranges()

    if locks:
        union = once(get for keys in locks for get in (*reads_of(keys), Get(*ends(keys.mutex))))
        found = [kv for one in read(union) for kv in one.kvs]
        states = [state_of(keys, found) for keys in locks]
    else:
        found = keys_of_realm(read, prefix, mutex, brief=True)
        states = all_states(found, prefix, mutex)
    states = with_signs_of_life(etcd, states, found, prefix, mutex, patience)
    inside = (prefix + mutex + "/").encode()
    leases = dict.fromkeys(kv.lease for kv in found if kv.lease and _is_asked(kv, prefix, inside))
    left = {lease: etcd.time_to_live(lease, patience()) for lease in list(leases)[:MOST_LEASES]}
    holders = [holder for state in states for holder in state.holders if holder.owner is not None]
    gone = {holder.token for holder in holders if HolderLife.of(holder, state_dir).process == GONE}
    return RealmFacts(tuple(states), tuple(found), left, frozenset(gone))


def _is_asked(kv: KeyValue, prefix: str, inside: bytes) -> bool:
    return b"/queue/" in kv.key[len(prefix) :] or kv.key.startswith(inside)
