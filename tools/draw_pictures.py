"""Draw the pictures of docs/history.md, from made-up histories: `make pictures`.

    python tools/draw_pictures.py docs

Times are fixed and in UTC, so that the same history gives the same picture.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from distlock_core.cli import plot_file
from distlock_core.cli.timeline import timeline
from distlock_core.history.entries import (
    BROKEN,
    EXPIRED,
    LEFT,
    RELEASED,
    THAWED,
    End,
    Moment,
    PastFreeze,
    PastHold,
    PastWait,
    Phase,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.history.entries import Entry

NOON = 1795262400  # 2026-11-21 12:00 UTC
LOCK = "percona_prod"
# Shares of the usual time that nodes take in turn, so that no two neighbours are equal.
UNEVEN = (1.0, 0.8, 1.15, 0.9, 0.7, 1.05, 0.85)


def main() -> int:
    folder = Path(sys.argv[1])
    os.environ["TZ"] = "UTC"
    time.tzset()
    for name, title, entries in (
        ("rollout-3.svg", "three nodes, each settles before the next", three()),
        ("rollout-40.svg", "forty nodes, two at a time, with a failure", forty()),
        ("rollout-mixed.svg", "seconds beside hours", mixed()),
    ):
        end = max((entry.ended.at.latest or 0 for entry in entries if entry.ended), default=0)
        plot_file.draw(timeline(entries, end + 60), str(folder / name), title)
    return 0


def exact(at: float) -> Moment:
    return Moment(int(at), int(at))


def hold(owner: str, began: float, since: float, until: float, settles: float = 0, lock: str = LOCK) -> PastHold:
    """A hold that was released, by an owner that had queued at `began`."""
    phases = [Phase("held", exact(since)), *([Phase("settling", exact(until - settles))] if settles else [])]
    ended = End(RELEASED, exact(until), owner)
    waited = int(since - began)
    return PastHold(lock, 0, owner, owner, 1, "r", "Upgrade RPMs", exact(since), waited, tuple(phases), ended)


def three() -> list[Entry]:
    took = (280, 240, 310)
    return [
        hold(f"db-{number + 1}", NOON, NOON + sum(took[:number]), NOON + sum(took[: number + 1]), 70)
        for number in range(3)
    ]


def forty() -> list[Entry]:
    entries: list[Entry] = []
    free = [float(NOON), float(NOON)]
    for number in range(40):
        slot = min((0, 1), key=lambda place: free[place])
        since, took = free[slot], 150 * UNEVEN[number % len(UNEVEN)]
        node = hold(f"web-{number + 1}", NOON, since, since + took, 30)._replace(slot=slot)
        if number == 11:
            node = node._replace(
                phases=node.phases[:1], ended=End(BROKEN, exact(since + 420), "admin", "its rack is off")
            )
            took = 420
        if number == 19:
            span = Moment(int(since + 40), int(since + took + 60))
            node = node._replace(phases=node.phases[:1], ended=End(EXPIRED, span, is_sure=False))
            took += 60
        if number == 25:
            kept = Phase("kept", exact(since + 60), "exit code 1 (Upgrade RPMs)")
            ended = End(RELEASED, exact(since + 500), "admin")
            node = node._replace(phases=(node.phases[0], kept), ended=ended)
            took = 500
            pause = PastFreeze(LOCK, "admin", "Look first", exact(since + 90), None, End(THAWED, exact(since + 480)))
            entries.append(pause)
            free = [max(one, since + 480) for one in free]
        free[slot] = max(free[slot], since + took)
        entries.append(node)
    entries.append(PastWait(LOCK, "web-41", "web-41", "", exact(NOON + 300), End(LEFT, exact(NOON + 1500))))
    return entries


def mixed() -> list[Entry]:
    long = hold("db-1", NOON, NOON, NOON + 7200)
    short: Sequence[Entry] = [
        hold("db-2", NOON + 600, NOON + 7200, NOON + 7202),
        hold("db-3", NOON + 900, NOON + 7202, NOON + 7320),
        hold("節点-東京-04", NOON + 1200, NOON + 7320, NOON + 7800),
        hold("a-node-whose-name-goes-on-and-on.rack-17.berlin.example.com", NOON + 3600, NOON + 7800, NOON + 8400),
        hold("backup", NOON + 1800, NOON + 1800, NOON + 1802, lock="backup"),
        hold("backup", NOON + 5400, NOON + 5400, NOON + 5405, lock="backup"),
    ]
    return [long, *short]


if __name__ == "__main__":
    sys.exit(main())
