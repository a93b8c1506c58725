"""The fencing token: what is written after a lock was lost is refused with it, and does harm without it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support.etcd_view import Etcd, b64
from tests.support.paths import ROOT
from tests.support.process_trees import LOST, Spawn
from tests.support.processes import BOUND

EXAMPLE = ROOT / "examples" / "counter.py"
LEASED = ("--lock-name=x", "--ttl=3")


@pytest.mark.parametrize("fenced", [True, False])
def test_a_count_is_lost_under_a_stopped_supervisor_only_without_the_token(
    spawn_distlock: Spawn, in_etcd: Etcd, realm_prefix: str, fenced: bool
) -> None:
    counter = f"{realm_prefix}counters/visits"
    count = (sys.executable, str(EXAMPLE), counter, *(() if fenced else ("--unfenced",)))
    late = spawn_distlock(*LEASED, "--", *count, "--work=2")
    assert late.stdout is not None
    assert late.stderr is not None
    assert late.stdout.readline() == "read 0\n"
    (command,) = Path(f"/proc/{late.pid}/task/{late.pid}/children").read_text().split()
    other = spawn_distlock(*LEASED, "--timeout=60", "--", *count)
    for pid in (late.pid, int(command)):
        os.kill(pid, signal.SIGSTOP)
    said, errors = other.communicate(timeout=BOUND)
    assert (other.returncode, said) == (0, "read 0\nwrote 1\n"), errors
    os.kill(int(command), signal.SIGCONT)  # and not its supervisor, which would kill it
    if fenced:
        assert "does not hold the lock any more: nothing was written" in late.stderr.readline()
    else:
        assert late.stdout.readline() == "wrote 1\n"  # two counts, and the counter says one
    os.kill(late.pid, signal.SIGCONT)
    assert late.wait(BOUND) == LOST
    (found,) = in_etcd.ask("/v3/kv/range", {"key": b64(counter)})["kvs"]
    assert found["value"] == b64("1")
    third = spawn_distlock(*LEASED, "--", *count)
    assert third.communicate(timeout=BOUND)[0] == "read 1\nwrote 2\n"
