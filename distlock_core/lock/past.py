"""The history of a realm's locks: what each of its keys stands for, and which entries are wanted."""

from __future__ import annotations

from distlock_core.history.history import History
from distlock_core.history.reading import HistoryReader
from distlock_core.history.tracks import FREEZE, HOLD, NOTE, TICKET, Place
from distlock_core.lock.status import frozen_by, name_of
from distlock_core.model.keys import Keys, last_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from distlock_core.etcd.client import Etcd
    from distlock_core.history.entries import Entry


def history_of(
    etcd: Etcd,
    prefix: str,
    mutex: str,
    names: Collection[str],
    contact: float,
    *,
    since: float | None,
    follow: bool,
) -> History:
    """The history of these locks, or without names of all locks of a realm and its freezes.

    All keys of the realm are read in any case, since the changes of other locks bound the times of theirs.
    """

    def is_wanted(entry: Entry) -> bool:
        if entry.kind in ("reach", "gap"):
            return True
        if names and entry.lock not in names and not (entry.kind == "freeze" and entry.lock is None):
            return False
        return since is None or entry.ended is None or (entry.ended.at.latest or since) >= since

    def place(key: bytes) -> Place | None:
        return place_of(key, prefix, mutex)

    return History(HistoryReader(etcd, prefix, place, is_wanted, contact, since=since, follows=follow))


def place_of(key: bytes, prefix: str, mutex: str) -> Place | None:
    """What a key stands for, None for one that is not part of the history."""
    notes = last_prefix(prefix)
    if key.startswith(notes):
        try:
            return Place(NOTE, key[len(notes) :].decode())
        except UnicodeDecodeError:
            return None
    frozen = frozen_by(key, prefix, mutex)
    if frozen is not None:
        return Place(FREEZE, frozen or None)
    name = name_of(key, prefix, mutex)
    if name is None:
        return None
    keys = Keys(prefix, name, mutex)
    if keys.is_held_by(key):
        is_shared = keys.is_shared(key)
        return Place(HOLD, name, None if is_shared else keys.slot_of(key), is_shared)
    return Place(TICKET, name) if key.startswith(keys.queue) else None
