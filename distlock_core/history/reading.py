"""Reading of a history from etcd: a watch from the oldest revision that can still be read, and reads to check it.

A watch delivers the past in order, but does not say where the present begins. The past is complete when the watch has
delivered the newest key that a read has shown, and is silent. Another read shows whether it has missed anything
(servers before 3.4.36 and 3.5.18 can miss a DELETE): then the difference is told as a gap.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import groupby

from distlock_core.base.deadline import Backoff, Patience, now
from distlock_core.errors import AnotherCluster, EtcdUnavailable
from distlock_core.etcd.refused import WatchRefused
from distlock_core.etcd.values import REREAD, Compacted, WatchEnded
from distlock_core.history.pages import Pages, TooOld
from distlock_core.history.reducer import Reducer
from distlock_core.history.start import start_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distlock_core.etcd.client import Etcd, Watch
    from distlock_core.etcd.values import Event
    from distlock_core.history.entries import Entry
    from distlock_core.history.tracks import Place

# Seconds of silence after which a watch has delivered the past. etcd sends it in parts, one every 0.1 s.
QUIET, QUIET_AT_FIRST = 0.5, 1.5
SHORT_LIVED = 20  # watches in a row that ended without an event, after which the history cannot be read
RECHECK = 3.0  # seconds for a new watch to deliver what the old one has missed
NO_WATCH = (
    ". A read was answered: a proxy that buffers, for example, lets no watch open, which a history takes. Name a "
    "member of etcd itself as the endpoint"
)


class HistoryReader:
    """Appends the entries of a realm's history to `news`. For one thread at a time.

    `is_over`: the past has been told, and what happens from then on is not followed.
    """

    def __init__(
        self,
        etcd: Etcd,
        prefix: str,
        place_of: Callable[[bytes], Place | None],
        wanted: Callable[[Entry], bool],
        contact: float,
        *,
        since: float | None = None,
        follows: bool = False,
    ) -> None:
        """`wanted` selects the entries that are told. `contact` limits a single call, in seconds."""
        self.news: deque[Entry] = deque()
        self.is_over = False
        self._etcd = etcd
        self._pages = Pages(etcd, prefix, contact)
        self._wanted = wanted
        self._place_of = place_of
        self._contact = contact
        self._since = since
        self._follows = follows
        self._reducer = Reducer(place_of, self._tell)
        self._has_begun = False
        self._stream: Watch | None = None
        self._heard_at = 0.0  # on the `now()` clock: when the watch was opened, or has delivered events
        self._has_heard = False
        self._present: tuple[int, int, int] | None = None  # revision, newest key, Unix time of the first read
        self._is_complete = False  # everything up to the present has been delivered
        self._is_told = False  # and told
        self._rest: Sequence[Event] = ()  # events that are newer than the present
        self._short_lived = 0
        self._check_at = 0.0
        self._suspect: int | None = None  # the revision at which a check has found a difference
        self._pauses = Backoff()

    def _tell(self, entry: Entry) -> None:
        if self._wanted(entry):
            self.news.append(entry)

    def advance(self, patience: Patience) -> None:
        """Wait for entries; return when there may be some. Once the past is told, outages are waited out.

        Raises `EtcdUnavailable`, `AnotherCluster`, `AccessDenied`, `DistlockError` and `Cancelled`.
        """
        try:
            self._step(patience)
            self._pauses.reset()
        except Compacted as compacted:
            self.close()
            self._go_on_from(compacted.revision, patience)
        except WatchEnded as ended:
            self.close()
            if isinstance(ended, WatchRefused):
                self._pages.newest(patience)  # its error names the missing right
            self._short_lived += 1
            if self._short_lived >= SHORT_LIVED and not self._is_told:
                raise EtcdUnavailable(f"the history cannot be read: {ended}") from ended
            patience.pause(self._pauses.next())
        except EtcdUnavailable as away:
            self.close()
            if not self._is_told or isinstance(away, AnotherCluster):
                raise
            patience.pause(self._pauses.next())

    def close(self) -> None:
        """Close the watch. `advance()` goes on after the last change that was told."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _step(self, patience: Patience) -> None:
        if self._present is None:
            revision, newest = self._pages.newest(patience)
            self._present = revision, newest, int(time.time())
            if self._since is not None:
                self._begin_late(self._since, revision, patience)
        if self._stream is None:
            revision = self._reducer.revision + 1
            self._stream = self._watch(revision, patience.within(self._contact))
            self._heard_at, self._has_heard = now(), False
        self._take(self._stream.wait(patience.until(self._next_look())))
        if self._is_complete and not self._is_told:
            self._arrive(patience)
        elif self._is_told and now() >= self._check_at:
            self._check(patience)

    def _watch(self, revision: int, patience: Patience) -> Watch:
        try:
            return self._etcd.watch([self._pages.span], revision, patience, polls=False)
        except AnotherCluster:
            raise
        except EtcdUnavailable as trouble:
            # Reads are answered: before the past is told, there was one just before.
            trouble.message += NO_WATCH
            raise

    def _begin_late(self, since: float, newest: int, patience: Patience) -> None:
        """Begin at a revision shortly before this Unix time, if there is much before it."""
        try:
            start = start_for(self._pages, since, newest, patience)
            if start is not None:
                self._reducer.begin(start, list(self._pages.locks(start, patience)), (), "asked")
                self._has_begun = True
        except TooOld:
            pass  # by now: then it begins at the oldest that is left

    def _next_look(self) -> float:
        if self._is_told:
            return self._check_at
        return self._heard_at + (QUIET if self._has_heard else QUIET_AT_FIRST)

    def _take(self, events: Sequence[Event]) -> None:
        """Take in events; a message of a watch has all those of a revision."""
        assert self._present is not None
        if events:
            self._heard_at, self._has_heard, self._short_lived = now(), True, 0
        elif not self._is_told and now() >= self._next_look():
            self._is_complete = self._reducer.revision >= self._present[1]
        if not events and not self._is_complete:
            return
        if not self._has_begun:
            self._reducer.begin(self._reducer.revision, (), (), "first")
            self._has_begun = True
        for revision, group in groupby(events, lambda event: event.kv.mod_revision):
            if revision > self._present[0] and not self._is_told:
                self._is_complete = True
                self._rest = [event for event in events if event.kv.mod_revision >= revision]
                return
            if revision > self._reducer.revision:
                self._reducer.change(revision, list(group))
        if events and self._is_told:
            self._reducer.advance_to(int(time.time()))  # they have just happened

    def _arrive(self, patience: Patience) -> None:
        """Check what is known of the present that the first read has shown, and tell what still lasts."""
        assert self._present is not None
        revision, _, at = self._present
        try:
            there = self._keys(revision, patience)
            if there != self._reducer.keys():
                self._skip(revision, patience)
        except TooOld:
            pass  # by now: then it is not checked
        self._reducer.advance_to(at)
        self._reducer.tell_open()
        self._is_told, self._check_at = True, now() + REREAD
        self.is_over = not self._follows
        self._reducer.live = self._follows
        if self._follows:
            rest, self._rest = self._rest, ()
            self._take(rest)

    def _check(self, patience: Patience) -> None:
        """See whether the watch has missed anything, or etcd was restored from a backup."""
        self._check_at = now() + REREAD
        revision, _ = self._pages.newest(patience)
        try:
            there = self._keys(revision, patience)
            if there == self._reducer.keys():
                self._suspect = None
            elif self._suspect == self._reducer.revision or revision < self._reducer.revision:
                self.close()
                self._skip(revision, patience)
                self._reducer.advance_to(int(time.time()))
                self._suspect = None
            else:
                self.close()  # a new watch is asked for all that has happened since
                self._suspect, self._check_at = self._reducer.revision, now() + RECHECK
        except TooOld:
            pass  # by now: the next check has a newer revision

    def _go_on_from(self, revision: int, patience: Patience) -> None:
        """Begin at the oldest revision that can be read, or go on there if changes before it were not read in time."""
        try:
            if self._has_begun:
                self._skip(revision, patience)
            else:
                found = self._pages.locks(revision, patience)
                self._reducer.begin(revision, found, self._pages.notes(revision, patience), "compacted")
                self._has_begun = True
        except TooOld:
            return  # that was compacted too: the next watch says what is left
        if self._present is None or revision > self._present[0]:
            self._present = revision, 0, int(time.time())
        if self._is_told:
            self._reducer.advance_to(int(time.time()))

    def _skip(self, revision: int, patience: Patience) -> None:
        present = list(self._pages.locks(revision, patience))
        self._reducer.skip(revision, present, list(self._pages.notes(revision, patience)))

    def _keys(self, revision: int, patience: Patience) -> dict[bytes, int]:
        """The keys of holds, waits and freezes at a revision, with their mod_revisions."""
        found = self._pages.locks(revision, patience, keys_only=True)
        return {kv.key: kv.mod_revision for kv in found if self._place_of(kv.key) is not None}
