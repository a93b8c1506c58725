"""Listing: the keys to read for a list of a realm's locks, without the notes of all names that were ever used."""

from __future__ import annotations

from distlock_core.etcd.values import Get, KeyValue, prefix_end
from distlock_core.lock.status import name_of
from distlock_core.model.keys import last_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.etcd.values import Range

    Read = Callable[[Sequence[Get]], Sequence[Range]]

FEW = 1000  # notes that are read together with the locks, in one request; enough for most realms
BATCH = 100  # keys in one transaction: etcd's default limit is 128 operations


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
