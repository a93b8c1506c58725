"""The history of a run: what each client asked for and got, the signs of life of its command, and every fault.

One JSON object a line, appended in one write, so that many processes can write one file. Moments are of
CLOCK_MONOTONIC, which is the same for all processes of a machine.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Event(NamedTuple):
    """`who` is a client, or "nemesis"; `what` is one of the words of `checker.py`."""

    at: float
    who: str
    what: str
    facts: dict[str, Any]

    def __str__(self) -> str:
        facts = " ".join(f"{key}={value}" for key, value in self.facts.items())
        return f"{self.at:12.3f} {self.who:8} {self.what:9} {facts}"


class History:
    """A file of events. Any thread may write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, who: str, what: str, **facts: object) -> None:
        line = json.dumps({"at": clock(), "who": who, "what": what, **facts}) + "\n"
        os.write(self._file, line.encode())

    def read(self) -> list[Event]:
        """All events so far, in order of time."""
        return read(self.path.read_text().splitlines())

    def news(self) -> list[Event]:
        """The events since the last call. For one thread."""
        with self.path.open() as file:
            file.seek(self._seen)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._seen += len(whole.encode())
        return read(whole.splitlines())

    def close(self) -> None:
        os.close(self._file)


def read(lines: Sequence[str]) -> list[Event]:
    found = []
    for line in lines:
        facts = json.loads(line)
        found.append(Event(facts.pop("at"), facts.pop("who"), facts.pop("what"), facts))
    return sorted(found, key=lambda event: event.at)


def clock() -> float:
    return time.clock_gettime(time.CLOCK_MONOTONIC)
