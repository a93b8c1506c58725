"""The holds that belong to the run which this process is part of."""

from __future__ import annotations

import os

from distlock_core.base.text import printable
from distlock_core.errors import LockBusy, NotHolder
from distlock_core.hints import SAME_OWNER, Hint, see
from distlock_core.lock.reentry import is_inside
from distlock_core.model.record import HELD
from distlock_core.model.wording import are_held_by, listed, taken
from distlock_core.process.fate import ALIVE, fate
from distlock_core.process.identity import is_same, trace_of
from distlock_core.process.nesting import held_around

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any

    from distlock_core.lock.acquire import Waiting
    from distlock_core.lock.realm import Realm
    from distlock_core.model.record import Record
    from distlock_core.model.state import Holder, LockState


class RunHolds:
    """Selects this run's holds among those of a lock.

    An owner's name proves nothing, since two runs in two containers can have the same one. So processes are compared,
    by their traces.
    """

    def __init__(
        self,
        owner: str | None,
        run: int | None,
        run_owners: Collection[str] = (),
        taker: Mapping[str, Any] | None = None,
        *,
        exclusive: bool = False,
    ) -> None:
        """`run` is the process that represents this run, None if there is none; `run_owners` are further owners of it.

        `taker` is the trace of the process for which this run takes locks. If `exclusive`, its shared holds do not
        count: they are not what the run asks for.
        """
        self._owner = owner
        self._run_owners = run_owners
        self._run = None if run is None else trace_of(run)
        self._taker = taker
        self._exclusive = exclusive

    def among(self, state: LockState | None) -> Holder | None:
        """The first hold of this run among the holders of a lock, None if there is none."""
        for holder in () if state is None else state.holders:
            record = holder.record
            counts = not (holder.is_shared and self._exclusive)
            if counts and record.explicit and record.state == HELD:
                bound_as_me = self._owner in (None, holder.owner) and self._is_bound(record)
                if bound_as_me or (holder.owner in self._run_owners and self._is_for_me(record)):
                    return holder
        return None

    def among_all(self, states: Sequence[LockState]) -> tuple[Holder, ...]:
        """This run's hold of each lock, none if it holds none of them.

        Raises `LockBusy` if it holds only some: it would wait for the others while holding.
        """
        found = [self.among(state) for state in states]
        held = tuple(holder for holder in found if holder is not None)
        if held and len(held) < len(states):
            others = listed([state.name for state, holder in zip(states, found) if holder is None])
            raise LockBusy(
                f"{are_held_by(held)}: that is this run, which does not hold {others}: "
                "locks are acquired together or not at all, so name all of them the first time",
                state=next(state for state, holder in zip(states, found) if holder is None),
                hints=[see(holder.lock) for holder in held],
            )
        return held

    def stop_needless_wait(self, progress: Callable[[Waiting], None] | None) -> Callable[[Waiting], None]:
        """Return a progress callback that stops the wait for a lock if it could only end with this run itself.

        That is so if this run already holds the lock, or if the lock is bound to this run under another owner. The
        callback raises `LockBusy`, and otherwise calls `progress`.
        """

        def look(waiting: Waiting) -> None:
            states = [state for state, _ in waiting.places] or [waiting.state]
            if self.among_all(states):
                raise LockBusy(f"{'; '.join(map(taken, states))}: that is this run", state=states[0], states=states)
            for state in states:
                self._refuse_to_become_exclusive(state)
                if state.holders and all(self._is_bound(holder.record) for holder in state.holders):
                    raise LockBusy(
                        f"{taken(state)}, until this run ends, so waiting for it in this run would never end",
                        state=state,
                        states=states,
                        hints=[Hint(SAME_OWNER, lock=state.name)],
                    )
            if progress is not None:
                progress(waiting)

        return look

    def _refuse_to_become_exclusive(self, state: LockState) -> None:
        if self._exclusive and any(holder.is_shared and self._is_bound(holder.record) for holder in state.holders):
            raise LockBusy(
                f"{printable(state.name)} is held shared by this run until its end, and a shared hold cannot become "
                "exclusive, so waiting would never end: acquire it exclusively in the first place, or shared here too",
                state=state,
            )

    def _is_bound(self, record: Record) -> bool:
        """True for a hold bound to this run's process, which is alive."""
        return self._run is not None and is_same(record.details, self._run) and fate(self._run)[0] == ALIVE

    def _is_for_me(self, record: Record) -> bool:
        """True for a hold taken for the same process as this run's, or bound to this run."""
        theirs = record.details.get("taker")
        for_me = self._taker is not None and isinstance(theirs, dict) and is_same(theirs, self._taker)
        return for_me or self._is_bound(record)


def holds_around(names: Sequence[str], realm: Realm) -> tuple[Holder, ...]:
    """Return the holds of the command around this process (`distlock -- COMMAND`), none if it holds none of the locks.

    They end with that command: a step inside the command leaves them alone. Raises `NotHolder` if the command holds
    only some of the locks.
    """
    inside = held_around(os.environ)
    states = realm.show_all(names)
    around = tuple(holder for state in states for holder in state.holders if _is_around(holder, inside))
    if around and len({holder.lock for holder in around}) < len(names):
        held = listed([holder.lock for holder in around])
        raise NotHolder(
            f"{are_held_by(around)}: by the command around this run, which releases it: name the others without {held}",
            hints=[see(holder.lock) for holder in around],
        )
    return around


def _is_around(holder: Holder, inside: Mapping[bytes, int]) -> bool:
    is_command = holder.record.text("kind") == "run" and holder.keeper is None
    return is_command and (inside.get(holder.key) == holder.token or is_inside(holder))


def bound_to(run: int | None, state: LockState | None, owner: str | None = None) -> Holder | None:
    """The hold that this run has already bound to itself (with an `owner`: under that one), None if there is none."""
    return RunHolds(owner, run).among(state)


def ends_with(holder: Holder, taker: Mapping[str, Any]) -> bool:
    """False for a lock that a keeper holds for another run than that of `taker`."""
    details = holder.record.details
    theirs = details.get("taker")
    bound = holder.record.text("kind") == "run" and holder.keeper is not None
    return not bound or is_same(details, taker) or (isinstance(theirs, dict) and is_same(theirs, taker))


def taker_of(taker: Mapping[str, Any] | None, run: int | None) -> Mapping[str, Any]:
    """The trace of the process for which a step is taken: `taker`, else `run`, else the parent of this process."""
    return trace_of(os.getppid() if run is None else run) if taker is None else taker
