"""Plots the figures of a simulated fleet: ``python -m bench.picture FLEET.json PICTURE.svg``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pygal
from pygal.style import CleanStyle


def main() -> int:
    figures, picture = map(Path, sys.argv[1:])
    fleets = json.loads(figures.read_text())["fleets"]
    chart = pygal.XY(
        style=CleanStyle(font_family="sans-serif"),
        title="A fleet that stands for 100 locks of one realm",
        x_title="nodes",
        y_title="seconds from the release of all locks to the last node's end",
        legend_at_bottom=True,
        logarithmic=True,
        show_x_guides=True,
        js=(),
        no_prefix=True,
        width=800,
        height=480,
    )
    first = fleets[0]
    chart.add("measured", [(one["nodes"], one["drain"]) for one in fleets])
    linear = [(one["nodes"], first["drain"] * one["nodes"] / first["nodes"]) for one in fleets]
    chart.add("linear", linear, stroke_style={"dasharray": "6, 6"}, show_dots=False)
    picture.write_bytes(chart.render())
    return 0


if __name__ == "__main__":
    sys.exit(main())
