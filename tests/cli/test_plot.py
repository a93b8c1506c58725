"""`--history --plot`: the picture of a history, in a file or in the terminal."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.cli import plot_file
from distlock_core.cli.timeline import WAITING, Bar, Row, Timeline
from distlock_core.model.record import HELD
from distlock_core.testing import Cluster
from tests.support.needs import missing
from tests.support.pseudo_terminal import Terminal
from tests.support.realm_view import BOUND, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def locks(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def matplotlib() -> None:
    if importlib.util.find_spec("matplotlib") is None:
        missing("matplotlib is missing. To install it: make .venv/.ready")


@pytest.fixture
def rolled_out(locks: Realm) -> None:
    """Two nodes that held db, one of which was broken, and a freeze."""
    with locks.lock("db", "node-1", "Upgrade <1>"):
        pass
    locks.lock("db", "node-2").acquire()
    locks.unlock("db", "admin", force=True)
    locks.freeze(owner="admin", reason="Look first")


def titles(svg: str) -> list[str]:
    return [one.text or "" for one in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]


@pytest.mark.usefixtures("matplotlib", "rolled_out")
def test_a_picture_has_every_owner_and_says_what_each_bar_is(run_distlock: Run, tmp_path: Path) -> None:
    path = tmp_path / "rollout.svg"
    done = run_distlock("--history", f"--plot={path}", "--lock-name=db")
    assert (done.returncode, done.stdout) == (0, "")
    assert one_line(done.stderr).startswith("distlock: the history ")
    svg = path.read_text(encoding="utf-8")
    assert all(word in svg for word in ("node-1", "node-2", "db under "))
    found = titles(svg)
    assert any(re.fullmatch(r'db held by node-1 for \d+s: "Upgrade <1>"', title) for title in found)
    assert "broken by admin" in found
    assert 'the realm frozen by admin: "Look first"' in found
    assert sorted(other.name for other in tmp_path.iterdir()) == ["rollout.svg"]  # no half-written file


@pytest.mark.usefixtures("matplotlib", "rolled_out")
def test_png_and_html_are_what_their_names_say(run_distlock: Run, tmp_path: Path) -> None:
    for name in ("rollout.png", "rollout.HTML"):
        assert run_distlock("--history", f"--plot={tmp_path / name}", "--quiet").returncode == 0
    assert (tmp_path / "rollout.png").read_bytes().startswith(PNG)
    page = (tmp_path / "rollout.HTML").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "broken by admin" in titles(page[page.index("<svg") : page.index("</svg>") + 6])


@pytest.mark.usefixtures("matplotlib", "rolled_out")
def test_a_file_that_cannot_be_written_is_an_error_in_one_line(run_distlock: Run, tmp_path: Path) -> None:
    path = tmp_path / "no" / "rollout.svg"
    done = run_distlock("--history", f"--plot={path}")
    assert done.returncode == 1
    assert one_line(done.stderr) == f"distlock: cannot write {path}: No such file or directory"


@pytest.mark.usefixtures("rolled_out")
def test_without_matplotlib_one_line_says_what_to_install(run_distlock: Run, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')\n")
    env = {"PYTHONPATH": str(tmp_path)}
    done = run_distlock("--history", f"--plot={tmp_path}/rollout.svg", env=env)
    assert done.returncode == 1
    assert one_line(done.stderr) == (
        "distlock: a picture in a file takes matplotlib, which is missing here. "
        "To install it: pip install 'distlock-core[plot]'"
    )
    assert run_distlock("--history", "--plot=-", env=env).returncode == 0  # the terminal needs nothing


@pytest.mark.usefixtures("rolled_out")
def test_in_a_pipe_it_is_80_columns_of_text_without_colours(run_distlock: Run) -> None:
    done = run_distlock("--history", "--plot=-", "--lock-name=db", env={"PYTHONUTF8": "1", "COLUMNS": None})
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["frozen", "node-1", "node-2"]
    assert "✗" in lines[2]
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in done.stdout
    narrow = run_distlock("--history", "--plot=-", env={"COLUMNS": "50"})
    assert max(map(len, narrow.stdout.splitlines())) <= 50


@pytest.mark.usefixtures("rolled_out")
def test_where_the_terminal_has_no_utf_8_it_is_ascii(run_distlock: Run) -> None:
    env = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = run_distlock("--history", "--plot=-", "--lock-name=db", "--quiet", env=env)
    assert done.stdout.isascii()
    assert "x broken" in done.stdout


@pytest.mark.usefixtures("rolled_out")
@pytest.mark.parametrize(("more", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_on_a_terminal_it_has_its_width_and_colours_unless_they_are_not_wanted(
    distlock_env: dict[str, str], more: dict[str, str], *, is_coloured: bool
) -> None:
    inherited = {key: value for key, value in distlock_env.items() if key != "NO_COLOR"}
    env = {**inherited, "TERM": "xterm", "PYTHONUTF8": "1", **more}
    distlock = os.path.join(os.path.dirname(sys.executable), "distlock")
    terminal = Terminal([distlock, "--history", "--plot=-", "--quiet"], env, columns=120)
    try:
        terminal.until("broken")
        assert terminal.process.wait(BOUND) == 0
        printed = terminal.output.text
    finally:
        terminal.close()
    assert ("\x1b[" in printed) == is_coloured
    plain = re.sub(r"\x1b\[[\d;]*m", "", printed)
    assert 110 < max(map(len, plain.splitlines())) <= 120


def test_nothing_to_draw_is_an_error(run_distlock: Run, realm_prefix: str) -> None:
    done = run_distlock("--history", "--plot=-", "--lock-name=db")
    assert (done.returncode, done.stdout) == (1, "")
    expected = f"distlock: there is nothing to draw: nothing is known of db under {realm_prefix}"
    assert one_line(done.stderr) == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--plot=rollout.pdf"], "the name of a picture ends in .svg, .png or .html; - is the terminal"),
        (["--plot=-", "--follow"], "--plot draws a picture, and --follow prints entries: use one of them"),
        (["--plot=-", "--json"], "--plot draws a picture, and --json prints entries: use one of them"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_etcd_is_asked(run_distlock: Run, options: list[str], said: str) -> None:
    done = run_distlock("--history", *options, env={"DISTLOCK_ENDPOINTS": "http://127.0.0.1:1"})
    assert done.returncode == 1
    assert said in done.stderr + done.stdout


@pytest.mark.usefixtures("matplotlib")
def test_a_short_hold_at_the_very_end_is_seen(tmp_path: Path) -> None:
    from matplotlib.image import imread

    def colours(*bars: Bar) -> int:
        rows = tuple(Row(f"node-{number}", (bar,), ()) for number, bar in enumerate(bars))
        picture = Timeline(rows, bars[0].start, bars[-1].end)
        plot_file.draw(picture, str(tmp_path / "x.png"), "db")
        pixels = imread(tmp_path / "x.png")[:, :, :3].reshape(-1, 3) * 255
        colour = bytes.fromhex(plot_file.STYLES[HELD][0][1:])
        return int((abs(pixels - list(colour)) < 1).all(axis=1).sum())

    long = Bar(HELD, 1795262400, 1795269600)
    short = colours(long, Bar(HELD, long.end, long.end + 2)) - colours(long, Bar(WAITING, long.end, long.end + 2))
    assert short > 30  # pixels, of a bar of 2 x 20
