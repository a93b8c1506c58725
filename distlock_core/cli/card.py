"""The card of a lock: all that is known about it, as `--show` prints it. Texts from etcd are escaped."""

from __future__ import annotations

import time

from distlock_core.base.text import printable
from distlock_core.model.keys import DEFAULT_RANK
from distlock_core.model.record import ATTENDED, COOLING, HELD
from distlock_core.model.state import Holder, LockState
from distlock_core.model.wording import clock, duration, frozen_by, owner_of, place_of, sign_of_life
from distlock_core.process.fate import ALIVE, GONE
from distlock_core.process.identity import hostname


def card(state: LockState, prefix: str, state_dir: str | None = None) -> str:
    """All that is known about one lock of a realm. `state_dir`: this machine's notes about its acquisitions."""
    lines = [printable(state.name)]
    for freeze in state.freezes:
        whole = "the realm, " if freeze.lock is None else ""
        lines += [field("frozen", f"{whole}by {frozen_by(freeze)}")]
    if state.policy is not None:
        lines.append(field("policy", policy_of(state)))
    for holder in state.holders:
        lines += [*holder_lines(holder, state_dir), *_life_lines(holder, state_dir)]
    if not state.holders:
        lines.append(field("held by", "nobody"))
        last = state.last
        if last is not None and last.how:
            when = f" at {clock(last.at)}" if last.at else ""
            whose = "" if last.owner == last.by else f", was held by {owner_of(last.owner or None)}"
            why = f': "{printable(last.why)}"' if last.why else ""
            lines.append(field("last", f"{printable(last.how)} by {owner_of(last.by)}{when}{whose}{why}"))
        elif not state.waiting:
            where = f"no lock of this name is known under {printable(prefix)}"
            from distlock_core.cli.hint import realm_options

            see = f"distlock --list{realm_options()} has those held"
            lines.append(field("last", f"never held: {where}. Is it spelled right? {see}"))
    took = state.last.took if state.last is not None else ()
    if took:
        newest = " (the last one at the end)" if len(took) > 1 else ""
        lines.append(field("took", ", ".join(map(duration, took)) + newest))
    lines.append(field("waiting", str(state.waiting)))
    for place, waiter in enumerate(state.waiters, 1):
        since = "" if waiter.since is None else f" since {clock(waiter.since)}"
        host = f" on {printable(waiter.host)}" if waiter.host and waiter.host != waiter.owner else ""
        reason = f': "{printable(waiter.reason)}"' if waiter.reason else ""
        rank = f" (rank {waiter.rank})" if waiter.rank != DEFAULT_RANK else ""
        shared = " (shared)" if waiter.is_shared else ""
        lines.append(f"  {place:8}. {owner_of(waiter.owner)}{shared}{rank}{host}{since}{reason}")
    return "\n".join(lines)


def policy_of(state: LockState) -> str:
    """The policy of a lock in one line, and whether its window is open."""
    from distlock_core.model.policy import shown

    policy = state.policy
    if policy is None:
        return "none"
    if policy.trouble:
        return f"cannot be followed: {policy.trouble}"
    words = ", ".join(f"{field} {shown(field, value)}" for field, value in policy.fields.items())
    windows, at = policy.windows, time.time()
    if windows is None or windows.is_open(at):
        return words
    opens = windows.opens_at(at)
    return words if opens is None else f"{words}; closed until {windows.clock(opens)}"


def holder_lines(holder: Holder, state_dir: str | None) -> list[str]:
    record = holder.record
    beside = f" ({place_of(holder)})" if holder.slot or holder.is_shared else ""
    lines = [field("held by", owner_of(holder.owner) + beside)]
    if holder.since is not None:
        late = f", OVERDUE: expected {duration(holder.expect or 0)}" if holder.is_overdue(time.time()) else ""
        lines.append(field("since", f"{clock(holder.since)} ({duration(time.time() - holder.since)}{late})"))
    if holder.reason:
        lines.append(field("reason", printable(holder.reason)))
    if holder.value is not None:
        lines.append(field("value", printable(holder.value)))
    lines.append(field("token", str(holder.token)))
    if record.state != HELD:
        lines.append(field("state", printable(record.state)))
    left = "" if holder.ttl_left is None else f", {duration(holder.ttl_left)} left"
    if left and not _ends_by_itself(holder):
        left += " unless renewed"
    lines.append(field("lifetime", holder.lifetime + left))
    if holder.sign is not None:
        lines.append(field("beat", sign_of_life(holder.sign)))
    if holder.keeper is not None:
        lines.append(field("keeper", f"process {holder.keeper}"))
    if record.text("host"):
        pid = record.number("pid")
        process = "" if pid is None else f", pid {pid}{_life(holder, state_dir)}"
        lines.append(field("host", printable(record.text("host")) + process))
    taker = record.details.get("taker")
    if record.text("kind") == "lock" and isinstance(taker, dict) and holder.keeper is None:
        from distlock_core.lock.reentry import what_of_step

        gone = " (gone)" if what_of_step(holder, record, state_dir)[0] == GONE else ""
        where = printable(str(taker.get("host")))
        lines.append(field("taken for", f"process {printable(str(taker.get('pid')))} on {where}{gone}"))
    return lines


def _life_lines(holder: Holder, state_dir: str | None) -> list[str]:
    """Whether its process and its boot are gone, if that can be told on this machine."""
    if holder.record.state not in ATTENDED or holder.record.text("host") != hostname():
        return []
    from distlock_core.lock.holder_life import ELSEWHERE, HolderLife

    life = HolderLife.of(holder, state_dir)
    is_step = holder.record.text("kind") == "lock" and holder.keeper is None
    said = ("keeper", "process") if is_step else ("keeper",)  # by other lines: that of a step is `taken for`
    return [] if life.machine == ELSEWHERE else [field(*line) for line in life.lines(holder) if line[0] not in said]


def _ends_by_itself(holder: Holder) -> bool:
    """True for a lease without renewals: of a cooling lock, or of a step without a keeper."""
    step = holder.record.text("kind") == "lock" and holder.keeper is None
    return bool(holder.lease) and (step or holder.record.state == COOLING)


def _life(holder: Holder, state_dir: str | None) -> str:
    """The state of the holder's process as seen from here, which helps to decide whether to break the lock."""
    if holder.record.text("kind") == "lock" and not holder.lease:
        return ", acquired as a step: it stays until it is unlocked"
    if holder.record.text("host") != hostname() or _ends_by_itself(holder):
        return ""
    from distlock_core.lock.reentry import what_of_run

    kind, why = what_of_run(holder, state_dir)
    if kind == GONE:
        return " (gone)"
    return f" ({why})" if kind == ALIVE and why else ""


def field(name: str, text: str) -> str:
    return f"  {name:10}{text}"
