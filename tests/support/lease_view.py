"""Views for tests of leases: a lock in etcd, its lease, the end of a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any, Callable, NamedTuple

from tests.support.etcd_view import Etcd, b64, text
from tests.support.processes import BOUND, line_of, one_line, pause, python, wait_until
from tests.support.processes import is_running as lives

__all__ = [
    "BOUND",
    "DISTLOCK",
    "LATE",
    "Run",
    "Seen",
    "as_user",
    "line_of",
    "lives",
    "one_line",
    "pause",
    "python",
    "stays",
    "wait_dead",
    "wait_until",
]

DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")
Run = Callable[..., "subprocess.CompletedProcess[str]"]
LATE = 10.0  # seconds by which a busy etcd may be late to expire a lease


class Key(NamedTuple):
    """A key that holds a lock."""

    owner: str
    details: dict[str, Any]
    lease: int
    token: int


class Seen(Etcd):
    """One etcd; names are under the prefix, names that begin with a slash are whole keys."""

    def key(self, name: str) -> Key | None:
        """A lock in etcd, None if it is free."""
        found = self.ask("/v3/kv/range", {"key": b64(self.whole(name))}).get("kvs", ())
        if not found:
            return None
        _, owner, details = text(found[0]["value"]).split(";", 2)
        return Key(owner, json.loads(details), int(found[0].get("lease", 0)), int(found[0]["create_revision"]))

    def held(self, name: str) -> Key:
        key = self.key(name)
        assert key is not None, f"nobody holds {name}"
        return key

    def wait_gone(self, name: str, bound: float = BOUND) -> float:
        """Return the seconds until the lock is free."""
        began = time.monotonic()
        wait_until(lambda: self.key(name) is None, f"{name} gone", bound)
        return time.monotonic() - began

    def delete(self, name: str) -> None:
        self.unlock(name)

    def put(self, name: str, owner: str = "other") -> None:
        """Hold a lock as another owner."""
        self.lock(name, owner, "by hand")

    def revoke(self, lease: int) -> None:
        self.ask("/v3/lease/revoke", {"ID": lease})

    def ttl(self, lease: int) -> int:
        """The granted TTL of a lease, 0 if there is no such lease."""
        return int(self.ask("/v3/lease/timetolive", {"ID": lease}).get("grantedTTL", 0))


def as_user(number: int) -> tuple[str, ...]:
    """Arguments of `setpriv` for a user who may read what is installed in root's home, and nothing else of others."""
    return (
        *(f"--reuid={number}", f"--regid={number}", "--clear-groups"),
        *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
    )


def stays(condition: Callable[[], Any], what: str, seconds: float) -> None:
    """Check repeatedly, for `seconds`, that the condition stays true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), f"no more: {what}"
        pause(0.1)


def wait_dead(pid: int, bound: float = BOUND) -> None:
    wait_until(lambda: not lives(pid), f"the end of process {pid}", bound)
