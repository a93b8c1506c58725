"""Listing: the states of locks are read: of a realm's, without the notes of all names ever used, or of those named."""

from __future__ import annotations

import time

from distlock_core.base.text import printable
from distlock_core.errors import LockNotFound
from distlock_core.etcd.values import Get, KeyValue, prefix_end
from distlock_core.lock.snapshot import once
from distlock_core.lock.status import all_states, name_of, state_of
from distlock_core.model.keys import Keys, ends, last_prefix
from distlock_core.model.record import beat_lease_of
from distlock_core.model.state import Holder, LockState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import Range

    NewPatience = Callable[[], Patience]  # a time limit for each call of its own
    Read = Callable[[Sequence[Get]], Sequence[Range]]

FEW = 1000  # notes that are read together with the locks, in one request; enough for most realms
BATCH = 100  # keys in one transaction: etcd's default limit is 128 operations


def list_states(etcd: Etcd, prefix: str, mutex: str, patience: NewPatience, *, brief: bool = False) -> list[LockState]:
    """Every lock that is held, waited for or frozen, by name. A `brief` list has no notes and no times left."""

    def read(gets: Sequence[Get]) -> Sequence[Range]:
        return etcd.read(gets, patience()).ranges()

    found = keys_of_realm(read, prefix, mutex, brief=brief)
    states = all_states(found, prefix, mutex)
    beats = any("beat" in holder.record.details for state in states for holder in state.holders)
    if not beats and not any(kv.lease for kv in found):
        return states
    leases = _Leases(etcd, patience)
    states = [_with_ttl_left(state, leases, brief=brief) for state in states]
    if not beats:
        return states
    return _signed(states, found, prefix, mutex, leases)


def with_signs_of_life(
    etcd: Etcd, states: Sequence[LockState], found: Sequence[KeyValue], prefix: str, mutex: str, patience: NewPatience
) -> list[LockState]:
    """The same with the last sign of life of each holder that gives them. `found` has the keys of the realm."""
    return _signed(states, found, prefix, mutex, _Leases(etcd, patience))


def _signed(
    states: Sequence[LockState], found: Sequence[KeyValue], prefix: str, mutex: str, leases: _Leases
) -> list[LockState]:
    signs = {kv.key: kv for kv in found if b"/alive/" in kv.key}
    return [_with_signs(Keys(prefix, state.name, mutex), state, signs, leases) for state in states]


def read_states(etcd: Etcd, locks: Sequence[Keys], patience: NewPatience, *, brief: bool = False) -> list[LockState]:
    """The states of these locks, from one read. If `brief`, without the times that leases have left."""
    wanted = [reads_of(keys) for keys in locks]
    union = once(get for gets in wanted for get in gets)
    found = dict(zip(union, etcd.read(union, patience()).ranges()))
    leases, states = _Leases(etcd, patience), []
    for keys, gets in zip(locks, wanted):
        kvs = [kv for get in gets for kv in found[get].kvs]
        state = state_of(keys, kvs) if brief else _with_ttl_left(state_of(keys, kvs), leases)
        states.append(_with_signs(keys, state, {kv.key: kv for kv in kvs}, leases))
    return states


def read_value(etcd: Etcd, keys: Keys, patience: Patience) -> str | None:
    """The value of a lock: of several slots that of the lowest, of several shared holders that of the eldest.

    Raises `LockNotFound`.
    """
    found = etcd.read([Get(keys.lock), Get(*keys.beside)], patience).ranges()
    holders = state_of(keys, [kv for one in found for kv in one.kvs]).holders
    if not holders:
        raise LockNotFound(f"{printable(keys.name)} is not locked")
    return holders[0].value


def reads_of(keys: Keys) -> list[Get]:
    """The reads for the state of one lock."""
    gets = [Get(keys.lock), Get(*keys.beside), Get(*ends(keys.queue)), Get(keys.last)]
    return [*gets, Get(keys.freeze), Get(keys.lock_freeze), Get(keys.policy), Get(*ends(keys.signs))]


class _Leases:
    """The seconds that leases have left. Each is asked once."""

    def __init__(self, etcd: Etcd, patience: NewPatience) -> None:
        self.etcd = etcd
        self._patience = patience
        self._known: dict[int, int] = {}

    def left(self, lease: int) -> int | None:
        if lease and lease not in self._known:
            self._known[lease] = self.etcd.time_to_live(lease, self._patience())
        return self._known.get(lease)


def _with_ttl_left(state: LockState, leases: _Leases, *, brief: bool = False) -> LockState:
    """The same with the seconds that its leases have left; if `brief`, those of its freezes only."""
    freezes = tuple(freeze._replace(ttl_left=leases.left(freeze.kv.lease)) for freeze in state.freezes)
    if brief:
        return state._replace(freezes=freezes)
    holders = tuple(holder._replace(ttl_left=leases.left(holder.lease)) for holder in state.holders)
    return state._replace(freezes=freezes, holders=holders)


def _with_signs(keys: Keys, state: LockState, signs: Mapping[bytes, KeyValue], leases: _Leases) -> LockState:
    """The same with the last sign of life of each holder that gives them. `signs`: their keys, among others."""
    if not any("beat" in holder.record.details for holder in state.holders):
        return state
    from distlock_core.model.sign_of_life import SignOfLife

    def signed(holder: Holder) -> Holder:
        record = holder.record
        left = leases.left(beat_lease_of(record)) or 0
        kv = signs.get(keys.sign_of_life(record.run))
        return holder._replace(sign=SignOfLife.of(record, kv, left, leases.etcd.term, time.time()))

    return state._replace(holders=tuple(map(signed, state.holders)))


def keys_of_realm(read: Read, prefix: str, mutex: str, *, brief: bool = False) -> list[KeyValue]:
    """All keys of the realm, but of the notes on ended holds only those of the locks among these keys.

    `read` sends one transaction. If there are many notes, those of the locks are read right after the locks. A `brief`
    list has no notes at all.
    """
    start, last = prefix.encode(), last_prefix(prefix)
    if brief:
        return [kv for one in read([Get(start, last), Get(prefix_end(last), prefix_end(start))]) for kv in one.kvs]
    before, notes, behind = read([Get(start, last), _notes(last), Get(prefix_end(last), prefix_end(start))])
    found = [*before.kvs, *behind.kvs]
    if len(notes.kvs) == notes.total:
        return [*found, *notes.kvs]
    known = {kv.key: kv for kv in notes.kvs}
    names = {name_of(kv.key, prefix, mutex) for kv in found} - {None}
    wanted = sorted(key for key in (last + name.encode() for name in names if name is not None) if key not in known)
    if len(wanted) > notes.total / 4:
        found += notes.kvs
        while len(notes.kvs) == FEW:
            (notes,) = read([_notes(last, notes.kvs[-1].key + b"\0")])
            found += notes.kvs
        return found
    for at in range(0, len(wanted), BATCH):
        found += [kv for one in read([Get(key) for key in wanted[at : at + BATCH]]) for kv in one.kvs]
    return [*found, *known.values()]


def _notes(last: bytes, start: bytes | None = None) -> Get:
    return Get(start or last, prefix_end(last), limit=FEW)
