"""Progress of a wait on stderr: a line at the start and at each change, and on a terminal a short live line."""

from __future__ import annotations

import os
import sys

from distlock_core.base.columns import cut_to
from distlock_core.base.deadline import now
from distlock_core.base.text import printable
from distlock_core.cli.json_output import as_json, locks_json, turn_json
from distlock_core.cli.outcome import say, tell
from distlock_core.lock.acquire import Waiting
from distlock_core.model.wording import duration, listed, owner_of, place, taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from typing import Any

    from distlock_core.base.threads import Thread
    from distlock_core.model.state import LockState

LIVE_PERIOD = 1.0  # seconds


class Progress:
    """Called by the acquisition at each change. To be closed before anything else writes to the terminal."""

    def __init__(self, *, quiet: bool, json: bool) -> None:
        self._quiet = quiet
        self._json = json
        self._live = not quiet and not json and sys.stderr is not None and sys.stderr.isatty() and _can_redraw()
        self._waiting: Waiting | None = None
        self._shown: tuple[object, ...] | None = None
        self._news: list[str] = []  # written by the thread, the only writer while it lives
        self._closing: threading.Event | None = None
        self._thread: Thread | None = None

    def __call__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        states = [state for state, _ in places(waiting)]
        holders = tuple(holder.token for state in states for holder in state.holders)
        freezes = tuple(state.freezes for state in states)
        change = (holders, freezes, bool(waiting.away), waiting.own, bool(waiting.gate))
        if not self._quiet and change != self._shown:
            if self._json:
                tell(as_json({"waiting": _document(waiting)}))
            elif self._live:
                self._news.append(sentence(waiting))
            else:
                say(sentence(waiting))
        self._shown = change
        if self._live:
            self._start()

    def close(self) -> None:
        if self._thread is not None and self._closing is not None:
            self._closing.set()
            self._thread.join()
            self._write("\r\x1b[K")

    def _start(self) -> None:
        if self._thread is not None:
            return
        import threading

        from distlock_core.base.threads import start_thread

        self._closing = threading.Event()
        self._thread = start_thread(self._draw, "distlock-progress")

    def _draw(self) -> None:
        assert self._closing is not None
        assert self._waiting is not None
        while True:
            while self._news:
                self._write(f"\r\x1b[Kdistlock: {printable(self._news.pop(0))}\n")
            self._write(f"\r\x1b[K{live_line(self._waiting, _columns() - 1)}")
            if self._closing.wait(LIVE_PERIOD):
                return

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            pass  # the terminal has gone


def sentence(waiting: Waiting) -> str:
    """The whole line: `waiting: percona_prod is held by node-3 since 12:03 (4m12s); position 2 of 4 in the queue`."""
    own = f"; {waiting.own}" if waiting.own else ""
    if waiting.hints:
        from distlock_core.cli.hint import advice

        own = ". ".join([own, *map(advice, waiting.hints)])
    gate = f"; {waiting.gate}" if waiting.gate else ""
    busy = [state for state, position in places(waiting) if state.holders or state.freezes or position > 1]
    why = "; ".join(taken(state._replace(waiting=0)) for state in busy or [waiting.state])
    line = f"waiting: {why}{gate}{own}; {_where(waiting)}"
    return f"{line}; {waiting.away}" if waiting.away else line


def live_line(waiting: Waiting, width: int) -> str:
    """The live line, at most `width` columns: `12s waiting for percona_prod: position 2 of 4 in the queue, ...`."""
    state = waiting.state
    away = "; etcd does not answer" if waiting.away else ""
    several = places(waiting)
    names = listed([one.name for one, _ in several]) if len(several) > 1 else state.name
    line = f"{duration(now() - waiting.since)} waiting for {names}: {_where(waiting)}{away}"
    if waiting.closed is not None:
        line += f", {waiting.closed}"
    holders = list(dict.fromkeys(owner_of(holder.owner) for one, _ in several for holder in one.holders))
    if waiting.gate:
        line += f", {waiting.gate}"
    elif holders:
        line += ", held by " + " and ".join(holders)
    return cut_to(printable(line), width)


def places(waiting: Waiting) -> tuple[tuple[LockState, int], ...]:
    """The state of each lock, with the position in its queue."""
    return waiting.places or ((waiting.state, waiting.position),)


def _where(waiting: Waiting) -> str:
    """The place in the queue; of several locks `rack-7: position 2 of 4 in the queue; percona_prod: ...`."""
    if not waiting.places:
        return place(waiting.state, waiting.position)
    return "; ".join(f"{printable(state.name)}: {place(state, position)}" for state, position in waiting.places)


def _document(waiting: Waiting) -> dict[str, Any]:
    locks = [lock for state, _ in places(waiting) for lock in locks_json(state)]
    document = {"locks": locks, "position": waiting.position, "away": waiting.away, **turn_json(waiting)}
    if waiting.gate:
        document["gate"] = waiting.gate
    if waiting.places:
        document["positions"] = {state.name: position for state, position in waiting.places}
    return document


def _can_redraw() -> bool:
    return os.environ.get("TERM", "dumb") != "dumb"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0: unknown
    except OSError:
        return 80
