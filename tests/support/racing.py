"""Races: processes that compete for locks, each a fork of one that has their program imported.

    python -m tests.support.racing PROGRAM RUNS

PROGRAM is a module beside this one, with a function `main`. RUNS is a JSON list: the arguments of each process.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.paths import ROOT


class Race:
    """The processes of one race."""

    def __init__(self, program: str, runs: Sequence[Sequence[str]]) -> None:
        words = [sys.executable, "-m", "tests.support.racing", program, json.dumps(runs)]
        self._process = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def end(self, bound: float) -> None:
        """Wait until all of them have ended; each must have ended well."""
        _, said = self._process.communicate(timeout=bound)
        assert self._process.returncode == 0, said

    def kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.communicate()


@contextmanager
def race(program: str, runs: Sequence[Sequence[str]]) -> Iterator[Race]:
    """A race that does not outlast the block: its end() is for the block to call."""
    started = Race(program, runs)
    try:
        yield started
    finally:
        started.kill()


def main(program: str, runs: str) -> None:
    run = importlib.import_module(f"tests.support.{program}").main
    pids = []
    for words in json.loads(runs):
        pid = os.fork()
        if pid == 0:
            run(*words)
            return
        pids.append(pid)
    ended = [os.waitpid(pid, 0)[1] for pid in pids]
    sys.exit(any(ended))


if __name__ == "__main__":
    main(*sys.argv[1:])
