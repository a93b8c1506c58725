"""`distlock --history --plot=FILE`: the history as a picture, in a file or in the terminal."""

from __future__ import annotations

import os
import sys
import time

from distlock_core.base.text import printable
from distlock_core.cli.history_text import gap_of, reach_of
from distlock_core.cli.outcome import FAILED, OK, out, say
from distlock_core.command.end import ExitedBySignal
from distlock_core.errors import Cancelled, ConfigError
from distlock_core.history.entries import Gap, Reach
from distlock_core.model.wording import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.base.deadline import Interrupt
    from distlock_core.cli.command_line import Request
    from distlock_core.cli.timeline import Timeline
    from distlock_core.history.entries import Entry
    from distlock_core.history.history import History

TERMINAL = "-"
WIDTH = 80  # columns, where there is no terminal


def plot(request: Request, path: str, found: History, since: float | None, interrupt: Interrupt) -> int:
    """Draw the history into this file, or for `-` to stdout. Return the exit code. Raises `ConfigError`."""
    from distlock_core.cli.timeline import timeline

    entries: list[Entry] = []
    try:
        while True:
            entries.append(found.take(interrupt))
    except Cancelled:
        if interrupt.signal is not None:
            return ExitedBySignal(128 + interrupt.signal)
    names, quiet = request.settings.lock_names, request.settings.quiet
    about = f"{listed(names) if names else 'any lock'} under {request.settings.prefix}"
    picture = timeline(entries, time.time(), since)
    if not picture.rows and not picture.freezes:
        say(f"there is nothing to draw: nothing is known of {about}")
        return FAILED
    done = _in_terminal(picture) if path == TERMINAL else _in_file(picture, path, about)
    if done == OK and not quiet:
        for entry in entries:
            if isinstance(entry, Gap):
                say(gap_of(entry))
        for entry in entries:
            if isinstance(entry, Reach):
                say(reach_of(entry))
    return done


def _in_file(picture: Timeline, path: str, about: str) -> int:
    from distlock_core.cli.plot_file import draw

    try:
        draw(picture, path, about)
    except OSError as error:
        raise ConfigError(f"cannot write {printable(path)}: {error.strerror or error}") from None
    return OK


def _in_terminal(picture: Timeline) -> int:
    from distlock_core.cli.plot_terminal import draw

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    return out(draw(picture, _width(), colour=colour, ascii_only=ascii_only))


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or WIDTH  # 0: unknown
    except OSError:
        columns = os.environ.get("COLUMNS", "")
        return int(columns) if columns.isdecimal() and 0 < int(columns) < 10_000 else WIDTH
