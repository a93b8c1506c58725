"""Entries of a history: past and present holds, waits and freezes, and how far back the history reaches. Pure values.

etcd's revisions carry no time. Times are those that distlock has written into records and notes, by the clocks of the
machines that wrote them. Where a change has no such time, its `Moment` is between those of the changes around it.
"""

from __future__ import annotations

from distlock_core.base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Union

# How a hold, a wait or a freeze ended.
RELEASED, BROKEN, COOLED = "released", "broken", "cooled"  # as in the note about the last hold
EXPIRED, DELETED, TAKEN_OVER, UNKNOWN = "expired", "deleted", "taken_over", "unknown"
LEFT = "left"  # of a wait: without the lock
THAWED, REPLACED = "thawed", "replaced"  # of a freeze


class Moment(Value):
    """A Unix time in seconds, exact if `earliest` and `latest` are equal; None where nothing is known."""

    earliest: int | None = None
    latest: int | None = None

    @property
    def at(self) -> int | None:
        """The time if it is exactly known, else None."""
        return self.earliest if self.earliest == self.latest else None

    @property
    def between(self) -> tuple[int | None, int | None] | None:
        """The earliest and the latest possible time, None if the time is exactly known."""
        return None if self.at is not None else (self.earliest, self.latest)


class Phase(Value):
    """A state that a hold entered: held, settling, kept or cooling. `reason`: why, if it is not the hold's own."""

    state: str
    since: Moment
    reason: str = ""


class End(Value):
    """The end of an entry. `by` is the owner that ended it, `why` that owner's reason.

    `is_sure` is False if etcd's revisions cannot tell it from another way: a lease that expired, and a key with a lease
    that was deleted without distlock, look the same.
    """

    how: str
    at: Moment
    by: str | None = None
    why: str = ""
    is_sure: bool = True


class PastHold(Value):
    """A hold of a lock. `ended` is None while it lasts.

    `waited` is the number of seconds that its owner stood in the queue, None if that is not known. `froze` is True if
    its release froze the lock. `revision` is that of its beginning, 0 if it began before the history.
    """

    lock: str
    slot: int | None
    owner: str | None
    host: str
    token: int | None
    run: str
    reason: str
    since: Moment
    waited: int | None
    phases: tuple[Phase, ...] = ()
    ended: End | None = None
    froze: bool = False
    revision: int = 0
    is_shared: bool = False  # then it has no slot

    @property
    def kind(self) -> str:
        return "hold"

    @property
    def state(self) -> str:
        """Its last state."""
        return self.phases[-1].state if self.phases else "held"

    @property
    def moments(self) -> tuple[Moment, ...]:
        return _moments(self.since, self.ended, *(phase.since for phase in self.phases))

    def fields(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "lock": self.lock,
            "slot": self.slot,
            "shared": self.is_shared,
            "owner": self.owner,
            "host": self.host or None,
            "token": self.token,
            "run": self.run or None,
            "reason": self.reason,
            **_times("since", self.since),
            "waited": self.waited,
            "state": self.state,
            "phases": [
                {"state": one.state, **_times("since", one.since), "reason": one.reason or None} for one in self.phases
            ],
            **_end(self.ended),
            "froze": self.froze,
            "revision": self.revision or None,
        }


class PastWait(Value):
    """A wait that was not followed by a hold, or not yet. `ended` is None while it lasts."""

    lock: str
    owner: str | None
    host: str
    reason: str
    since: Moment
    ended: End | None = None
    revision: int = 0

    @property
    def kind(self) -> str:
        return "wait"

    @property
    def moments(self) -> tuple[Moment, ...]:
        return _moments(self.since, self.ended)

    def fields(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "lock": self.lock,
            "owner": self.owner,
            "host": self.host or None,
            "reason": self.reason,
            **_times("since", self.since),
            **_end(self.ended),
            "revision": self.revision or None,
        }


class PastFreeze(Value):
    """A freeze of a lock, or of the whole realm if `lock` is None. `ended` is None while it lasts.

    `owner` has put it; `limit` is the Unix time at which it was to end by itself.
    """

    lock: str | None
    owner: str | None
    reason: str
    since: Moment
    limit: int | None = None
    ended: End | None = None
    revision: int = 0

    @property
    def kind(self) -> str:
        return "freeze"

    @property
    def moments(self) -> tuple[Moment, ...]:
        return _moments(self.since, self.ended)

    def fields(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "lock": self.lock,
            "owner": self.owner,
            "reason": self.reason,
            **_times("since", self.since),
            "limit": self.limit,
            **_end(self.ended),
            "revision": self.revision or None,
        }


class Reach(Value):
    """How far back the history reaches: to `revision`, at a time known from the changes around it.

    `because` is first (that is etcd's first revision), asked (nothing older was asked for) or compacted: etcd no longer
    has what was before. Of the holds that ended before, only the last of each lock is then known, from its note.
    """

    revision: int
    at: Moment
    because: str

    @property
    def kind(self) -> str:
        return "reach"

    @property
    def lock(self) -> None:
        return None

    @property
    def ended(self) -> None:
        return None

    @property
    def moments(self) -> tuple[Moment, ...]:
        return (self.at,)

    def fields(self) -> dict[str, Any]:
        return {"kind": self.kind, "revision": self.revision, "because": self.because, **_times("at", self.at)}


class Gap(Value):
    """A part of the history that is missing: what happened between two revisions was compacted before it was read."""

    after: int
    before: int
    since: Moment
    until: Moment

    @property
    def kind(self) -> str:
        return "gap"

    @property
    def lock(self) -> None:
        return None

    @property
    def ended(self) -> None:
        return None

    @property
    def moments(self) -> tuple[Moment, ...]:
        return self.since, self.until

    def fields(self) -> dict[str, Any]:
        revisions = {"after_revision": self.after, "before_revision": self.before}
        return {"kind": self.kind, **revisions, **_times("since", self.since), **_times("until", self.until)}


def _moments(since: Moment, ended: End | None, *between: Moment) -> tuple[Moment, ...]:
    return (since, *between, *(() if ended is None else (ended.at,)))


def _times(name: str, moment: Moment) -> dict[str, Any]:
    between = moment.between
    return {name: moment.at, f"{name}_between": None if between is None else list(between)}


def _end(ended: End | None) -> dict[str, Any]:
    if ended is None:
        return {"until": None, "until_between": None, "ended": None}
    how = {"how": ended.how, "by": ended.by, "why": ended.why or None, "sure": ended.is_sure}
    return {**_times("until", ended.at), "ended": how}


if TYPE_CHECKING:
    Entry = Union[PastHold, PastWait, PastFreeze, Reach, Gap]
