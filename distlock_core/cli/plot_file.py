"""A timeline as a picture in a file, drawn by matplotlib: SVG, PNG, or SVG in a page of HTML."""

from __future__ import annotations

import html
import io
import os
import re
import warnings

from distlock_core.base.columns import columns_of, cut_to
from distlock_core.base.text import printable
from distlock_core.base.whole_file import write_whole
from distlock_core.cli.timeline import BREAK, FROZE, FROZEN, LOSS, UNSURE, WAITING, span_of, ticks
from distlock_core.errors import ConfigError
from distlock_core.model.record import COOLING, HELD, KEPT, SETTLING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.cli.timeline import Bar, Row, Timeline

KINDS = ("svg", "png", "html")
MISSING = (
    "a picture in a file takes matplotlib, which is missing here. To install it: pip install 'distlock-core[plot]'"
)
LONGEST_LABEL = 64  # columns
ACROSS = 10.0  # inches for the bars
LEAST_WIDTH = 1 / 500  # of the picture, which a bar takes at least
TICKS = 9
MANY = 30  # rows, for which the times are below and above them
MOST_INCHES = 600.0  # of height: matplotlib ends at 65,536 pixels
DPI = 100
# For each kind of bar: its colour, its hatch, and its name in the legend.
STYLES = {
    WAITING: ("#c9d8ea", "", "waiting"),
    HELD: ("#2f6db5", "", "holds the lock"),
    SETTLING: ("#8fb8e8", "////", "settling: done, its gate is not green yet"),
    COOLING: ("#dfe3e8", "....", "cooling down"),
    KEPT: ("#d9822b", "", "kept after a failure"),
    UNSURE: ("#f2f2f2", "xxxxx", "ended in here"),
    FROZEN: ("#7fd0e0", "", "frozen"),
}
MARKS = {
    BREAK: ("X", "#b3261e", "broken"),
    LOSS: ("v", "#6f1d8f", "lost: expired or deleted"),
    FROZE: ("*", "#00687a", "its failure froze the lock"),
}
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
)


def kind_of(path: str) -> str:
    """The kind of picture that a file's name asks for. Raises `ConfigError`."""
    kind = os.path.splitext(path)[1].lower().removeprefix(".")
    if kind not in KINDS:
        raise ConfigError(
            f"--plot={printable(path)}: the name of a picture ends in .svg, .png or .html; - is the terminal"
        )
    return kind


def check_that_it_can_be_drawn() -> None:
    """Load matplotlib. Raises `ConfigError` if it is not there."""
    try:
        import matplotlib as mpl  # noqa: F401
    except ImportError:
        raise ConfigError(MISSING) from None


def draw(picture: Timeline, path: str, title: str) -> None:
    """Write the picture to a file, whole or not at all. Raises `OSError`."""
    kind = kind_of(path)
    data = _render(picture, "svg" if kind == "html" else kind, title)
    if kind != "png":
        data = _with_titles(picture, data.decode()).encode()
    if kind == "html":
        data = _page(data.decode(), title).encode()
    mask = os.umask(0)
    os.umask(mask)
    write_whole(path, data, 0o666 & ~mask)


def _render(picture: Timeline, kind: str, title: str) -> bytes:
    import matplotlib as mpl

    # Text stays text in an SVG, so that the viewer's fonts are used; each element is named for its title.
    options = {"svg.fonttype": "none", "svg.hashsalt": "distlock", "hatch.linewidth": 0.6, "font.size": 9}
    with mpl.rc_context({**options, "font.family": _fonts()}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # characters for which no font is there
        figure = _figure(picture, title)
        data = io.BytesIO()
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(data, format=kind, dpi=DPI, metadata=metadata)
    return data.getvalue()


def _fonts() -> list[str]:
    from matplotlib import font_manager

    there = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in FONTS if name in there] or ["sans-serif"]


