"""A timeline in the terminal: a line for each row, with a character for each span of time."""

from __future__ import annotations

from distlock_core.base.columns import columns_of, cut_to, padded
from distlock_core.cli.timeline import BREAK, FROZE, FROZEN, LOSS, UNSURE, WAITING, ticks
from distlock_core.model.record import COOLING, HELD, KEPT, SETTLING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.cli.timeline import Bar, Mark, Timeline

NARROWEST = 40  # columns
SHARE = 0.4  # of the width that labels take at most
TICK_EVERY = 14  # columns
# A character for each kind, in UTF-8 and in ASCII, its colour (SGR), and its name in the legend. The later ones win.
SIGNS = {
    FROZEN: ("*", "*", "36", "frozen"),
    UNSURE: ("?", "?", "2", "ended in here"),
    WAITING: ("░", ".", "2", "waiting"),
    COOLING: ("▫", "c", "34", "cooling"),
    SETTLING: ("▒", "~", "33", "settling"),
    HELD: ("█", "#", "32", "held"),
    KEPT: ("▓", "k", "31", "kept"),
    FROZE: ("*", "*", "1;36", "frozen"),
    LOSS: ("!", "!", "1;31", "lost"),
    BREAK: ("✗", "x", "1;31", "broken"),
}
ORDER = {kind: place for place, kind in enumerate(SIGNS)}


def draw(picture: Timeline, width: int, *, colour: bool, ascii_only: bool) -> str:
    """The picture as text of at most `width` columns."""
    width = max(width, NARROWEST)
    names = [row.label for row in picture.rows] + (["frozen"] if picture.freezes else [])
    most = max(8, int(width * SHARE))
    margin = min(max(map(columns_of, names), default=0), most)
    across = width - margin - 2
    canvas = _Canvas(picture.start, picture.end, across, colour=colour, ascii_only=ascii_only)
    lines = []
    if picture.freezes:
        lines.append(f"{padded('frozen', margin)}  {canvas.line(picture.freezes, ())}")
    lines += [
        f"{padded(cut_to(row.label, margin), margin)}  {canvas.line((*picture.gaps, *row.bars), row.marks)}"
        for row in picture.rows
    ]
    blank = " " * (margin + 2)
    lines += [f"{blank}{line}".rstrip() for line in _axis(picture, across)]
    lines.append(blank + canvas.legend())
    return "\n".join(line.rstrip() for line in lines)


class _Canvas:
    def __init__(self, start: float, end: float, across: int, *, colour: bool, ascii_only: bool) -> None:
        self._start = start
        self._scale = across / (end - start)
        self._across = across
        self._colour = colour
        self._sign = 1 if ascii_only else 0
        self._used: set[str] = set()

    def line(self, bars: tuple[Bar, ...], marks: tuple[Mark, ...]) -> str:
        kinds: list[str | None] = [None] * self._across
        for bar in bars:
            first = self._column(bar.start)
            # What takes no time takes one column: a hold of a second is seen beside one of hours.
            for column in range(first, max(first, self._column(bar.end, is_end=True)) + 1):
                kinds[column] = _stronger(kinds[column], bar.kind)
        for mark in marks:
            column = self._column(mark.at, is_end=True)
            kinds[column] = _stronger(kinds[column], mark.kind)
        self._used.update(kind for kind in kinds if kind is not None)
        return self._painted(kinds)

    def _column(self, at: float, *, is_end: bool = False) -> int:
        column = int((at - self._start) * self._scale - (1e-9 if is_end else 0))
        return min(max(column, 0), self._across - 1)

    def _painted(self, kinds: list[str | None]) -> str:
        text, before = "", None
        for kind in kinds:
            if self._colour and kind != before:
                text += ("\x1b[0m" if before is not None else "") + (f"\x1b[{SIGNS[kind][2]}m" if kind else "")
                before = kind
            text += SIGNS[kind][self._sign] if kind else " "
        return text + ("\x1b[0m" if before is not None else "")

    def legend(self) -> str:
        """The signs that the lines so far have used."""
        named: dict[str, str] = {}
        for kind in sorted(self._used, key=lambda kind: -ORDER[kind]):
            named.setdefault(SIGNS[kind][3], f"{self._painted([kind])} {SIGNS[kind][3]}")
        return "  ".join(reversed(named.values()))


def _stronger(one: str | None, other: str) -> str:
    return other if one is None or ORDER[other] > ORDER[one] else one


def _axis(picture: Timeline, across: int) -> list[str]:
    """A line with a mark for each tick, and one with their labels."""
    scale = across / (picture.end - picture.start)
    line, labels = ["-"] * across, ""
    for tick in ticks(picture.start, picture.end, max(2, across // TICK_EVERY)):
        column = min(int((tick.at - picture.start) * scale), across - 1)
        if column < len(labels) + (1 if labels else 0) or column + len(tick.label) > across:
            continue
        line[column] = "+"
        labels = labels.ljust(column) + tick.label
    return ["".join(line), labels]
