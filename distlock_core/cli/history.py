"""`distlock --history`: who held what, when, for how long, who waited, and how it ended."""

from __future__ import annotations

import sys
import time

from distlock_core.base.columns import columns_of, padded
from distlock_core.cli.acquire import realm
from distlock_core.cli.history_text import HEADING, gap_of, reach_of, row
from distlock_core.cli.json_output import as_json
from distlock_core.cli.outcome import FAILED, OK, give_up, say
from distlock_core.cli.signals import interrupt_on_signals, interrupt_when_the_reader_goes
from distlock_core.command.end import ExitedBySignal
from distlock_core.errors import Cancelled
from distlock_core.history.entries import Gap, Reach
from distlock_core.model.wording import listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.base.deadline import Interrupt
    from distlock_core.cli.command_line import Request
    from distlock_core.history.history import History

PAGE = 500  # rows of a table that are aligned together


def history(request: Request) -> int:
    """Print the history of these locks, or of every lock in the realm. Return the exit code."""
    settings = request.settings
    if sys.stdout is None:
        return OK  # stdout is closed
    since = None if request.since is None else time.time() - request.since
    interrupt = interrupt_on_signals()
    if request.follow:
        interrupt_when_the_reader_goes(interrupt)
    names = settings.lock_names or None
    with realm(request).history(names, since=since, follow=request.follow) as found:
        try:
            if request.plot is not None:
                from distlock_core.cli.history_plot import plot

                return plot(request, request.plot, found, since, interrupt)
            return _as_json(found, interrupt) if settings.json else _as_table(request, found, interrupt)
        except OSError as error:
            give_up(sys.stdout)
            if isinstance(error, BrokenPipeError):
                return OK
            say(f"cannot write to stdout: {error.strerror}")
            return FAILED


def _as_json(found: History, interrupt: Interrupt) -> int:
    try:
        while True:
            print(as_json(found.take(interrupt).fields()), flush=True)
    except Cancelled:
        return OK if interrupt.signal is None else ExitedBySignal(128 + interrupt.signal)


def _as_table(request: Request, found: History, interrupt: Interrupt) -> int:
    table, quiet = Table(), request.settings.quiet
    reach = ""
    try:
        while True:
            entry = found.take(interrupt)
            if isinstance(entry, Reach):
                reach = reach_of(entry)
                if request.follow and not quiet:
                    say(reach)
            elif isinstance(entry, Gap):
                table.flush()
                if not quiet:
                    say(gap_of(entry))
            else:
                table.add(row(entry, time.time()))
                if request.follow:
                    table.flush()
    except Cancelled:
        table.flush()
        if interrupt.signal is not None:
            return ExitedBySignal(128 + interrupt.signal)
    if not quiet:
        if not table.rows:
            names = request.settings.lock_names
            say(f"nothing is known of {listed(names) if names else 'any lock'} under {request.settings.prefix}")
        say(reach)
    return OK


class Table:
    """A table whose columns grow with what is printed; rows are aligned a page at a time."""

    def __init__(self) -> None:
        self.rows = 0
        self._page: list[tuple[str, ...]] = [HEADING]
        self._widths = [0] * len(HEADING)

    def add(self, cells: tuple[str, ...]) -> None:
        self.rows += 1
        self._page.append(cells)
        if len(self._page) >= PAGE:
            self.flush()

    def flush(self) -> None:
        """Print the rows so far. Raises `OSError`."""
        if not self.rows or not self._page:
            return
        for cells in self._page:
            self._widths = [max(width, columns_of(cell)) for width, cell in zip(self._widths, cells)]
        for cells in self._page:
            print("  ".join(padded(cell, width) for cell, width in zip(cells, self._widths)).rstrip())
        self._page.clear()
        sys.stdout.flush()
