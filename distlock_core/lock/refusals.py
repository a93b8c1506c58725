"""Errors for a lock that cannot be acquired, made from its state."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.errors import (
    AcquireTimeout,
    Frozen,
    GateClosed,
    LimitConflict,
    LockBusy,
    OutcomeUnknown,
    OutsideWindow,
)
from distlock_core.hints import SAME_OWNER, SAME_SLOTS, THAW, THAW_REALM, Hint, resolve, see
from distlock_core.lock.spec import NESTED
from distlock_core.model.state import LockState
from distlock_core.model.wording import listed, taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.lock.reentry import Reentry
    from distlock_core.lock.ruling import Closed
    from distlock_core.lock.spec import LockSpec

    # A lock that cannot be taken now, and why a hold of the caller's owner there cannot be re-entered, with hints.
    Blocked = tuple[LockState, tuple[str, list[Hint]]]


def busy(
    blocked: Sequence[Blocked], states: Sequence[LockState], closed: Closed | None = None
) -> LockBusy | OutsideWindow | Frozen:
    """The error for a caller that does not wait: a lock is held, others are ahead, or a lock is frozen.

    `closed`: the windows outside of which it is. What a message says about them is in `blocked`.
    """
    frozen = [state for state, _ in blocked if state.frozen is not None]
    if closed is not None and not frozen:
        opens, hints = closed.opens_at, _hints(blocked)
        return OutsideWindow(why_blocked(blocked), state=blocked[0][0], states=states, opens_at=opens, hints=hints)
    kind = Frozen if frozen else LockBusy
    return kind(why_blocked(blocked), state=(*frozen, blocked[0][0])[0], states=states, hints=_hints(blocked))


def mutex_busy(states: Sequence[LockState]) -> LockBusy:
    return LockBusy(f"{taken(states[0])}: try again", state=states[0], states=states)


def gate_closed(states: Sequence[LockState], story: str) -> GateClosed:
    """The error for a caller that does not wait for its gate."""
    return GateClosed(f"{taken(states[0])}; {story}", state=states[0], states=states, hints=[see(states[0].name)])


def timeout(
    blocked: Sequence[Blocked], states: Sequence[LockState], seconds: float, away: str, gate: str = ""
) -> AcquireTimeout:
    silent = f"; {gate}" if gate else f"; last error: {away}" if away else ""
    message = f"gave up after {seconds:.1f}s: {why_blocked(blocked)}{silent}"
    return AcquireTimeout(message, state=blocked[0][0], states=states, hints=_hints(blocked))


def holds_some(entered: Sequence[Reentry], blocked: Sequence[Blocked], number: int) -> LockBusy | None:
    """The error for several locks of which the owner holds some: around this process, or while others are not free."""
    around = [entry.holder for entry in entered if entry.how == NESTED]
    if around and len(around) < number:
        return LockBusy(
            f"{printable(around[0].lock)} is held by the command around this one, which does not hold all of these "
            "locks: name all of them in the outer command",
            state=blocked[0][0] if blocked else None,
        )
    if not blocked:
        return None
    held = " and ".join(printable(entry.holder.lock) for entry in entered)
    return LockBusy(
        f"{why_blocked(blocked)}; this owner holds {held}, and waiting while holding could block others for ever: "
        f"release {held}, or try again once {printable(blocked[0][0].name)} is free",
        state=blocked[0][0],
        hints=[see(blocked[0][0].name)],
    )


def why_blocked(blocked: Sequence[Blocked]) -> str:
    """Why these locks cannot be taken now, in one line."""
    whole = [one for one in blocked if one[0].frozen is not None and one[0].frozen.lock is None]
    blocked = whole[:1] or blocked  # a freeze of the realm is the same for all of them
    return "; ".join(f"{taken(state)}{_because(own)}" for state, own in blocked)


def _hints(blocked: Sequence[Blocked]) -> list[Hint]:
    hints = [hint for _, (_, own) in blocked for hint in own]
    return [*hints, *(see(state.name) for state, _ in blocked), *_thaws(blocked)]


def other_limit(state: LockState, slots: int) -> LimitConflict | None:
    """The error if a holder uses a different number of slots, which waiting cannot resolve."""
    for holder in state.holders:
        if holder.record.limit != slots and not holder.is_shared:
            return LimitConflict(
                f"{taken(state)}; it is held with {holder.record.limit} slot(s), but {slots} were requested",
                state=state,
                hints=[Hint(SAME_SLOTS, lock=state.name, slots=holder.record.limit), see(state.name)],
            )
    return None


def waits_for_itself(state: LockState, spec: LockSpec) -> LockBusy | None:
    """The error if the lock is held by a command around this one, so that waiting would never end."""
    from distlock_core.lock.reentry import is_inside, is_own_step

    name = printable(state.name)
    for holder in state.holders:
        is_around = spec.inside.get(holder.key) == holder.token or is_inside(holder)
        if holder.is_shared and not spec.shared and (is_around or is_own_step(holder, spec)):
            who = "the command around this one" if is_around else "an earlier step of the same run"
            return LockBusy(
                f"{name} is held shared by {who}, and a shared hold cannot become exclusive, so waiting would never "
                "end: acquire it exclusively there, or shared here too",
                state=state,
            )
        if is_around:
            return LockBusy(
                f"{name} is held by the command around this one, so waiting would never end",
                state=state,
                hints=[Hint(SAME_OWNER, lock=state.name)],
            )
    return None


def _thaws(blocked: Sequence[Blocked]) -> list[Hint]:
    frozen = [state.frozen for state, _ in blocked if state.frozen is not None and "/" not in state.name]
    return list(dict.fromkeys(Hint(THAW_REALM) if one.lock is None else Hint(THAW, lock=one.lock) for one in frozen))


def _because(own: tuple[str, list[Hint]]) -> str:
    return f"; {own[0]}" if own[0] else ""


def unknown(names: Sequence[str], owner: str, run: str, why: str) -> OutcomeUnknown:
    locked = "was locked" if len(names) == 1 else "were locked"
    return OutcomeUnknown(
        f"unknown whether {listed(names)} {locked}: {why}. etcd may still apply the claim of run {run}",
        run=run,
        hints=[resolve(name, owner, run) for name in names],
    )
