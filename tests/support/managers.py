"""Shared by the tests of managers: notices as they arrive, and managers in separate processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

from distlock_core import LockManager, Notice
from tests.support.processes import BOUND, Output

# Answers every line on stdin: `?` with the value of have_lock(). The rest of the line is run.
_REMOTE = """
import json, os, sys, threading
from distlock_core import LockManager, connect
endpoint, prefix, options = sys.argv[1:]
realm = connect(endpoint, prefix)
manager = LockManager(realm, "x", **json.loads(options))
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "?":
        print("have", manager.have_lock(), flush=True)
    else:
        exec(line)
"""


class Heard:
    """A listener that records notices, and can be waited for."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        self._changed = threading.Condition()

    def __call__(self, notice: Notice) -> None:
        with self._changed:
            self.notices.append(notice)
            self._changed.notify_all()

    def until(self, *kinds: str, bound: float = BOUND) -> list[Notice]:
        """Wait until exactly these notices have arrived, in this order; fails for any other."""

        def come() -> bool:
            return len(self.notices) >= len(kinds)

        with self._changed:
            assert self._changed.wait_for(come, bound), f"only {self.notices}"
            assert [notice.kind for notice in self.notices] == list(kinds)
            return list(self.notices)


class Remote:
    """A manager in a separate process, for faults of processes."""

    def __init__(self, endpoint: str, prefix: str, **options: Any) -> None:
        argv = [sys.executable, "-c", _REMOTE, endpoint, prefix, json.dumps(options)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.output = Output(self.process.stdout)
        self.output.until("ready\n")

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")

    def answer(self) -> bool:
        return self.output.until(r"have (True|False)\n").group(1) == "True"

    def have_lock(self) -> bool:
        self.send("?")
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def holders(managers: list[LockManager]) -> list[LockManager]:
    return [manager for manager in managers if manager.have_lock()]
