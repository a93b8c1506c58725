"""Re-entry: which holds of the same owner a process may re-enter or release, and why not.

Two live runs never hold a lock together, even if they have the same owner. A run counts as alive unless its end is
proved.
"""

from __future__ import annotations

import os
import time

from distlock_core.base.value import Value
from distlock_core.lock.spec import NESTED, STEP, TAKEN_OVER, encoded, run_details
from distlock_core.model.record import HELD, Record, record_of
from distlock_core.process import run_notes
from distlock_core.process.fate import ALIVE, GONE, fate, has_ended
from distlock_core.process.identity import ancestry, boot_id, is_same
from distlock_core.process.nesting import held_around

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from distlock_core.lock.spec import LockSpec
    from distlock_core.model.state import Holder

ROUNDS = 5  # most scans of /proc, repeated because processes end during a scan


class Reentry(Value):
    """A hold of the same owner that can be re-entered: how, and the record to restore at the end, if any.

    `adopts`: the step was taken for a process that is gone (or its token was given), and now belongs to this process.
    """

    holder: Holder
    how: str
    before: bytes = b""
    before_lease: int = 0
    adopts: bool = False


def reentry_record(spec: LockSpec, run: str, reentry: Reentry, beats: Mapping[str, Any]) -> bytes:
    """The record of a re-entered hold: its start is kept, and so are reason and value unless new ones are given.

    `beats`: the fields of its sign of life.
    """
    details = {**run_details(spec, run), **beats}
    if reentry.holder.reason:
        details["reason"] = reentry.holder.reason
    if reentry.holder.value is not None:
        details.setdefault("value", reentry.holder.value)
    for field in ("limit", "expect", "took"):
        if field in reentry.holder.record.details:
            details[field] = reentry.holder.record.details[field]
    if reentry.how == STEP and spec.kind == "run":
        details["step"] = reentry.before.decode("utf-8", "backslashreplace")
        details["step_lease"] = reentry.before_lease
    if reentry.how == STEP and spec.kind == "lock" and not reentry.adopts:
        details["taker"] = Record.parse(reentry.before).details["taker"]  # it ends with that process, not with this one
    if reentry.how == TAKEN_OVER:
        details["taken_over"] = True  # the revision of this put is the token
    elif reentry.holder.record.is_taken_over:
        details.update(taken_over=True, token=reentry.holder.token)
    return encoded(spec, reentry.holder.since or int(time.time()), details)


def find_reentry(holders: Iterable[Holder], spec: LockSpec) -> Reentry | None:
    """Return the hold that can be re-entered, or None.

    Both sides must have given the same owner explicitly, and the hold must be in state held. In addition, one of these
    must be true: this process runs inside the hold; the hold is a step whose taker is this process or its ancestor, or
    is gone, or whose token is given; the hold's run and that run's command are gone. A shared hold is entered by a
    shared acquisition only. That enters an exclusive hold only as a part of what holds it, or with its token.
    """
    for holder in holders:
        if is_own(holder, spec) and spec.named in (None, holder.token):
            reentry = _reentry(holder, spec)
            if reentry is not None and _is_fitting(reentry, spec):
                return reentry
    return None


def _is_fitting(reentry: Reentry, spec: LockSpec) -> bool:
    if reentry.holder.is_shared or not spec.shared:
        return reentry.holder.is_shared is spec.shared
    # What a dead run has left exclusively is not for a shared one to release.
    is_part = reentry.how == NESTED or (reentry.how == STEP and not reentry.adopts)
    return is_part or spec.named is not None


def is_own(holder: Holder, spec: LockSpec) -> bool:
    """True for a hold of the same owner, if both have given the owner explicitly."""
    record = holder.record
    return spec.explicit and record.explicit and record.owner == spec.owner and record.state == HELD


def _reentry(holder: Holder, spec: LockSpec) -> Reentry | None:
    record = holder.record
    if spec.inside.get(holder.key) == holder.token:
        return Reentry(holder, NESTED)
    if record.text("kind") == "lock":
        return _step_reentry(holder, spec, record, _as_it_is(holder), holder.lease)
    if _runs_inside(record):
        return Reentry(holder, NESTED)
    if what_of_run(holder, spec.state_dir)[0] != GONE:
        return None
    # If the run died inside a step, the step remains: it is entered, and restored at the end.
    step, lease = record.text("step").encode("utf-8", "backslashreplace"), record.number("step_lease") or 0
    if step:
        return _step_reentry(holder, spec, Record.parse(step), step, lease)
    return Reentry(holder, TAKEN_OVER, _as_it_is(holder), holder.lease)


