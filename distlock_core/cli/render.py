"""Rendering of results and errors, for people or as JSON. Control characters in texts from etcd are escaped."""

from __future__ import annotations

import sys
import time

from distlock_core.base.columns import columns_of, padded
from distlock_core.base.text import printable
from distlock_core.errors import DistlockError
from distlock_core.model.keys import DEFAULT_RANK
from distlock_core.model.record import COOLING, HELD, HoldEnd
from distlock_core.model.state import Holder, LockState, Waiter
from distlock_core.model.wording import clock, duration, frozen_by, owner_of, place_of
from distlock_core.process.fate import ALIVE, GONE
from distlock_core.process.identity import hostname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from distlock_core.lock.acquire import Waiting
    from distlock_core.model.freeze import Freeze
    from distlock_core.model.policy import Policy

COLUMNS = ("LOCK", "OWNER", "SINCE", "HELD", "WAITING", "REASON")


def say(message: str) -> None:
    """Write one line to stderr, prefixed with `distlock: `."""
    tell(f"distlock: {printable(message)}")


def tell(line: str) -> None:
    """Write a line to stderr. Errors are ignored, since a lock may still have to be released."""
    if sys.stderr is not None:  # None if the caller has closed it
        try:
            print(line, file=sys.stderr, flush=True)
        except OSError:
            pass


def as_json(document: dict[str, Any]) -> str:
    import json  # not needed for output to people

    try:
        return json.dumps(document, allow_nan=False, check_circular=False)  # no document contains itself
    except ValueError:
        # Python parses NaN and Infinity in a foreign record, but JSON has no such numbers.
        return json.dumps(json.loads(json.dumps(document), parse_constant=str))


def error_json(error: DistlockError) -> dict[str, Any]:
    """`{"error": {"kind", "message"}}`, with hints, the lock as it was read, and the run of an unknown outcome."""
    details: dict[str, Any] = {"kind": error.kind, "message": error.message}
    if error.hints:
        from distlock_core.cli.hint import advice

        details["hints"] = [{**hint.fields(), "advice": advice(hint)} for hint in error.hints]
    states = getattr(error, "states", ())
    if states:
        details["locks"] = [lock for state in states for lock in locks_json(state)]
    if error.kind == "window":
        opens = getattr(error, "opens_at", None)
        details["opens_at"] = None if opens is None else int(opens)
    run = getattr(error, "run", None)
    if run is not None:
        details["run"] = run
    return {"error": details}


def one_or_all(found: Sequence[dict[str, Any]]) -> dict[str, Any] | Sequence[dict[str, Any]]:
    """The result for one lock as an object, for several as a list."""
    return found[0] if len(found) == 1 else found


def locks_json(state: LockState) -> list[dict[str, Any]]:
    """One object per holder; a lock with only waiters has one without an owner."""
    shared = {
        "waiters": [waiter_json(waiter) for waiter in state.waiters],
        "waiting": state.waiting,
        "last": ended_json(state.last),
        "frozen": None if state.frozen is None else frozen_json(state.frozen),
        "freezes": [frozen_json(freeze) for freeze in state.freezes],
        "policy": None if state.policy is None else _policy_json(state.policy),
    }
    if not state.holders:
        return [{**_no_holder(state.name), **shared}]
    return [{**holder_json(holder), **shared} for holder in state.holders]


def holder_json(holder: Holder) -> dict[str, Any]:
    record, since = holder.record, holder.since
    details, text = record.details, record.text
    return {
        "lock": holder.lock,
        "owner": record.owner,
        "since": since,
        "held_seconds": None if since is None else max(0, int(time.time()) - since),
        "token": holder.token,
        "lifetime": holder.lifetime,
        "ttl_left": holder.ttl_left,
        "host": text("host") or None,
        "pid": record.number("pid"),
        "reason": text("reason"),
        "value": details.get("value"),
        "state": record.state,
        "slot": None if holder.is_shared else holder.slot,
        "shared": holder.is_shared,
        "keeper": record.number("keeper"),
        "run": text("run") or None,
        "taker": _process_json(details.get("taker")),
        "expect": holder.expect,
        "overdue": holder.is_overdue(time.time()),
    }


