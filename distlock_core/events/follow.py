"""Follower: reports every change to the locks in a range of keys exactly once, in order of revision.

A watch is a hint and a read is the truth, so the follower uses both. A watch delivers the changes one by one; a read,
every `REREAD` seconds and after every disconnect, shows whether any are missing. If so, a new watch asks for the
history since the last reported revision. Changes that the history no longer has (it was compacted), or never delivered
(servers before 3.4.36 and 3.5.18 can miss a DELETE), are reconstructed from the read.
"""

from __future__ import annotations

from collections import deque

from distlock_core.base.deadline import Backoff, Patience, now
from distlock_core.base.value import Value
from distlock_core.errors import AnotherCluster, EtcdUnavailable
from distlock_core.etcd.values import REREAD, Compacted, Event, Get, KeyValue, WatchEnded
from distlock_core.model.keys import Keys
from distlock_core.model.record import HoldEnd, token_of
from distlock_core.model.state import Holder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from distlock_core.etcd.client import Etcd, Watch
    from distlock_core.model.freeze import Freeze

    Endings = dict[tuple[bytes, "int | None"], HoldEnd]  # by the key and the token of the hold

ON_ITS_WAY, HISTORY = 0.5, 3.0  # seconds to wait for events that a read has shown: in the open watch, in a new one
SHORT_LIVED = 20  # watches in a row that ended without an event, after which the history counts as unavailable

LOCK_ACQUIRED, LOCK_CHANGED, LOCK_RELEASED = "acquired", "changed", "released"
FROZEN, THAWED = "frozen", "thawed"


class LockEvent(Value):
    """A change to a lock: `kind` is acquired, changed, released, frozen or thawed.

    `holder` is the hold concerned; after a release, its last state. `revision` is etcd's revision of the change, or of
    the read that revealed it. `ended` says how a released hold ended. It is None if that is unknown: the lease
    expired, the key was deleted by other means, or, in a watch of one lock, another hold has ended since. An event of a
    freeze, which is only reported on request, has that `freeze` in place of a holder; for the freeze of a realm, `lock`
    is "".
    """

    kind: str
    holder: Holder | None
    revision: int
    ended: HoldEnd | None = None
    freeze: Freeze | None = None

    @property
    def lock(self) -> str:
        return self.holder.lock if self.holder is not None else (self.freeze and self.freeze.lock) or ""

    @property
    def owner(self) -> str | None:
        """The owner of the hold, or of the freeze."""
        return self.holder.owner if self.holder is not None else self.freeze and self.freeze.by

    @property
    def token(self) -> int:
        """The fencing token of the hold, 0 for a freeze."""
        return 0 if self.holder is None else self.holder.token

    @property
    def value(self) -> str | None:
        return None if self.holder is None else self.holder.value


