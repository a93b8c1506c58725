"""Results and errors as JSON."""

from __future__ import annotations

import time

from distlock_core.errors import DistlockError
from distlock_core.model.record import HoldEnd
from distlock_core.model.state import Holder, LockState, Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from distlock_core.lock.acquire import Waiting
    from distlock_core.lock.holder_life import HolderLife
    from distlock_core.model.freeze import Freeze
    from distlock_core.model.policy import Policy
    from distlock_core.model.sign_of_life import SignOfLife


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
        "beat": None if holder.sign is None else _sign_json(holder.sign),
    }


def _sign_json(sign: SignOfLife) -> dict[str, Any]:
    at = sign.at
    return {
        "every": sign.every,
        "alive": sign.is_alive,
        "silent_seconds": sign.silent,
        "last": None if at is None else int(at),
        "doubt": sign.doubt or None,
    }


def life_json(life: HolderLife | None) -> dict[str, Any]:
    """What is known on this machine about the life behind a hold; None for a lock without a holder."""
    words = (None, None, None) if life is None else (life.process, life.machine, life.keeper)
    return dict(zip(("process", "machine", "keeper_process"), words))


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
        **dict.fromkeys((*fields, "state", "slot", "shared", "keeper", "run", "taker", "expect", "overdue", "beat")),
    }
