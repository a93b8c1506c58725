"""Three nodes upgrade their etcd members at the same time, while clients read.

With distlock only one member is down at any moment, the cluster keeps its quorum, and no read fails. With --no-lock
all three are down together. Everything is real: the etcd that stores the lock, the cluster that is upgraded, and the
distlock command. It needs no root, listens on loopback only, and removes everything that it created, but for
the picture in build/demo.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from typing import NamedTuple, NoReturn

from reader import Readers
from services import Services

from distlock_core.testing import BinaryNotFound, Cluster, NotReady, NotStarted

LOCK_NAME = "target"
ELECTION = 0.6  # seconds: the election timeout of the cluster that is upgraded
# A leader that is stopped hands over in 0.1 s, even on a busy machine; a leader that vanishes is replaced in 1 s, the
# upper end of the randomized election timeout. Twice that is enough for a slow machine, and far less than the time for
# which three nodes are away together.
PATIENCE = 2.0  # seconds until a read counts as failed
BOUND = 75.0  # seconds for all three upgrades; about 18 are usual
BAR = 48
HERE = os.path.dirname(os.path.abspath(__file__))
PICTURES = os.path.join(os.path.dirname(os.path.dirname(HERE)), "build", "demo")
DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")


class Stopped(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP."""


class Failed(Exception):
    """The demo could not be run to its end."""


class Window(NamedTuple):
    """When one node asked for its turn, and when its turn began and ended; Unix times."""

    node: str
    waited_from: float
    held_from: float
    to: float


def main() -> int:
    """0 if all went as promised (or without a lock), 1 if not, 130 if stopped."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--no-lock", action="store_true", help="show what happens without distlock")
    args = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        return demo(locked=not args.no_lock)
    except (BinaryNotFound, NotStarted, NotReady, Failed, subprocess.SubprocessError, TimeoutError, OSError) as e:
        print(f"demo: {e}", file=sys.stderr)
        return 1
    except Stopped:
        print("demo: stopped; everything it made has been removed", file=sys.stderr)
        return 130


def demo(locked: bool) -> int:
    if locked and not os.access(DISTLOCK, os.X_OK):
        raise Failed(f"{DISTLOCK} is missing. Run it with: make demo")
    say("starting etcd for the locks (1 member), and the cluster to upgrade (3 members)")
    with contextlib.ExitStack() as stack:
        locks = stack.enter_context(Cluster.start(fsync=False))
        target = stack.enter_context(Cluster.start(3, fsync=False, election_ms=round(1000 * ELECTION)))
        services = stack.enter_context(Services(target.members))
        readers = stack.enter_context(Readers(target.endpoints, PATIENCE))
        readers.wait_for_reads(20)
        say("three nodes upgrade now, " + ("each under the same lock" if locked else "WITHOUT a lock"))
        windows = upgrade_all(locks, target, services, locked)
        readers.wait_for_reads(readers.reads + 20)
        code = report(windows, readers, locked)
        if locked:
            draw(locks)
    return code


def upgrade_all(locks: Cluster, target: Cluster, services: Services, locked: bool) -> list[Window]:
    """One process a node, all started at the same time."""
    env = environment(locks)
    nodes: dict[str, subprocess.Popen[str]] = {}
    began = time.time()
    try:
        for member in target.members:
            command = node_command(member.name, services.address, ",".join(target.endpoints), locked)
            # In a separate session: Ctrl-C reaches only the demo, which ends the nodes in order.
            nodes[member.name] = subprocess.Popen(
                command, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        return [finish(name, node, began) for name, node in nodes.items()]
    finally:
        for node in nodes.values():
            end(node)


def environment(locks: Cluster) -> dict[str, str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}
    return {**env, "DISTLOCK_ENDPOINTS": ",".join(locks.endpoints)}


def node_command(name: str, services: str, endpoints: str, locked: bool) -> list[str]:
    restart = [sys.executable, os.path.join(HERE, "node.py"), "restart", name, services, endpoints]
    if not locked:
        return restart
    reason = f"--reason=restart {name} for its upgrade"
    return [DISTLOCK, f"--lock-name={LOCK_NAME}", f"--id={name}", reason, "--", *restart]


def finish(name: str, node: subprocess.Popen[str], began: float) -> Window:
    try:
        said, _ = node.communicate(timeout=max(0.1, began + BOUND - time.time()))
    except subprocess.TimeoutExpired:
        raise Failed(f"{name} has not finished after {BOUND:g} s") from None
    if node.returncode != 0:
        raise Failed(f"{name} ended with {node.returncode}")
    times = json.loads(said.splitlines()[-1])
    return Window(name, began, times["began"], times["ended"])


def report(windows: list[Window], readers: Readers, locked: bool) -> int:
    start, stop_ = min(w.waited_from for w in windows), max(w.to for w in windows)
    scale = BAR / (stop_ - start)
    what = "held from" if locked else "down from"
    print(f"\n  node  waited from  {what}       to   . waiting  # {'holds the lock' if locked else 'restarting'}")
    for w in sorted(windows, key=lambda w: w.held_from):
        waiting = round((w.held_from - start) * scale)
        bar = "." * waiting + "#" * max(1, round((w.to - start) * scale) - waiting)
        times = [f"{t - start:6.1f} s" for t in (w.waited_from, w.held_from, w.to)]
        print(f"  {w.node:<4}     {times[0]}   {times[1]} {times[2]}   {bar}")
    failed = f"failed {readers.failures} (no answer in {PATIENCE:g} s)"
    print(f"\n  reads {readers.reads}, slowest {readers.slowest:.2f} s, {failed}\n")
    if not locked:
        if readers.failures:
            say("this is what the lock is for: without it all nodes restart at once, and the cluster loses its quorum")
        else:
            say("no read failed this time, by luck: all nodes restarted at once, and nothing protected the quorum")
        return 0
    ordered = sorted(windows, key=lambda w: w.held_from)
    if any(later.held_from < earlier.to for earlier, later in zip(ordered, ordered[1:])):
        say("two nodes held the lock at the same time: this must never happen")
        return 1
    if readers.failures:
        say(f"{readers.failures} reads failed under the lock: this must never happen")
        return 1
    say("one node at a time, and no read failed. See the difference: make demo LOCK=no")
    return 0


def draw(locks: Cluster) -> None:
    """Show what happened as etcd has it in its own revisions, here and, where matplotlib is installed, in a file."""
    look = [DISTLOCK, "--history", f"--lock-name={LOCK_NAME}", "--quiet"]
    say(f"the same, as distlock reads it back from etcd: distlock --history --lock-name={LOCK_NAME} --plot=-")
    print(flush=True)
    subprocess.run([*look, "--plot=-"], env=environment(locks), check=True, timeout=BOUND)
    print(flush=True)
    if importlib.util.find_spec("matplotlib") is not None:
        os.makedirs(PICTURES, exist_ok=True)
        path = os.path.join(PICTURES, "rollout.svg")
        subprocess.run([*look, f"--plot={path}"], env=environment(locks), check=True, timeout=BOUND)
        say(f"and as a picture: {os.path.relpath(path)}")


def end(node: subprocess.Popen[str]) -> None:
    """End a node that still runs: with SIGTERM first, so that distlock releases; then its whole group."""
    if node.poll() is None:
        node.terminate()
        try:
            node.wait(5)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(node.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    node.wait()
    if node.stdout is not None:
        node.stdout.close()


def stop(_number: int, _frame: object) -> NoReturn:
    # Only once: the clean-up is bounded, and a second Ctrl-C must not interrupt it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def say(message: str) -> None:
    print(f"demo: {message}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
