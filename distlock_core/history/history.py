"""History: an iterator over past and present holds, waits and freezes, that any thread may close."""

from __future__ import annotations

from distlock_core.events.watch import Feed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.history.entries import Entry  # noqa: F401 - in quotes below


class History(Feed["Entry"]):
    """Iterator over the entries of a history. Made by `Realm.history()`.

    First comes a `Reach`, which says how far back it goes; then what has ended (`PastHold`, `PastWait`, `PastFreeze`),
    in the order of the ends, and what still lasts. A `Gap` stands where etcd had compacted changes before they were
    read. Raises `EtcdUnavailable`, `AnotherCluster`, `AccessDenied`, and `DistlockError` if no watch opens.
    """
