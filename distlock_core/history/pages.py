"""Pages: the keys of a realm at a past revision, read in parts."""

from __future__ import annotations

from distlock_core.errors import DistlockError
from distlock_core.etcd.refused import Refused
from distlock_core.etcd.values import Get, prefix_end
from distlock_core.model.keys import ends, last_prefix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.client import Etcd
    from distlock_core.etcd.values import KeyValue, Outcome

PAGE = 1000  # keys in one read
COMPACTED = "has been compacted"  # etcd's error for a revision that can no longer be read


class TooOld(Exception):
    """etcd has compacted the revision that was to be read."""


class Pages:
    """Reads of a realm. Methods raise `TooOld` if the revision can no longer be read, and as `Etcd.read()`."""

    def __init__(self, etcd: Etcd, prefix: str, contact: float) -> None:
        """`contact` limits a single read, in seconds."""
        self.span = ends(prefix.encode())
        self._notes = ends(last_prefix(prefix))
        self._etcd = etcd
        self._contact = contact

    def newest(self, patience: Patience) -> tuple[int, int]:
        """The present revision, and the one at which the newest of the present keys was written."""
        outcome = self._read(Get(*self.span, keys_only=True, limit=1, newest_first=True), patience)
        kvs = outcome.ranges()[0].kvs
        return outcome.revision, kvs[0].mod_revision if kvs else 0

    def locks(self, revision: int, patience: Patience, *, keys_only: bool = False) -> Iterator[KeyValue]:
        """All keys but for the notes on ended holds."""
        yield from self._range(self.span[0], self._notes[0], revision, patience, keys_only=keys_only)
        yield from self._range(prefix_end(self._notes[0]), self.span[1], revision, patience, keys_only=keys_only)

    def notes(self, revision: int, patience: Patience) -> Iterator[KeyValue]:
        return self._range(*self._notes, revision, patience)

    def newest_notes(self, revision: int, limit: int, patience: Patience) -> tuple[KeyValue, ...]:
        """The notes that were written last at this revision."""
        get = Get(*self._notes, limit=limit, newest_first=True, revision=revision)
        return self._read(get, patience).ranges()[0].kvs

    def _range(
        self, start: bytes, end: bytes, revision: int, patience: Patience, *, keys_only: bool = False
    ) -> Iterator[KeyValue]:
        while True:
            get = Get(start, end, keys_only=keys_only, limit=PAGE, revision=revision)
            (found,) = self._read(get, patience).ranges()
            yield from found.kvs
            if len(found.kvs) == found.total or not found.kvs:
                return
            start = found.kvs[-1].key + b"\0"

    def _read(self, get: Get, patience: Patience) -> Outcome:
        try:
            return self._etcd.read([get], patience.within(self._contact))
        except DistlockError as error:
            if isinstance(error.__cause__, Refused) and COMPACTED in error.__cause__.message:
                raise TooOld(error.message) from error
            raise
