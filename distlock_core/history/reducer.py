"""Reducer: turns the changes of a realm's keys, in order of revision, into the entries of its history. Pure.

It remembers only what is held, waited for or frozen at the present revision, so its memory does not grow with the
length of the history.
"""

from __future__ import annotations

from distlock_core.history.entries import (
    BROKEN,
    COOLED,
    DELETED,
    EXPIRED,
    LEFT,
    RELEASED,
    REPLACED,
    TAKEN_OVER,
    UNKNOWN,
    End,
    Gap,
    Moment,
    PastHold,
    Reach,
)
from distlock_core.history.times import Mark, Outbox, Times
from distlock_core.history.tracks import FREEZE, HOLD, NOTE, TICKET, EndMark, FreezeTrack, HoldTrack, WaitTrack
from distlock_core.model.record import COOLING, HELD, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Union

    from distlock_core.etcd.values import Event, KeyValue
    from distlock_core.history.entries import Entry
    from distlock_core.history.tracks import Place

    Track = Union[HoldTrack, WaitTrack, FreezeTrack]


class Reducer:
    """Calls `tell` with each entry when it has ended and its times are known, in the order of the ends.

    When it is `live`, an entry is also told when it begins.
    """

    def __init__(self, place_of: Callable[[bytes], Place | None], tell: Callable[[Entry], None]) -> None:
        """`place_of` maps a key to its meaning, None for a key that does not matter."""
        self.revision = 0  # every change up to this one is known
        self.live = False
        self._place_of = place_of
        self._times = Times()
        self._outbox = Outbox(tell)
        self._open: dict[bytes, Track] = {}

    def keys(self) -> dict[bytes, int]:
        """The present keys of holds, waits and freezes, with their mod_revisions."""
        return {key: track.kv.mod_revision for key, track in self._open.items()}

    # The beginning of the history, and of what comes after a gap.

    def begin(self, revision: int, present: Iterable[KeyValue], notes: Iterable[KeyValue], because: str) -> None:
        """Begin with the keys as they are at this revision. `because`: as in `Reach`.

        `notes` are about the holds that ended before. They may be many, and are told one by one.
        """
        born = [(kv, place) for kv, place in self._placed(present) if place.kind != NOTE]
        known = [when for when in (_written(Record.parse(kv.value)) for kv, _ in born) if when is not None]
        ended = [(kv, _ended_before(place.lock or "", kv)) for kv, place in self._placed(notes)]
        ends = [hold.ended.at.at for _, hold in ended if hold is not None and hold.ended is not None]
        known += [at for at in ends if at is not None]
        if known:
            self._times.not_before(max(known))
        reached = self._times.mark()
        self._outbox.put(lambda: Reach(revision, reached.moment, because), reached)
        for _, hold in sorted(ended, key=lambda pair: pair[0].mod_revision):
            if hold is not None:
                self._outbox.pass_on(hold)
        for kv, place in born:
            self._meet(place, kv)
        self.revision = revision
        self._outbox.flush()

    def skip(self, revision: int, present: Iterable[KeyValue], notes: Sequence[KeyValue]) -> None:
        """Go on with the keys as they are at this later revision: the changes until there cannot be read.

        `notes` are the present ones on how holds ended.
        """
        after, since = self.revision, self._times.mark()
        until = self._times.mark()
        self._outbox.put(
            lambda: Gap(after, revision, Moment(since.moment.earliest, since.moment.earliest), until.moment), until
        )
        noted = {place.lock: kv for kv, place in self._placed(notes)}
        told = {track.token for track in self._open.values() if isinstance(track, HoldTrack)}
        there = {kv.key: (kv, place) for kv, place in self._placed(present) if place.kind != NOTE}
        for key, track in list(self._open.items()):
            kv, place = there.get(key, (None, None))
            if kv is not None and _is_same(track, kv):
                self._amend(track, kv, None)
            else:
                self._end(key, track, self._missed_end(track, noted))
        for lock, kv in noted.items():
            hold = None if lock is None else _ended_before(lock, kv)
            if hold is not None and hold.token not in told and kv.mod_revision > after:
                self._outbox.pass_on(hold)
        for key, (kv, place) in there.items():
            if key not in self._open:
                self._meet(place, kv)
        self.revision = revision
        self._outbox.flush()

    def _placed(self, kvs: Iterable[KeyValue]) -> Iterable[tuple[KeyValue, Place]]:
        for kv in kvs:
            place = self._place_of(kv.key)
            if place is not None:
                yield kv, place

    def _meet(self, place: Place, kv: KeyValue) -> None:
        """Take in a hold, wait or freeze that began before what can be read."""
        record = Record.parse(kv.value)
        since = self._times.mark() if record.since is None else Mark.exact(record.since)
        if place.kind == HOLD:
            if record.is_taken_over:
                since = self._times.mark(earliest=record.since)
            hold = HoldTrack(place, kv, since, None, 0)
            if record.state != HELD:
                at = record.number("state_since")
                mark = self._times.mark(earliest=record.since) if at is None else Mark.exact(at)
                hold.enters(record.state, mark)
                if record.state == COOLING:
                    hold.cooled_by = record.owner
            self._start(kv.key, hold)
        elif place.kind == TICKET:
            self._start(kv.key, WaitTrack(place, kv, since, 0))
        elif place.kind == FREEZE:
            self._start(kv.key, FreezeTrack(place, kv, since, 0))

    def _missed_end(self, track: Track, noted: dict[str | None, KeyValue]) -> EndMark:
        if isinstance(track, HoldTrack) and track.lock in noted:
            note = Record.parse(noted[track.lock].value)
            if note.number("token") == track.token:
                return self._noted_end(note)
        return EndMark(UNKNOWN, self._times.mark(), is_sure=False)

    # Changes.

    def change(self, revision: int, events: Sequence[Event]) -> None:
        """Take in all events of one revision."""
        placed = [(event, place) for event, place in ((one, self._place_of(one.kv.key)) for one in events) if place]
        at = self._time_of(placed)
        if at is not None:
            self._times.tick(at)
        notes = {
            place.lock: Record.parse(event.kv.value)
            for event, place in placed
            if place.kind == NOTE and not event.deleted
        }
        frozen = {place.lock for event, place in placed if place.kind == FREEZE and _is_new(event)}
        gone = {event.kv.key: event for event, _ in placed if self._is_end(event)}
        claimed = self._claimed(placed, gone)
        ends = {key: self._end_of(event, at, notes, gone) for key, event in gone.items()}
        for key, ended in ends.items():
            track = self._open[key]
            if track in claimed.values():
                del self._open[key]
            else:
                self._end(key, track, ended, froze=track.lock in frozen)
        for event, place in placed:
            if not event.deleted and place.kind != NOTE:
                self._put(event.kv, place, at, notes, claimed)
        self.revision = revision
        self._outbox.flush()

    def advance_to(self, at: int) -> None:
        """All changes so far were made before this time: nothing is missing up to it."""
        self._times.tick(at)
        self._outbox.flush()

    def tell_open(self) -> None:
        """Tell what is still held, waited for or frozen, in the order of the beginnings."""
        for track in sorted(self._open.values(), key=lambda track: track.kv.create_revision):
            self._tell_begun(track)
        self._outbox.flush()

    def _time_of(self, placed: Sequence[tuple[Event, Place]]) -> int | None:
        """The time at which a revision was written, None if none of its records says so."""
        ending = {place.lock for event, place in placed if place.kind == HOLD and (event.deleted or not _is_new(event))}
        for event, place in placed:
            if event.deleted:
                continue
            record = Record.parse(event.kv.value)
            if _written(record) is None and place.kind != NOTE:
                continue
            if place.kind == NOTE:
                # A note that is written again, unchanged, makes a claim void: its time is an old one.
                if place.lock in ending and record.text("how"):
                    return record.since
            elif place.kind == TICKET:
                if record.since is not None:
                    self._times.not_before(record.since)  # it is kept when a waiter queues again
            elif _is_new(event) or place.kind == FREEZE:
                return record.since
            elif place.kind == HOLD and record.number("state_since") is not None:
                track = self._open.get(event.kv.key)
                if isinstance(track, HoldTrack) and track.state != record.state:
                    return record.number("state_since")
        return None

    def _is_end(self, event: Event) -> bool:
        track = self._open.get(event.kv.key)
        return track is not None and (event.deleted or not _is_same(track, event.kv))

    def _claimed(self, placed: Sequence[tuple[Event, Place]], gone: Iterable[bytes]) -> dict[str | None, WaitTrack]:
        """The waits that ended with the lock: their ticket was deleted as the lock was claimed."""
        claims = {place.lock for event, place in placed if place.kind == HOLD and _is_new(event)}
        tracks = (self._open[key] for key in gone)
        return {track.lock: track for track in tracks if isinstance(track, WaitTrack) and track.lock in claims}

    def _put(
        self,
        kv: KeyValue,
        place: Place,
        at: int | None,
        notes: dict[str | None, Record],
        claimed: dict[str | None, WaitTrack],
    ) -> None:
        track = self._open.get(kv.key)
        if track is not None:
            self._amend(track, kv, at, notes.get(place.lock))
            return
        record = Record.parse(kv.value)
        own = record.since if kv.create_revision == kv.mod_revision else None  # a take-over keeps the time before it
        since = self._times.mark(own if own is not None else at)
        if place.kind == HOLD:
            wait = claimed.get(place.lock)
            began = None if wait is None else wait.since.moment.at
            waited = 0 if wait is None else None if began is None or own is None else max(0, own - began)
            self._start(kv.key, HoldTrack(place, kv, since, waited, kv.mod_revision))
        elif place.kind == TICKET:
            self._start(kv.key, WaitTrack(place, kv, since, kv.mod_revision))
        else:
            self._start(kv.key, FreezeTrack(place, kv, since, kv.mod_revision))

    def _start(self, key: bytes, track: Track) -> None:
        self._open[key] = track
        if self.live:
            self._tell_begun(track)

    def _tell_begun(self, track: Track) -> None:
        self._outbox.put(lambda: track.entry(is_open=True), *track.marks)

    def _amend(self, track: Track, kv: KeyValue, at: int | None, note: Record | None = None) -> None:
        """The record or the lease of a hold has changed."""
        track.kv, track.record = kv, Record.parse(kv.value)
        if not isinstance(track, HoldTrack):
            return
        state = track.record.state
        if state != track.state:
            own = track.record.number("state_since")
            track.enters(state, self._times.mark(own if own is not None else at))
            if state == COOLING:
                track.cooled_by = track.record.owner if note is None else note.owner
        if state in (HELD, COOLING):
            track.reason = track.record.text("reason")

    def _end(self, key: bytes, track: Track, ended: EndMark, *, froze: bool = False) -> None:
        del self._open[key]
        track.ended = ended
        if isinstance(track, HoldTrack):
            track.froze = froze
        self._outbox.put(track.entry, *track.marks)

    def _end_of(
        self, event: Event, at: int | None, notes: dict[str | None, Record], gone: Mapping[bytes, Event]
    ) -> EndMark:
        """How a hold, wait or freeze ended with this event."""
        track = self._open[event.kv.key]
        note = notes.get(track.lock) if isinstance(track, HoldTrack) else None
        if note is not None and isinstance(track, HoldTrack) and note.number("token") == track.token:
            return self._noted_end(note)
        mark = self._times.mark(at)
        if isinstance(track, WaitTrack):
            return EndMark(LEFT, mark, is_sure=False)
        if not event.deleted:
            how = TAKEN_OVER if isinstance(track, HoldTrack) else REPLACED
            return EndMark(how, mark, Record.parse(event.kv.value).owner)
        if isinstance(track, FreezeTrack):
            return EndMark(UNKNOWN, mark, is_sure=False)
        if track.state == COOLING:
            return EndMark(COOLED, mark, track.cooled_by)
        if not track.lease:
            return EndMark(DELETED, mark)
        on_lease = [key for key, one in self._open.items() if one.lease == track.lease]
        return EndMark(EXPIRED, mark, is_sure=len(on_lease) > 1 and all(key in gone for key in on_lease))

    def _noted_end(self, note: Record) -> EndMark:
        how = note.text("how")
        mark = self._times.mark() if note.since is None else Mark.exact(note.since)
        return EndMark(how if how in (RELEASED, BROKEN, COOLED) else UNKNOWN, mark, note.owner, note.text("why"))


def _is_new(event: Event) -> bool:
    return not event.deleted and event.kv.create_revision == event.kv.mod_revision


def _is_same(track: Track, kv: KeyValue) -> bool:
    if isinstance(track, HoldTrack):
        return track.is_same(kv)
    if isinstance(track, FreezeTrack):
        return kv.create_revision == track.kv.create_revision and Record.parse(kv.value).run == track.record.run
    return kv.create_revision == track.kv.create_revision


def _written(record: Record) -> int | None:
    """The time of a record that distlock wrote. The number in another program's may be anything."""
    return record.since if record.run or record.text("host") else None


def _ended_before(lock: str, kv: KeyValue) -> PastHold | None:
    """The hold that a note is about, None if it says nothing."""
    note = Record.parse(kv.value)
    if not note.text("how"):
        return None
    began, ended = note.number("since"), note.since
    end = End(note.text("how"), Moment(ended, ended), note.owner, note.text("why"))
    return PastHold(
        lock,
        None,
        note.text("owner") or None,
        "",
        note.number("token"),
        note.run,
        note.text("reason"),
        Moment(began, ended if began is None else began),
        None,
        (),
        end,
    )