class Follower:
    """Follows the holders of locks, and freezes. `advance()` appends events to `news`. For one thread at a time."""

    def __init__(
        self,
        etcd: Etcd,
        span: tuple[bytes, bytes | None],
        keys_of: Callable[[bytes], Keys | None],
        contact: float,
        frozen_by: Callable[[bytes], str | None] = lambda _: None,
    ) -> None:
        """`span` is a single range that contains all holders; events of two ranges would have no common order.

        `keys_of` maps the key of a hold to its lock, any other key to None. `frozen_by` maps the key of a freeze to the
        name of its lock, that of the realm's freeze to "", any other key to None. `contact` limits a single call, in
        seconds.
        """
        self.news: deque[LockEvent] = deque()
        self.is_over = False  # it never is
        self._etcd = etcd
        self._span = span
        self._keys_of = keys_of
        self._frozen_by = frozen_by
        self._contact = contact
        self._told: dict[bytes, KeyValue] = {}
        self._revision: int | None = None  # every change up to this revision has been reported
        self._floor = 0  # revision of the last reported read: older events are duplicates
        self._stream: Watch | None = None
        self._pending: deque[Event] = deque()
        self._short_lived = 0
        self._gap = False
        self._reread_at = 0.0
        self._pauses = Backoff()

    def advance(self, patience: Patience) -> None:
        """Wait for news; return when there may be some. Outages are waited out, except at the first contact.

        Raises `EtcdUnavailable` at the first contact, `AnotherCluster`, `AccessDenied` and `Cancelled`. It can be
        called again after each of them.
        """
        try:
            if self._stream is None or now() >= self._reread_at:
                self._look(patience)
            if not self.news:
                if not self._pending:
                    self._receive(patience.until(self._reread_at))
                self._tell(patience)
            self._pauses.reset()
        except (EtcdUnavailable, WatchEnded) as trouble:
            if self._revision is None:
                raise
            self._broken(trouble)
            if not self.news:
                if isinstance(trouble, AnotherCluster):
                    raise
                patience.pause(self._pauses.next())

    def skip_present(self, patience: Patience) -> None:
        """Read the holds and freezes that exist now, without an event for each. Raises as `advance()`."""
        self._look(patience)
        self.news.clear()

    def close(self) -> None:
        """Close the watch. `advance()` resumes after the last reported event."""
        self._pending.clear()
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    # Reads.

    def _look(self, patience: Patience) -> None:
        """Read all holds, and report every change up to that read."""
        outcome = self._etcd.read([Get(*self._span)], patience.within(self._contact))
        truth = {kv.key: kv for kv in outcome.ranges()[0].kvs if self._is_followed(kv.key)}
        self._reread_at = now() + REREAD
        if self._stream is not None and self._stream.endpoint != self._etcd.endpoint:
            self.close()  # the client has failed over from the member that serves the watch
        if self._revision is None or self._gap:
            self._fill_in(truth, outcome.revision, patience)
        elif outcome.revision < self._revision:
            self.close()  # the history has changed: etcd was restored from a backup
            self._fill_in(truth, outcome.revision, patience)
        elif not self._agrees(truth):
            self._ask_history(truth, outcome.revision, patience)
            if not self._agrees(truth):
                self._fill_in(truth, outcome.revision, patience)

    def _agrees(self, truth: Mapping[bytes, KeyValue]) -> bool:
        return self._told.keys() == truth.keys() and all(
            kv.mod_revision == self._told[key].mod_revision for key, kv in truth.items()
        )

    def _ask_history(self, truth: Mapping[bytes, KeyValue], revision: int, patience: Patience) -> None:
        """Report the events up to this revision: first from the open watch, then from a new one.

        Raises `EtcdUnavailable` and `WatchEnded` while the missing events may still be in the history.
        """
        for seconds in (ON_ITS_WAY, HISTORY) if self._stream is not None else (HISTORY,):
            moment = patience.within(seconds)
            try:
                while not self._agrees(truth) and self._receive(moment):
                    self._tell(patience, revision)
                    if self._pending:
                        return  # the rest is newer than the read
            except Compacted:
                self.close()
                return
            if self._agrees(truth):
                return
            self.close()

    def _fill_in(self, truth: dict[bytes, KeyValue], revision: int, patience: Patience) -> None:
        """Report the difference between the reported state and what was read."""
        gone = [kv for key, kv in self._told.items() if key not in truth or is_another(truth[key], kv)]
        endings = self._read_endings({kv.key for kv in gone}, patience)
        for kv in gone:
            self._release(kv, revision, endings)
        for kv in sorted(truth.values(), key=lambda kv: kv.mod_revision):
            self._put(kv)
        self._revision = self._floor = revision
        self._gap, self._short_lived = False, 0

    # Events.

    def _receive(self, patience: Patience) -> bool:
        """Wait for events, in a watch that starts after the last reported revision. False: none came in time."""
        assert self._revision is not None
        if self._stream is None:
            self._stream = self._etcd.watch([self._span], self._revision + 1, patience.within(self._contact))
        events = self._stream.wait(patience)
        self._pending.extend(events)
        self._short_lived = 0
        return bool(events)

    def _tell(self, patience: Patience, up_to: int | None = None) -> None:
        """Report the received events, up to a revision."""
        due = [event for event in self._pending if up_to is None or event.kv.mod_revision <= up_to]
        # Read before the first report, so that an error or cancellation leaves all events for the next call.
        endings = self._endings(due, patience)
        for deleted, kv in due:
            self._pending.popleft()
            if kv.mod_revision <= self._floor:
                continue
            self._revision = kv.mod_revision
            told = self._told.get(kv.key)
            if told is not None and (deleted or is_another(kv, told)):
                self._release(told, kv.mod_revision, endings)
            if not deleted and self._is_followed(kv.key):
                self._put(kv)

    def _broken(self, trouble: Exception) -> None:
        self.close()
        if isinstance(trouble, WatchEnded):
            self._short_lived += 1
            self._gap = isinstance(trouble, Compacted) or self._short_lived >= SHORT_LIVED

    # News.

    def _put(self, kv: KeyValue) -> None:
        told = self._told.get(kv.key)
        if told is None or (told.value, told.lease) != (kv.value, kv.lease):
            freeze = self._freeze(kv)
            if freeze is not None:
                self.news.append(LockEvent(FROZEN, None, kv.mod_revision, freeze=freeze))
            else:
                kind = LOCK_ACQUIRED if told is None else LOCK_CHANGED
                self.news.append(LockEvent(kind, self._holder(kv), kv.mod_revision))
        self._told[kv.key] = kv

    def _release(self, kv: KeyValue, revision: int, endings: Endings) -> None:
        del self._told[kv.key]
        freeze = self._freeze(kv)
        if freeze is not None:
            self.news.append(LockEvent(THAWED, None, revision, freeze=freeze))
            return
        holder = self._holder(kv)
        self.news.append(LockEvent(LOCK_RELEASED, holder, revision, endings.get((kv.key, holder.token))))

    def _is_followed(self, key: bytes) -> bool:
        return self._keys_of(key) is not None or self._frozen_by(key) is not None

    def _freeze(self, kv: KeyValue) -> Freeze | None:
        name = self._frozen_by(kv.key)
        if name is None:
            return None
        from distlock_core.model.freeze import Freeze  # rarely needed

        return Freeze.parse(name or None, kv)

    def _holder(self, kv: KeyValue) -> Holder:
        keys = self._keys_of(kv.key)
        assert keys is not None
        return Holder.parse(keys, kv)

    def _endings(self, due: Sequence[Event], patience: Patience) -> Endings:
        """How the holds ended whose end is among these events, from each lock's `__last` note.

        The note is written with the deletion, so it is the event beside it; it is read if it is not in the span.
        """
        beside = {(kv.key, kv.mod_revision): kv for deleted, kv in due if not deleted}
        endings: Endings = {}
        unseen = set()
        for kv in (event.kv for event in due if event.deleted):
            keys = self._keys_of(kv.key)
            if keys is None:
                continue
            if not self._is_in_span(keys.last):
                unseen.add(kv.key)
            elif (keys.last, kv.mod_revision) in beside:
                ended = HoldEnd.parse(beside[keys.last, kv.mod_revision].value)
                endings[kv.key, ended.token] = ended
        return {**endings, **self._read_endings(unseen, patience)}

    def _is_in_span(self, key: bytes) -> bool:
        first, end = self._span
        return first <= key if end is None else first <= key < end

    def _read_endings(self, deleted: set[bytes], patience: Patience) -> Endings:
        """How the last holds of these locks ended, from a read of their notes; incomplete in an outage."""
        endings: Endings = {}
        for key in deleted:
            keys = self._keys_of(key)
            try:
                found = (
                    () if keys is None else self._etcd.read([Get(keys.last)], patience.within(self._contact)).ranges()
                )
            except EtcdUnavailable:
                break
            for ended in (HoldEnd.parse(kv.value) for last in found for kv in last.kvs):
                endings[key, ended.token] = ended
        return endings


def is_another(kv: KeyValue, before: KeyValue) -> bool:
    """True if the key now belongs to another hold: it was deleted in between, or a dead run's hold was taken over."""
    return (kv.create_revision, token_of(kv)) != (before.create_revision, token_of(before))