def _process_json(trace: object) -> dict[str, Any] | None:
    return {"host": trace.get("host"), "pid": trace.get("pid")} if isinstance(trace, dict) else None


def ended_json(last: HoldEnd | None) -> dict[str, Any] | None:
    if last is None or not last.how:
        return None
    ended = {"how": last.how, "by": last.by, "at": last.at, "owner": last.owner, "token": last.token}
    return {**ended, "took": list(last.took), "why": last.why or None}


def frozen_json(freeze: Freeze) -> dict[str, Any]:
    return {
        "scope": "realm" if freeze.lock is None else "lock",
        "by": freeze.by,
        "since": freeze.since,
        "until": freeze.until,
        "ttl_left": freeze.ttl_left,
        "reason": freeze.reason,
        "exit_code": freeze.exit_code,
    }


def _policy_json(found: Policy) -> dict[str, Any]:
    return {**dict.fromkeys(("slots", "cooldown", "window", "expect")), **found.fields}


def turn_json(waiting: Waiting) -> dict[str, Any]:
    """When the turn of a waiter is likely, and when its window opens: Unix times, and seconds for each hold."""
    from distlock_core.model.forecast import forecast

    turn = forecast(waiting.state, waiting.position, time.time())
    opens = None if waiting.closed is None else waiting.closed.opens_at
    return {
        "each": None if turn is None else turn.each,
        "likely_at": None if turn is None else int(turn.at),
        "opens_at": None if opens is None else int(opens),
    }


def waiter_json(waiter: Waiter) -> dict[str, Any]:
    return {
        "owner": waiter.owner,
        "host": waiter.host or None,
        "since": waiter.since,
        "reason": waiter.reason,
        "rank": waiter.rank,
        "shared": waiter.is_shared,
    }


def _no_holder(name: str) -> dict[str, Any]:
    fields = ("owner", "since", "held_seconds", "token", "lifetime", "ttl_left", "host", "pid", "reason", "value")
    return {
        "lock": name,
        **dict.fromkeys((*fields, "state", "slot", "shared", "keeper", "run", "taker", "expect", "overdue")),
    }


def table(states: Sequence[LockState]) -> str:
    """A table with a heading and one line per holder."""
    return aligned([COLUMNS, *(row for state in states for row in _rows(state))])


def aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows of equal length as a table."""
    widths = [max(map(columns_of, column)) for column in zip(*rows)]
    return "\n".join("  ".join(map(padded, row, widths)).rstrip() for row in rows)


def _rows(state: LockState) -> list[tuple[str, ...]]:
    name = printable(state.name)
    frozen = ("frozen",) if state.is_frozen_itself else ()
    if not state.holders:
        return [(_labelled(name, *frozen), "-", "-", "-", str(state.waiting), "")]
    rows: list[tuple[str, ...]] = []
    for holder in state.holders:
        since = "-" if holder.since is None else clock(holder.since)
        held = "-" if holder.since is None else duration(time.time() - holder.since)
        if holder.is_overdue(time.time()):
            held += " OVERDUE"
        beside = [place_of(holder)] if holder.slot or holder.is_shared else []
        label = _labelled(name, *beside, *frozen)
        owner = owner_of(holder.owner) + ("" if holder.record.state == HELD else f" ({printable(holder.record.state)})")
        rows.append((label, owner, since, held, str(state.waiting), printable(holder.reason)))
    return rows


def _labelled(name: str, *labels: str) -> str:
    return f"{name} ({', '.join(labels)})" if labels else name


def card(state: LockState, prefix: str, state_dir: str | None = None) -> str:
    """All that is known about one lock of a realm. `state_dir`: this machine's notes about its acquisitions."""
    lines = [printable(state.name)]
    for freeze in state.freezes:
        whole = "the realm, " if freeze.lock is None else ""
        lines += [field("frozen", f"{whole}by {frozen_by(freeze)}")]
    if state.policy is not None:
        lines.append(field("policy", policy_of(state)))
    for holder in state.holders:
        lines += holder_lines(holder, state_dir)
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
