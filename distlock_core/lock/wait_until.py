"""Waiting until a lock is free, idle or thawed, without taking anything: reads and a watch, and no place in the queue.

Nothing is written, so nothing can be left behind. A watch says that something has changed, and a read, what.
"""

from __future__ import annotations

from distlock_core.base.deadline import RETRY_PAUSE, Patience, jittered, now
from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.errors import AnotherCluster, ConfigError, EtcdUnavailable, LockBusy
from distlock_core.etcd.values import REREAD, Compacted, WatchEnded
from distlock_core.lock import refusals
from distlock_core.lock.snapshot import Snapshots, gets_of_all
from distlock_core.lock.spec import Rules
from distlock_core.model.keys import ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from distlock_core.base.deadline import Cancel, Wait
    from distlock_core.etcd.client import Etcd, Watch
    from distlock_core.lock.refusals import Blocked
    from distlock_core.lock.ruling import Closed
    from distlock_core.lock.snapshot import Snapshot
    from distlock_core.lock.spec import LockSpec
    from distlock_core.model.keys import Keys
    from distlock_core.model.state import LockState

FREE, IDLE, THAWED = "free", "idle", "thawed"
UNTIL = (FREE, IDLE, THAWED)
SETTLE = 0.05  # seconds in which further changes are collected before the next read


class Reached(Value):
    """The result of a wait: the locks as they were at that `revision` of etcd. It may be over by now.

    `waited` is in seconds, `waited_for` the obstacle at the beginning, "" if there was none.
    """

    states: tuple[LockState, ...]
    revision: int
    waited: float
    waited_for: str

    @property
    def state(self) -> LockState:
        """The state of one lock, of several the first."""
        return self.states[0]


class Obstacle(Value):
    """The obstacle of a wait: `why` in words.

    `away` says why etcd does not answer, `opens_at` (Unix time) when a closed window opens.
    """

    states: tuple[LockState, ...]
    why: str
    away: str = ""
    opens_at: float | None = None


