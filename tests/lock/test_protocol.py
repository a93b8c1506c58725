"""The protocol as a model, in every order of events: `protocol.pml`, checked exhaustively by Spin.

Each scenario has few clients and few faults, since everything that can happen with them is tried.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.needs import need

MODEL = Path(__file__).with_name("protocol.pml")

SCENARIOS = {
    "again and again": ("CLIENTS=2", "ATTEMPTS=2", "LOSSES=1", "GIVE_UPS=1"),
    "lost replies": ("CLIENTS=2", "LOSSES=3", "GIVE_UPS=1", "FULL=1"),
    "crashes": ("CLIENTS=3", "CRASHES=1"),
    "deletions by hand": ("CLIENTS=2", "ATTEMPTS=2", "HANDS=1"),
    "the Go original": ("CLIENTS=2", "LOSSES=1", "GO=1"),
    "shared": ("CLIENTS=3", "LOSSES=1", "SHARED=6"),
    "ranks": ("CLIENTS=3", "LOSSES=1", "URGENT=4"),
    "a freeze": ("CLIENTS=2", "LOSSES=1", "FREEZES=1"),
}
# For each clause of the protocol a scenario in which it is needed, and what happens without it.
CLAUSES = {
    "END_BEFORE_EXPIRY": ("crashes", "working"),
    "FREE_MUTEX": ("the Go original", "working"),
    "FREE_SLOT": ("crashes", "working"),
    "LEASE_OF_TICKET": ("crashes", "invalid end state"),
    "NONE_OLDER": ("deletions by hand", "ticket"),
    "NOTE_AS_READ": ("again and again", "over"),
    "NOT_FROZEN": ("a freeze", "frozen"),
    "NO_LOWER_RANK": ("ranks", "ticket"),
    "NO_SHARED_HOLDER": ("shared", "working"),
    "OWN_HOLD": ("deletions by hand", "hold=="),
    "RESOLVING": ("lost replies", "over"),
    "REVOKE_OF_TICKET": ("the Go original", "invalid end state"),
    "REWRITE_OF_NOTE": ("again and again", "over"),
    "TICKET_AS_KNOWN": ("lost replies", "over"),
    "WATCH_OF_FREEZE": ("a freeze", "invalid end state"),
    "WATCH_OF_HOLDS": ("the Go original", "invalid end state"),
    "WATCH_OF_MUTEX": ("the Go original", "invalid end state"),
    "WATCH_OF_TICKET_AHEAD": ("crashes", "invalid end state"),
}


class Checker:
    """Spin and a C compiler, in a directory of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._spin = need("spin")
        self._cc = need("gcc")
        self._defines: list[str] = []

    def violation(self, scenario: str, *, without: str = "") -> str:
        """The first violation that Spin finds, empty if there is none in any order of events."""
        self._defines = [f"-D{define}" for define in SCENARIOS[scenario]]
        if without:
            self._defines.append(f"-DWITHOUT_{without}")
        self._run(self._spin, "-a", *self._defines, str(MODEL))
        # Where all orders are tried, a fast checker is worth its compilation.
        self._run(self._cc, "-O0" if without else "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c")
        said = self._run(str(self._folder / "pan"), "-m500000")
        errors, states = re.search(r"errors: (\d+)", said), re.search(r"([\d.e+]+) states, stored", said)
        assert errors, said
        assert states, said
        if errors.group(1) == "0":
            assert "max search depth too small" not in said
            assert float(states.group(1)) > 1000, said
            return ""
        found = re.search(r"^pan:\d+: (.*)", said, re.MULTILINE)
        assert found, said
        return found.group(1)

    def trail(self) -> str:
        """The order of events that leads to the violation, its last steps."""
        steps = self._run(self._spin, "-t", "-p", "-g", *self._defines, str(MODEL)).splitlines()
        return "\n".join(steps[-80:])

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def checker(tmp_path: Path) -> Checker:
    return Checker(tmp_path)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_in_no_order_of_events_a_promise_is_broken_or_anybody_waits_for_ever(checker: Checker, scenario: str) -> None:
    violation = checker.violation(scenario)
    assert not violation, f"{violation}\n{checker.trail()}"


@pytest.mark.parametrize("clause", CLAUSES)
def test_without_any_one_of_its_clauses_the_protocol_breaks(checker: Checker, clause: str) -> None:
    scenario, consequence = CLAUSES[clause]
    assert consequence in checker.violation(scenario, without=clause)


def test_every_clause_of_the_model_is_left_out_once() -> None:
    assert set(re.findall(r"#(?:ifn?def) WITHOUT_(\w+)", MODEL.read_text())) == set(CLAUSES)
