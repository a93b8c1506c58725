"""Why a lock is not to be had: from what was seen to the error that says so. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from distlock_core.errors import AcquireTimeout, Frozen, LimitConflict, LockBusy, OutcomeUnknown
from distlock_core.model import LockState
from distlock_core.wording import look_at, printable, taken


def busy(state: LockState) -> LockBusy | Frozen:
    """Held, or somebody is ahead, or the realm is frozen: and the caller does not wait."""
    kind = LockBusy if state.frozen is None else Frozen
    return kind(f"{taken(state)}. {look_at(state.name)}", state=state)


def mutex_busy(state: LockState) -> LockBusy:
    return LockBusy(f"{taken(state)}: try again", state=state)


def timeout(state: LockState, seconds: float, away: str) -> AcquireTimeout:
    silent = f"; at last {away}" if away else ""
    return AcquireTimeout(f"gave up after {seconds:.1f}s: {taken(state)}{silent}. {look_at(state.name)}", state=state)


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
    for holder in state.holders:
        if inside.get(holder.key) == holder.token:
            return LockBusy(
                f"{printable(state.name)} is held by the command that this one runs inside of, so waiting for it "
                "would never end; give both the same --id to enter it again",
                state=state,
            )
    return None


def unknown(name: str, run: str, why: str) -> OutcomeUnknown:
    name = printable(name)
    return OutcomeUnknown(
        f"nobody can tell whether {name} was locked: {why}. etcd may still lock it for run {run}; look with "
        f"distlock --show --lock-name={name}, and if that run holds it: distlock --unlock --lock-name={name}",
        run=run,
    )
