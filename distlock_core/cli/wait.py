"""The operation `--wait`: wait until the locks are free, idle or thawed, and take nothing."""

from __future__ import annotations

import os

from distlock_core.cli.acquire import realm
from distlock_core.cli.json_output import as_json, locks_json
from distlock_core.cli.outcome import OK, out, say, tell
from distlock_core.cli.signals import InterruptOrHangup, interrupt_on_signals
from distlock_core.errors import Cancelled
from distlock_core.model.wording import are, duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from distlock_core.base.deadline import Interrupt
    from distlock_core.cli.command_line import Request
    from distlock_core.lock.wait_until import Obstacle, Reached
    from distlock_core.model.state import LockState


def wait(request: Request) -> int:
    """Wait, and report what was seen. Return the exit code. A signal ends the wait, and so does the reader's end."""
    from distlock_core.process.nesting import held_around

    settings = request.settings
    interrupt = interrupt_on_signals()
    quit_request = InterruptOrHangup(interrupt)
    shown: list[tuple[object, ...]] = []

    def show(obstacle: Obstacle) -> None:
        quit_request.watch_output()
        change = _change(obstacle)
        if not settings.quiet and shown[-1:] != [change]:
            if settings.json:
                tell(as_json({"waiting": waiting_json(obstacle, request.until)}))
            else:
                away = f"; {obstacle.away}" if obstacle.away else ""
                say(f"waiting until {are(settings.lock_names)} {request.until}: {obstacle.why}{away}")
        shown.append(change)

    try:
        found = realm(request).wait(
            settings.lock_names,
            request.until,
            timeout=settings.timeout,
            slots=settings.slots if "slots" in settings.given and not settings.shared else None,
            shared=settings.shared,
            window=settings.window,
            rank=settings.rank,
            inside=held_around(os.environ),
            cancel=quit_request,
            progress=show,
        )
    except Cancelled as error:
        raise _cancelled(interrupt) from error
    finally:
        quit_request.close()
    if settings.json:
        return out(as_json({"reached": reached_json(found, request.until)}))
    if settings.verbose:
        after = f" after {duration(found.waited)}" if found.waited_for else ""
        say(f"{are(settings.lock_names)} {request.until}{after}")
    return OK


def reached_json(found: Reached, until: str) -> dict[str, Any]:
    """The result of a wait, for `--json` and for the adapters."""
    return {
        "until": until,
        "waited": round(found.waited, 2),
        "waited_for": found.waited_for,
        "revision": found.revision,
        "locks": _locks(found.states),
    }


def waiting_json(obstacle: Obstacle, until: str) -> dict[str, Any]:
    opens = None if obstacle.opens_at is None else int(obstacle.opens_at)
    return {"until": until, "locks": _locks(obstacle.states), "away": obstacle.away, "opens_at": opens}


def _locks(states: Sequence[LockState]) -> list[dict[str, Any]]:
    return [lock for state in states for lock in locks_json(state)]


def _change(obstacle: Obstacle) -> tuple[object, ...]:
    """What a new line is worth: other holders or freezes, an outage, or another number of waiters for a free lock."""
    holders = tuple(holder.token for state in obstacle.states for holder in state.holders)
    freezes = tuple(state.freezes for state in obstacle.states)
    waiting = 0 if holders else sum(state.waiting for state in obstacle.states)
    return holders, freezes, waiting, bool(obstacle.away), obstacle.opens_at


def _cancelled(interrupt: Interrupt) -> Cancelled:
    from distlock_core.base.plain_signal import signal
    from distlock_core.command.signal_mask import name_of

    if interrupt.signal is None:
        error = Cancelled("nobody reads stderr any more: the wait has ended; to wait all the same, start it with nohup")
        error.signal = signal.SIGHUP
        return error
    error = Cancelled(f"ended by {name_of(interrupt.signal)}: the wait has ended")
    error.signal = interrupt.signal
    return error
