"""Tracks: what is known so far of a hold, a wait or a freeze, while its events are read."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.etcd.values import KeyValue
from distlock_core.history.entries import (
    COOLED,
    EXPIRED,
    THAWED,
    UNKNOWN,
    End,
    Moment,
    PastFreeze,
    PastHold,
    PastWait,
    Phase,
)
from distlock_core.history.times import Mark
from distlock_core.model.record import HELD, KEPT, Record, token_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.history.entries import Entry


class Place(Value):
    """The meaning of a key: hold, ticket, note or freeze; of this lock, or of the realm if `lock` is None."""

    kind: str
    lock: str | None
    slot: int | None = None
    is_shared: bool = False


HOLD, TICKET, NOTE, FREEZE = "hold", "ticket", "note", "freeze"


class EndMark(Value):
    """The end of a track, whose moment may still be unbounded."""

    how: str
    mark: Mark
    by: str | None = None
    why: str = ""
    is_sure: bool = True

    def end(self, planned: int | None = None) -> End:
        """The same as a value. `planned`: the time at which it was to end by itself."""
        at = self.mark.moment
        if planned is not None and at.at is None and _fits(planned, at):
            at = Moment(planned, planned)
        return End(self.how, at, self.by, self.why, self.is_sure)


def _fits(at: int, moment: Moment) -> bool:
    return not (
        (moment.earliest is not None and at < moment.earliest) or (moment.latest is not None and at > moment.latest)
    )


class HoldTrack:
    """One hold. It keeps its key, its token and its lock; record and lease may change."""

    def __init__(self, place: Place, kv: KeyValue, since: Mark, waited: int | None, revision: int) -> None:
        self.lock = place.lock or ""
        self.slot = place.slot
        self.is_shared = place.is_shared
        self.kv = kv
        self.token = token_of(kv)
        self.record = Record.parse(kv.value)
        self.reason = self.record.text("reason")
        self.since = since
        self.waited = waited
        self.revision = revision
        self.phases: list[tuple[str, Mark, str]] = [(HELD, since, "")]
        self.cooled_by: str | None = None
        self.ended: EndMark | None = None
        self.froze = False

    def is_same(self, kv: KeyValue) -> bool:
        """True if the key in this state is still this hold."""
        return (kv.create_revision, token_of(kv)) == (self.kv.create_revision, self.token)

    def enters(self, state: str, mark: Mark) -> None:
        """It is in another state from this moment on."""
        reason = self.record.text("reason")
        self.phases.append((state, mark, reason if state == KEPT and reason != self.reason else ""))

    @property
    def state(self) -> str:
        return self.phases[-1][0]

    @property
    def lease(self) -> int:
        return self.kv.lease

    @property
    def marks(self) -> tuple[Mark, ...]:
        ended = () if self.ended is None else (self.ended.mark,)
        return (self.since, *(mark for _, mark, _ in self.phases), *ended)

    def entry(self, *, is_open: bool = False) -> Entry:
        """The entry as far as it is known. `is_open`: as it was before its end."""
        ended = None if is_open else self.ended
        planned = self.record.number("until") if ended is not None and ended.how == COOLED else None
        return PastHold(
            self.lock,
            self.slot,
            self.record.owner,
            self.record.text("host"),
            self.token,
            self.record.run,
            self.reason,
            self.since.moment,
            self.waited,
            tuple(Phase(state, mark.moment, reason) for state, mark, reason in self.phases),
            None if ended is None else ended.end(planned),
            self.froze and ended is not None,
            self.revision,
            self.is_shared,
        )


class WaitTrack:
    """One ticket in the queue of a lock."""

    def __init__(self, place: Place, kv: KeyValue, since: Mark, revision: int) -> None:
        self.lock = place.lock or ""
        self.kv = kv
        self.record = Record.parse(kv.value)
        self.since = since
        self.revision = revision
        self.ended: EndMark | None = None

    @property
    def lease(self) -> int:
        return self.kv.lease

    @property
    def marks(self) -> tuple[Mark, ...]:
        return (self.since, *(() if self.ended is None else (self.ended.mark,)))

    def entry(self, *, is_open: bool = False) -> Entry:
        record, ended = self.record, None if is_open or self.ended is None else self.ended.end()
        host, reason = record.text("host"), record.text("reason")
        return PastWait(self.lock, record.owner, host, reason, self.since.moment, ended, self.revision)


class FreezeTrack:
    """One freeze of a lock, or of the realm."""

    def __init__(self, place: Place, kv: KeyValue, since: Mark, revision: int) -> None:
        self.lock = place.lock
        self.kv = kv
        self.record = Record.parse(kv.value)
        self.since = since
        self.revision = revision
        self.ended: EndMark | None = None

    @property
    def lease(self) -> int:
        return self.kv.lease

    @property
    def limit(self) -> int | None:
        return self.record.number("until")

    @property
    def marks(self) -> tuple[Mark, ...]:
        return (self.since, *(() if self.ended is None else (self.ended.mark,)))

    def entry(self, *, is_open: bool = False) -> Entry:
        record, ended = self.record, None if is_open or self.ended is None else self._end(self.ended)
        reason = record.text("reason")
        return PastFreeze(self.lock, record.owner, reason, self.since.moment, self.limit, ended, self.revision)

    def _end(self, ended: EndMark) -> End:
        if ended.how != UNKNOWN:
            return ended.end()
        at, limit = ended.mark.moment, self.limit
        if not self.lease or limit is None or (at.latest is not None and at.latest < limit):
            return ended._replace(how=THAWED, is_sure=True).end()
        if at.earliest is not None and at.earliest >= limit:
            return ended._replace(how=EXPIRED, is_sure=True).end()
        return ended._replace(how=EXPIRED, is_sure=False).end(limit)
