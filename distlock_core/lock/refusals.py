"""Errors for a lock that cannot be acquired, made from its state."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.errors import AcquireTimeout, Frozen, LimitConflict, LockBusy, OutcomeUnknown
from distlock_core.hints import SAME_OWNER, SAME_SLOTS, Hint, see, settle
from distlock_core.model.state import LockState
from distlock_core.model.wording import taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def busy(state: LockState, own: tuple[str, list[Hint]] = ("", [])) -> LockBusy | Frozen:
    """The error for a caller that does not wait: the lock is held, others are ahead, or the realm is frozen.

    `own`: why a hold of the caller's owner cannot be re-entered.
    """
    kind = LockBusy if state.frozen is None else Frozen
    return kind(f"{taken(state)}{_because(own)}", state=state, hints=[*own[1], see(state.name)])


def mutex_busy(state: LockState) -> LockBusy:
    return LockBusy(f"{taken(state)}: try again", state=state)


def timeout(state: LockState, seconds: float, away: str, own: tuple[str, list[Hint]] = ("", [])) -> AcquireTimeout:
    silent = f"; last error: {away}" if away else ""
    why = f"{taken(state)}{_because(own)}{silent}"
    return AcquireTimeout(f"gave up after {seconds:.1f}s: {why}", state=state, hints=[*own[1], see(state.name)])


def other_limit(state: LockState, slots: int) -> LimitConflict | None:
    """The error if a holder uses a different number of slots, which waiting cannot resolve."""
    for holder in state.holders:
        if holder.record.limit != slots:
            return LimitConflict(
                f"{taken(state)}; it is held with {holder.record.limit} slot(s), but {slots} were requested",
                state=state,
                hints=[Hint(SAME_SLOTS, lock=state.name, slots=holder.record.limit), see(state.name)],
            )
    return None


def waits_for_itself(state: LockState, inside: Mapping[bytes, int]) -> LockBusy | None:
    """The error if the lock is held by a command around this one, so that waiting would never end."""
    from distlock_core.lock.reentry import is_inside

    for holder in state.holders:
        if inside.get(holder.key) == holder.token or is_inside(holder):
            return LockBusy(
                f"{printable(state.name)} is held by the command around this one, so waiting would never end",
                state=state,
                hints=[Hint(SAME_OWNER, lock=state.name)],
            )
    return None


def _because(own: tuple[str, list[Hint]]) -> str:
    return f"; {own[0]}" if own[0] else ""


def unknown(name: str, owner: str, run: str, why: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"unknown whether {printable(name)} was locked: {why}. etcd may still apply the claim of run {run}",
        run=run,
        hints=[settle(name, owner, run)],
    )