def _as_it_is(holder: Holder) -> bytes:
    """The record of a hold, to be restored later with the same token."""
    return record_of(holder.kv).encode() if holder.record.is_taken_over else holder.stored


def _step_reentry(holder: Holder, spec: LockSpec, step: Record, before: bytes, lease: int) -> Reentry | None:
    if any(is_of(theirs, spec.taker) for theirs in takers_of(step)):
        return Reentry(holder, STEP, before, lease)
    if spec.named == holder.token or what_of_step(holder, step, spec.state_dir)[0] == GONE:
        return Reentry(holder, STEP, before, lease, adopts=True)
    return None


# The state of the holder's processes.


def what_of_run(holder: Holder, state_dir: str | None) -> tuple[str, str]:
    """The fate of the run that holds the lock, and of its command, as from `fate.fate()`.

    The run is alive too if the environment of a process on this machine shows that it runs under this hold.
    """
    record = holder.record
    remembered = run_notes.boot_of(state_dir, record.run)
    found = fate(record.details, remembered)
    command = record.details.get("command")
    if found[0] == GONE and isinstance(command, dict) and command:
        # Without the run's start time, with which a live command would count as gone.
        found = fate({**record.details, "start": None, **command}, remembered)
        if found[0] == ALIVE:
            return ALIVE, f"its command, process {command.get('pid')}, is running"
    if found[0] == GONE and _has_keeper(record):
        return ALIVE, f"its keeper, process {record.number('keeper')}, is running"
    if found[0] == GONE and record.text("boot") == boot_id():
        inside = _living_inside(holder)
        if inside is not None:
            return ALIVE, f"process {inside}, which runs under it, is running"
    return found


def what_of_step(holder: Holder, step: Record, state_dir: str | None) -> tuple[str, str]:
    """The fate of the processes that a step was taken for, and of its keeper, as from `fate.fate()`."""
    remembered = run_notes.boot_of(state_dir, step.run)
    for theirs in takers_of(step):
        found = fate(theirs, remembered)
        if found[0] != GONE:
            return found
    if _has_keeper(holder.record):
        return ALIVE, f"its keeper, process {holder.keeper}, is running"
    return GONE, ""


def is_inside(holder: Holder) -> bool:
    """True if the run that holds the lock is an ancestor of this process."""
    return holder.record.text("kind") == "run" and _runs_inside(holder.record)


def _runs_inside(record: Record) -> bool:
    """True below a distlock that runs a command. A program that uses the library may have unrelated children."""
    has_command = isinstance(record.details.get("command"), dict)
    return has_command and any(is_same(record.details, trace) for trace in ancestry()[1:])


def is_own_step(holder: Holder, spec: LockSpec) -> bool:
    """True for a step of the same owner that was taken for this process or an ancestor."""
    record = holder.record
    return (
        is_own(holder, spec)
        and record.text("kind") == "lock"
        and any(is_of(theirs, spec.taker) for theirs in takers_of(record))
    )


def is_of(theirs: Mapping[str, Any], taker: Mapping[str, Any] | None) -> bool:
    return any(is_same(theirs, trace) for trace in (*ancestry(), *([] if taker is None else [taker])))


def taker_of(step: Record) -> Mapping[str, Any]:
    taker = step.details.get("taker")
    return taker if isinstance(taker, dict) else {}


def takers_of(step: Record) -> list[Mapping[str, Any]]:
    """The process that a step was taken for, and the process that it is bound to."""
    bound = [step.details] if step.number("keeper") is not None else []
    return [taker_of(step), *bound]


def _has_keeper(record: Record) -> bool:
    keeper, boot = record.number("keeper"), record.text("boot")
    has_restarted = bool(boot and boot_id()) and boot != boot_id()  # since then, the pid may be another process's
    return keeper is not None and not has_restarted and not has_ended(keeper)


def _living_inside(holder: Holder) -> int | None:
    """A process on this machine whose environment shows that it runs under this hold, None if none is found.

    Only root can read the environment of other users' processes.
    """
    seen: set[str] = set()
    for _ in range(ROUNDS):
        fresh = [name for name in os.listdir("/proc") if name.isdigit() and name not in seen]
        ended = False
        for name in fresh:
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    content = file.read()
            except (FileNotFoundError, ProcessLookupError):
                ended = True  # it may have left a child that was not in the list
                continue
            except OSError:
                continue
            finally:
                seen.add(name)
            if b"DISTLOCK_HELD=" in content and _held_in(content).get(holder.key) == holder.token:
                return int(name)
        if not ended:
            break
    return None


def _held_in(content: bytes) -> dict[bytes, int]:
    pairs = (os.fsdecode(pair).partition("=")[::2] for pair in content.split(b"\0"))
    return held_around(dict(pairs))