class WaitUntil:
    """One wait until all locks are in the wanted condition at the same moment.

    free: a newcomer with this spec would acquire them at once. idle: nobody holds them, and nobody waits. thawed: they
    are not frozen, nor is their realm.
    """

    def __init__(
        self,
        etcd: Etcd,
        spec: LockSpec,
        until: str,
        wait: Wait,
        connect_timeout: float,
        cancel: Cancel | None = None,
        progress: Callable[[Obstacle], None] | None = None,
    ) -> None:
        if until not in UNTIL:
            raise ConfigError(f"until: expected one of {', '.join(UNTIL)}, found {until!a}")
        self._etcd = etcd
        self._spec = spec
        self._locks = spec.locks
        self._until = until
        self._nowait = wait.is_none
        self._contact = connect_timeout
        self._patience = Patience(now() + (connect_timeout if wait.is_none else wait.seconds), cancel)
        self._progress = progress
        self._started = now()
        self._watch: Watch | None = None
        self._closed: Closed | None = None  # the windows that open last
        self._rules = Rules.of(spec)

    def run(self) -> Reached:
        """Wait, and return what was seen. An outage is waited out, except at the first contact.

        Raises `LockBusy`, `Frozen` (without waiting), `AcquireTimeout`, `LimitConflict`, `EtcdUnavailable`,
        `AccessDenied`, `Cancelled`.
        """
        try:
            return self._run()
        finally:
            self._stop_watching()

    def _run(self) -> Reached:
        snapshots, first, away = self._read(), "", ""
        while True:
            blocked = self._blocked(snapshots)
            states = snapshots.states(self._locks)
            if not blocked:
                return Reached(states, snapshots.revision, now() - self._started, first)
            if self._nowait:
                raise refusals.busy(blocked, states, self._closed)
            why = refusals.why_blocked(blocked)
            first = first or why
            if self._patience.over():
                raise refusals.timeout(blocked, states, now() - self._started, away)
            if self._progress is not None:
                self._progress(Obstacle(states, why, away, None if self._closed is None else self._closed.opens_at))
            try:
                self._wait(snapshots)
                if not self._patience.over():
                    snapshots, away = self._read(), ""
            except AnotherCluster:
                raise  # waiting cannot help
            except EtcdUnavailable as trouble:
                away = str(trouble)
                self._stop_watching()
                self._patience.pause(jittered(RETRY_PAUSE * 4))

    def _read(self) -> Snapshots:
        outcome = self._etcd.read(gets_of_all(self._locks, self._spec.place, ()), self._call())
        return Snapshots.parse(self._locks, self._spec.place, outcome, ())

    def _call(self) -> Patience:
        return self._patience.within(self._contact)

    # The condition.

    def _blocked(self, snapshots: Snapshots) -> list[Blocked]:
        """The locks that are not in the condition, with the state that shows why."""
        self._closed = None
        found: list[Blocked] = []
        for keys, snapshot in zip(self._locks, snapshots.each):
            state = snapshot.state(keys.name)
            if self._until == THAWED:
                if snapshot.freezes:
                    found.append((state, ("", [])))
            elif self._until == IDLE:
                if snapshot.holders or snapshot.waiting:
                    self._refuse_a_circle(state, slots=1)
                    found.append((state._replace(freezes=()), ("", [])))
            else:
                closed = self._in_the_way(keys, snapshot, state)
                if closed is not None:
                    found.append((state, (closed, [])))
        return found

    def _in_the_way(self, keys: Keys, snapshot: Snapshot, state: LockState) -> str | None:
        """None if a newcomer would acquire the lock at once, else "" or which window is closed."""
        rules = self._rules
        if snapshot.policy is not None:
            from distlock_core.lock.ruling import rules_under

            rules = rules_under(self._spec, keys, snapshot.policy)
        if not rules.shared and not rules.sets_slots:
            if (self._spec.given or {}).get("slots") is None:
                rules = rules._replace(slots=state.slots)  # as its holders have it
            conflict = refusals.other_limit(state, rules.slots)
            if conflict is not None:
                raise conflict
        shut = None
        if rules.windows is not None:
            from distlock_core.lock.ruling import closed

            shut = closed(rules)
            if shut is not None and (self._closed is None or shut.seconds_left > self._closed.seconds_left):
                self._closed = shut
        if snapshot.could_be_claimed(rules) and not snapshot.mutex_busy and shut is None:
            return None
        self._refuse_a_circle(state, rules.slots)
        return "" if shut is None else str(shut)

    def _refuse_a_circle(self, state: LockState, slots: int) -> None:
        """Refuse to wait for a hold that lasts as long as this process: that of a command around it."""
        from distlock_core.lock.reentry import is_inside

        for holder in state.holders:
            if self._until == FREE and (
                (holder.is_shared and self._spec.shared) or not (slots == 1 or holder.is_shared or self._spec.shared)
            ):
                continue  # it leaves room for another
            if self._spec.inside.get(holder.key) == holder.token or is_inside(holder):
                raise LockBusy(
                    f"{printable(state.name)} is held by the command around this one, so waiting would never end",
                    state=state,
                )

    # The watch.

    def _wait(self, snapshots: Snapshots) -> None:
        """Return after a change, or when it is time to read again."""
        patience = self._patience.until(now() + jittered(REREAD, 0.75, 1.0))
        if self._closed is not None:
            patience = patience.within(self._closed.seconds_left)
        if self._watch is not None and self._watch.endpoint != self._etcd.endpoint:
            self._stop_watching()  # the read has failed over from the member that serves it
        try:
            if self._watch is None:
                self._watch = self._etcd.watch(self._ranges(), snapshots.revision + 1, self._call())
            while not patience.over():
                events = self._watch.wait(patience)
                if any(event.kv.mod_revision > snapshots.revision for event in events):
                    self._patience.pause(SETTLE)
                    return
        except WatchEnded as ended:
            self._stop_watching()
            if not isinstance(ended, Compacted):  # a polled watch ends with `Compacted` at the first change
                self._patience.pause(RETRY_PAUSE)

    def _ranges(self) -> list[tuple[bytes, bytes | None]]:
        found: list[tuple[bytes, bytes | None]] = []
        for keys in self._locks:
            alone = (keys.freeze, keys.lock_freeze)
            found += [(key, None) for key in alone]
            if self._until != THAWED:
                found += [(keys.lock, None), keys.beside, ends(keys.queue)]
            if self._until == FREE:
                found += [(keys.policy, None), ends(keys.mutex)]
        return list(dict.fromkeys(found))

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None
