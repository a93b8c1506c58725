"""A tree of processes that ignores requests to end and shows signs of life, and a next holder that notes its start."""

from __future__ import annotations

import json
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from distlock_core.base.deadline import now
from distlock_core.testing import Cluster
from tests.support.processes import BOUND, Output, Process, is_running, pause, python, wait_until

PERIOD = 0.004  # seconds between two signs of life
SLOW = 8.0  # seconds by which a busy machine may delay an immediate event; below the 10 s between reads
LOST = 2  # exit code

# A command, its child in a new session, and a daemon whose parent has ended. Each writes the time of its last sign of
# life into a file named by its pid. Only SIGKILL ends them; with the argument "kind" the command itself records SIGTERM
# and ends.
_TREE = """
import os, signal, struct, sys, time
folder, kind = sys.argv[1:3]
numbers = [signal.SIGTERM, signal.SIGHUP]
for number in numbers:
    signal.signal(number, signal.SIG_IGN)

def live():
    path = os.path.join(folder, str(os.getpid()))
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    while True:
        os.pwrite(fd, struct.pack("d", time.clock_gettime(time.CLOCK_BOOTTIME)), 0)
        if os.path.exists(os.path.join(folder, "end")):
            os._exit(0)
        time.sleep(PERIOD)

if os.fork() == 0:
    os.setsid()
    live()
between = os.fork()
if between == 0:
    os.setsid()
    if os.fork() == 0:
        live()
    os._exit(0)
os.waitpid(between, 0)
while len(os.listdir(folder)) < 2:
    time.sleep(PERIOD)

def note(number, frame):
    with open(os.path.join(folder, "term"), "w") as file:
        file.write(repr(time.clock_gettime(time.CLOCK_BOOTTIME)))
    os._exit(0)

if kind == "kind":
    signal.signal(signal.SIGTERM, note)
print("tree", os.getpid(), flush=True)
live()
""".replace("PERIOD", str(PERIOD))

# What has been up for as long as CLOCK_BOOTTIME says, in hundredths, cut off: never later than it was.
STAMP = ("sh", "-c", "read up rest </proc/uptime; echo started $up")


class Tree:
    """The command and its descendants, as seen from outside."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()

    def command(self, *, kind: bool = False) -> list[str]:
        return python(_TREE, str(self._folder), "kind" if kind else "stubborn")

    def until_ready(self, process: Process) -> int:
        """Return the command's pid as soon as the whole tree is running."""
        pid = int(Output(process.stdout).until(r"tree (\d+)\n").group(1))
        wait_until(lambda: len(self.pids()) == 3, "three signs of life")
        return pid

    def pids(self) -> list[int]:
        return [int(name) for name in os.listdir(self._folder) if name.isdigit()]

    def last_sign_of_life(self) -> float:
        """On the clock of `now()`."""
        signs = [struct.unpack("d", (self._folder / str(pid)).read_bytes() or bytes(8)) for pid in self.pids()]
        return max(float(sign) for (sign,) in signs)

    def told_to_end(self) -> float:
        """When the command got SIGTERM."""
        return float((self._folder / "term").read_text())

    def living(self) -> list[int]:
        return [pid for pid in self.pids() if is_running(pid)]

    def end(self) -> None:
        """Let the whole tree end by itself."""
        (self._folder / "end").touch()

    def close(self) -> None:
        self.end()
        try:
            wait_until(lambda: not self.living(), "the tree's end", 2.0)
        except AssertionError:
            for pid in self.living():
                os.kill(pid, signal.SIGKILL)


@contextmanager
def growing_tree(folder: Path) -> Iterator[Tree]:
    tree = Tree(folder)
    try:
        yield tree
    finally:
        tree.close()


class Next:
    """A distlock that waits for the lock, and whose command records its start."""

    def __init__(self, process: Process) -> None:
        self.process = process
        Output(process.stderr).until("waiting:")

    @classmethod
    def command(cls, name: str) -> tuple[str, ...]:
        return (f"--lock-name={name}", "--", *STAMP)

    def started(self) -> float:
        """When its command was started, on the clock of `now()`; rounded down."""
        return self.stamp(self.process)

    @staticmethod
    def stamp(process: Process) -> float:
        """The time printed by `STAMP`."""
        return float(Output(process.stdout).until(r"started (\S+)\n").group(1))


class Key:
    """A lock's key, read with etcdctl."""

    def __init__(self, cluster: Cluster, prefix: str, name: str = "x") -> None:
        self._cluster = cluster
        self.name = prefix + name

    def found(self) -> dict[str, object] | None:
        kvs = json.loads(self._cluster.etcdctl("get", self.name, "-w", "json")).get("kvs")
        return kvs[0] if kvs else None

    def lease(self) -> str:
        """Its lease as etcdctl names it."""
        found = self.found()
        assert found is not None
        return f"{int(str(found['lease'])):x}"

    def token(self) -> int | None:
        found = self.found()
        return None if found is None else int(str(found["create_revision"]))

    def revoke(self) -> None:
        self._cluster.etcdctl("lease", "revoke", self.lease())

    def delete(self) -> None:
        self._cluster.etcdctl("del", self.name)

    def replace(self) -> None:
        self._cluster.etcdctl("put", self.name, '1;another;{"run": "another"}')


def finish(process: Process, bound: float = BOUND) -> tuple[int, str]:
    """The exit code and all of stderr, read to its end, so that no process has it open any more."""
    said = Output(process.stderr).all(bound)
    return process.wait(bound), said


def until_after(moment: float) -> None:
    """Wait until a moment on the clock of `now()`: for tests about the passing of time itself."""
    while (left := moment - now()) >= 0:
        pause(left + 0.001)


def figure(what: str, seconds: float) -> None:
    """A measured time, to be seen with `pytest -rP`."""
    print(f"{what}: {seconds * 1000:.0f} ms")


Spawn = Callable[..., "Process"]
