"""Refusals of a re-entry: why a hold of the same owner cannot be re-entered, and hints how it can."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.errors import LockBusy, LockNotFound, NotHolder
from distlock_core.hints import ENTER, UNLOCK_DEAD_RUN, UNLOCK_STEP, Hint, see
from distlock_core.lock.reentry import is_of, is_own, taker_of, takers_of, what_of_run, what_of_step
from distlock_core.model.record import HELD, Record
from distlock_core.model.wording import held_by, taken
from distlock_core.process.fate import ALIVE, GONE
from distlock_core.process.identity import is_identified

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.lock.spec import LockSpec
    from distlock_core.model.state import Holder, LockState


def why_not(state: LockState, spec: LockSpec) -> tuple[str, list[Hint]]:
    """Why a hold of the same owner cannot be re-entered, with hints how it can; "" if that owner has no hold."""
    for holder in state.holders:
        if not is_own(holder, spec):
            continue
        record = holder.record
        step = record if record.text("kind") == "lock" else None
        if step is not None and holder.is_shared and not spec.shared:
            hint = Hint(UNLOCK_STEP, lock=state.name, owner=holder.owner, token=holder.token)
            return "that is a shared step of the same owner, which cannot become exclusive", [hint]
        if step is None:
            told = what_of_run(holder, spec.state_dir)
            whose = f"that is a run of the same owner, {_process(record.details)}, {_lives(told)}"
            if told[0] == ALIVE:
                return whose, []
            if told[0] != GONE:
                return whose, [Hint(UNLOCK_DEAD_RUN, lock=state.name, owner=holder.owner, token=holder.token)]
            step = Record.parse(record.text("step").encode("utf-8", "backslashreplace"))
        told = what_of_step(holder, step, spec.state_dir)
        whose = f"that is a step of the same owner, taken for {_process(taker_of(step))}, {_lives(told)}"
        return whose, [Hint(ENTER, lock=state.name, owner=holder.owner, token=holder.token)]
    return "", []


def refuse_named(state: LockState, spec: LockSpec) -> LockNotFound | NotHolder | LockBusy:
    """The error for a hold that was given by its token and cannot be re-entered."""
    name, token = printable(state.name), spec.named
    if not state.holders:
        return LockNotFound(f"{name} is not locked, so no hold has token {token}", state=state)
    if all(holder.token != token for holder in state.holders):
        tokens = " and ".join(str(holder.token) for holder in state.holders)
        return NotHolder(f"{taken(state)}, with token {tokens}, not {token}", state=state, hints=[see(state.name)])
    why, hints = why_not(state, spec)
    why = why or "only its owner can enter it again, and only while its state is held"
    return LockBusy(f"{taken(state)}: {why}", state=state, hints=[*hints, see(state.name)])


def refuse_anothers_step(holder: Holder, taker: Mapping[str, Any] | None, state_dir: str | None) -> None:
    """Raise `NotHolder` for a step that was taken for another process, unless that process is gone."""
    record = holder.record
    if record.text("kind") == "run":
        record = Record.parse(record.text("step").encode("utf-8", "backslashreplace"))
    theirs = taker_of(record)
    # `docker exec distlock --lock` has no identifiable parent, so such a step belongs to no particular process.
    if not is_identified(theirs) or holder.record.state != HELD or any(is_of(one, taker) for one in takers_of(record)):
        return
    told = what_of_step(holder, record, state_dir)
    if told[0] == GONE:
        return
    name = printable(holder.lock)
    raise NotHolder(
        f"{name} is held by {held_by(holder)}, a step that was taken for {_process(theirs)}, {_lives(told)}: "
        "left alone",
        hints=[Hint(UNLOCK_STEP, lock=holder.lock, owner=holder.owner, token=holder.token), see(holder.lock)],
    )


def _process(trace: Mapping[str, Any]) -> str:
    host, pid = trace.get("host"), trace.get("pid")
    where = f" on {printable(host)}" if isinstance(host, str) else ""
    return f"process {pid}{where}" if isinstance(pid, int) else f"an unknown process{where}"


def _lives(told: tuple[str, str]) -> str:
    kind, why = told
    if kind == ALIVE:
        return f"and {why}" if why else "which is running"
    return f"which may be running ({why})"
