"""Why a lock is not to be had: from what was seen to the error that says so."""

from __future__ import annotations

from collections.abc import Mapping

from distlock_core.base.text import printable
from distlock_core.errors import AcquireTimeout, Frozen, LimitConflict, LockBusy, OutcomeUnknown
from distlock_core.model.state import LockState
from distlock_core.model.wording import look_at, named, taken


def busy(state: LockState, own: str = "") -> LockBusy | Frozen:
    """Held, or somebody is ahead, or the realm is frozen: and the caller does not wait.

    `own`: why the hold of the caller's own owner is not entered again.
    """
    kind = LockBusy if state.frozen is None else Frozen
    return kind(f"{taken(state)}{_because(own)}. {look_at(state.name)}", state=state)


def mutex_busy(state: LockState) -> LockBusy:
    return LockBusy(f"{taken(state)}: try again", state=state)


def timeout(state: LockState, seconds: float, away: str, own: str = "") -> AcquireTimeout:
    silent = f"; at last {away}" if away else ""
    why = f"{taken(state)}{_because(own)}{silent}"
    return AcquireTimeout(f"gave up after {seconds:.1f}s: {why}. {look_at(state.name)}", state=state)


def other_limit(state: LockState, slots: int) -> LimitConflict | None:
    """Somebody holds it who counts its slots differently: waiting would not mend that."""
    for holder in state.holders:
        if holder.record.limit != slots:
            return LimitConflict(
                f"{taken(state)}; it is held with {holder.record.limit} slot(s), and I was told {slots}: "
                f"use the same number everywhere. {look_at(state.name)}",
                state=state,
            )
    return None


def waits_for_itself(state: LockState, inside: Mapping[bytes, int]) -> LockBusy | None:
    """It is held by the very command that runs me: it would never end to wait for it."""
    from distlock_core.lock.reentry import is_inside

    for holder in state.holders:
        if inside.get(holder.key) == holder.token or is_inside(holder):
            return LockBusy(
                f"{printable(state.name)} is held by the command that this one runs inside of, so waiting for it "
                "would never end; give both the same --id to enter it again",
                state=state,
            )
    return None


def _because(own: str) -> str:
    return f"; {own}" if own else ""


def unknown(name: str, run: str, why: str) -> OutcomeUnknown:
    name, option = printable(name), named(name)
    return OutcomeUnknown(
        f"nobody can tell whether {name} was locked: {why}. etcd may still lock it for run {run}; look with "
        f"distlock --show {option}, and if that run holds it: distlock --unlock {option}",
        run=run,
    )