def _figure(picture: Timeline, title: str) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = [cut_to(row.label.strip(), LONGEST_LABEL) for row in picture.rows]
    count = max(len(labels), 1)
    each = 0.32 if count <= 10 else 0.24 if count <= 60 else 0.18
    left = 0.3 + 0.085 * max(map(columns_of, labels), default=4)
    above, below = 0.9 if count > MANY else 0.65, 0.95
    height = min(count * each + above + below, MOST_INCHES)
    width = left + ACROSS + 0.35
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    inside = height - above - below
    axes = figure.add_axes((left / width, below / height, ACROSS / width, inside / height))
    axes.set_xlim(picture.start, picture.end)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), labels)
    for row, text in zip(picture.rows, axes.get_yticklabels()):
        text.set_parse_math(False)
        text.set_fontweight("normal" if row.bars else "bold")
    marked = ticks(picture.start, picture.end, TICKS)
    axes.set_xticks([tick.at for tick in marked], [tick.label for tick in marked])
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    if count > MANY:
        axes.tick_params(axis="x", top=True, labeltop=True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.text(left / width, 1 - 0.28 / height, title, fontsize=11, weight="bold", parse_math=False)
    figure.text(left / width, 1 - 0.48 / height, span_of(picture.start, picture.end), fontsize=8, color="#555555")
    used = _fill(axes, picture)
    if used:
        axes.legend(
            handles=_legend(used),
            loc="upper left",
            bbox_to_anchor=(0, -0.38 / inside),
            borderaxespad=0,
            ncols=4,
            frameon=False,
            fontsize=8,
        )
    return figure


def _fill(axes: Any, picture: Timeline) -> set[str]:
    """Draw everything, each with a name for its title. Returns the kinds that were drawn."""
    used: set[str] = set()
    least = (picture.end - picture.start) * LEAST_WIDTH
    for number, bar in enumerate(picture.freezes):
        axes.axvspan(bar.start, max(bar.end, bar.start + least), color=STYLES[FROZEN][0], alpha=0.45, lw=0, zorder=0.5)
        axes.patches[-1].set_gid(f"f{number}")
        used.add(FROZEN)
    for number, bar in enumerate(picture.gaps):
        axes.axvspan(bar.start, bar.end, facecolor="#eeeeee", edgecolor="#bbbbbb", hatch="xx", lw=0, zorder=0.6)
        axes.patches[-1].set_gid(f"g{number}")
        used.add(UNSURE)
    for place, row in enumerate(picture.rows):
        # Waiting first, and what is short last: a hold of seconds is not hidden by its neighbours.
        for number, bar in sorted(enumerate(row.bars), key=lambda pair: (pair[1].kind != WAITING, -_length(pair[1]))):
            _bar(axes, place, bar, least, f"r{place}b{number}")
            used.add(bar.kind)
        for number, mark in enumerate(row.marks):
            shape, colour, _ = MARKS[mark.kind]
            (drawn,) = axes.plot(
                [mark.at], [place], shape, color=colour, markersize=8, markeredgecolor="white", clip_on=False, zorder=5
            )
            drawn.set_gid(f"r{place}m{number}")
            used.add(mark.kind)
    return used


def _length(bar: Bar) -> float:
    return bar.end - bar.start


def _bar(axes: Any, place: int, bar: Bar, least: float, name: str) -> None:
    colour, hatch, _ = STYLES[bar.kind]
    length = _length(bar) if bar.kind == WAITING else max(_length(bar), least)
    thin = bar.kind == WAITING
    axes.barh(
        place,
        length,
        left=bar.start,
        height=0.36 if thin else 0.66,
        color=colour,
        hatch=hatch,
        edgecolor="#5b7fa8" if hatch else colour,
        linewidth=0,
        zorder=2 if thin else 3,
        clip_on=False,  # a short hold at the very end reaches over the edge by its least width
    )[0].set_gid(name)


def _legend(used: set[str]) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=colour, hatch=hatch, edgecolor="#5b7fa8" if hatch else colour, linewidth=0, label=label)
        for kind, (colour, hatch, label) in STYLES.items()
        if kind in used
    ]
    for kind, (shape, colour, label) in MARKS.items():
        if kind in used:
            handles.append(Line2D([], [], marker=shape, color=colour, linestyle="", markersize=7, label=label))
    return handles


def _with_titles(picture: Timeline, svg: str) -> str:
    """The SVG with a title in each element, which browsers show under the pointer."""
    titles = {f"f{number}": bar.title for number, bar in enumerate(picture.freezes)}
    titles.update((f"g{number}", bar.title) for number, bar in enumerate(picture.gaps))
    for place, row in enumerate(picture.rows):
        titles.update(_titles_of(place, row))
    return re.sub(
        r'<g id="([fgr]\d+(?:[bm]\d+)?)">',
        lambda found: found[0] + (f"<title>{html.escape(titles[found[1]])}</title>" if found[1] in titles else ""),
        svg,
    )


def _titles_of(place: int, row: Row) -> dict[str, str]:
    bars = {f"r{place}b{number}": bar.title for number, bar in enumerate(row.bars)}
    return {**bars, **{f"r{place}m{number}": mark.title for number, mark in enumerate(row.marks)}}


def _page(svg: str, title: str) -> str:
    drawing = svg[svg.index("<svg") :]
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{html.escape(title)}</title></head>
<body style="margin: 1em; font-family: sans-serif">
{drawing}
</body>
</html>
"""
