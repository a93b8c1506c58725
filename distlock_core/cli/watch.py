"""The operation `--watch`: a line for each event, until a signal arrives or the reader goes away."""

from __future__ import annotations

import sys
import time

from distlock_core.base.text import printable
from distlock_core.cli.acquire import realm
from distlock_core.cli.command_line import Request
from distlock_core.cli.json_output import as_json, ended_json, frozen_json, holder_json
from distlock_core.cli.outcome import FAILED, OK, give_up, say
from distlock_core.cli.signals import interrupt_on_signals, interrupt_when_the_reader_goes
from distlock_core.command.end import ExitedBySignal
from distlock_core.errors import Cancelled
from distlock_core.events.follow import LOCK_RELEASED, THAWED
from distlock_core.model.wording import frozen_by, held_by, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.events.follow import LockEvent


def watch(request: Request) -> int:
    """Print the events of the lock, or of every lock in the realm. Return the exit code."""
    settings = request.settings
    if sys.stdout is None:
        return OK  # stdout is closed
    interrupt = interrupt_on_signals()
    interrupt_when_the_reader_goes(interrupt)
    with realm(request).watch(settings.lockname or None, freezes=True) as watching:
        try:
            while True:
                event = watching.take(interrupt)
                print(_json(event) if settings.json else _line(event), flush=True)
        except Cancelled:
            return OK if interrupt.signal is None else ExitedBySignal(128 + interrupt.signal)
        except OSError as error:
            give_up(sys.stdout)
            if isinstance(error, BrokenPipeError):
                return OK
            say(f"cannot write to stdout: {error.strerror}")
            return FAILED


def _line(event: LockEvent) -> str:
    """An event in one line: `2026-11-21 12:03:04 acquired: db is held by node-3 since 12:03 (0s); token 7`."""
    if event.holder is None:
        what = "the realm" if not event.lock else printable(event.lock)
        told = frozen_by(event.freeze) if event.freeze is not None else ""
        verb = "was" if event.kind == THAWED else "is"
        return f"{time.strftime('%Y-%m-%d %H:%M:%S')} {event.kind}: {what} {verb} frozen by {told}"
    tense = "was" if event.kind == LOCK_RELEASED else "is"
    moment, who = time.strftime("%Y-%m-%d %H:%M:%S"), held_by(event.holder)
    words = [f"{moment} {event.kind}: {printable(event.holder.lock)} {tense} held by {who}", f"token {event.token}"]
    if event.value is not None:
        words.append(f'value "{printable(event.value)}"')
    if event.ended is not None:
        why = f': "{printable(event.ended.why)}"' if event.ended.why else ""
        words.append(f"{printable(event.ended.how)} by {owner_of(event.ended.by)}{why}")
    return "; ".join(words)


def _json(event: LockEvent) -> str:
    if event.holder is None:
        freeze = {} if event.freeze is None else frozen_json(event.freeze)
        return as_json({"event": event.kind, "lock": event.lock or None, **freeze, "revision": event.revision})
    ended = {"revision": event.revision, "ended": ended_json(event.ended)}
    return as_json({"event": event.kind, **holder_json(event.holder), **ended})
