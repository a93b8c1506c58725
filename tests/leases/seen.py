"""What tests of leases see from outside: keys and leases in etcd, and processes. No code that is under test."""

from __future__ import annotations

import base64
import http.client
import json
import os
import select
import subprocess
import sys
import time
import urllib.parse
from typing import Any, Callable, NamedTuple

from distlock_core.testing import Cluster

BOUND = 30.0  # seconds after which what is to happen at once counts as missing; a busy machine is slow
LATE = 10.0  # seconds by which a busy etcd may notice late that a lease has run out


class Key(NamedTuple):
    """A key that holds a lock."""

    owner: str
    details: dict[str, Any]
    lease: int
    token: int


class Seen:
    """One etcd, over its JSON gateway; names are under the prefix, names that begin with a slash are whole keys."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self.prefix = prefix
        self._address = urllib.parse.urlsplit(cluster.endpoints[0]).netloc
        self._leases_before = self.leases()

    def names(self, prefix: str | None = None) -> list[str]:
        """The keys under the prefix, without it and without the notes on how a hold ended."""
        start = self.prefix if prefix is None else prefix
        end = start[:-1] + chr(ord(start[-1]) + 1)
        found = self._ask("/v3/kv/range", {"key": _b64(start), "range_end": _b64(end), "keys_only": True})
        names = [_text(kv["key"])[len(start) :] for kv in found.get("kvs", ())]
        return [name for name in names if "__last" not in name]

    def key(self, name: str) -> Key | None:
        """A lock as it stands in etcd, None where nobody holds it."""
        found = self._ask("/v3/kv/range", {"key": _b64(self._whole(name))}).get("kvs", ())
        if not found:
            return None
        _, owner, details = _text(found[0]["value"]).split(";", 2)
        return Key(owner, json.loads(details), int(found[0].get("lease", 0)), int(found[0]["create_revision"]))

    def held(self, name: str) -> Key:
        key = self.key(name)
        assert key is not None, f"nobody holds {name}"
        return key

    def wait_gone(self, name: str, bound: float = BOUND) -> float:
        """Return the seconds until nobody holds the lock."""
        began = time.monotonic()
        wait_until(lambda: self.key(name) is None, f"{name} gone", bound)
        return time.monotonic() - began

    def delete(self, name: str) -> None:
        self._ask("/v3/kv/deleterange", {"key": _b64(self._whole(name))})

    def put(self, name: str, owner: str = "other") -> None:
        """Hold a lock as somebody else."""
        record = f"{int(time.time())};{owner};" + json.dumps({"reason": "by hand", "run": os.urandom(4).hex()})
        self._ask("/v3/kv/put", {"key": _b64(self._whole(name)), "value": _b64(record)})

    def revoke(self, lease: int) -> None:
        self._ask("/v3/lease/revoke", {"ID": lease})

    def ttl(self, lease: int) -> int:
        """The TTL that was granted to a lease, 0 where there is no such lease."""
        return int(self._ask("/v3/lease/timetolive", {"ID": lease}).get("grantedTTL", 0))

    def leases(self) -> set[int]:
        return {int(lease["ID"]) for lease in self._ask("/v3/lease/leases", {}).get("leases", ())}

    def new_leases(self) -> set[int]:
        return self.leases() - self._leases_before

    def assert_nothing_left(self) -> None:
        assert self.names() == []
        assert self.new_leases() == set()

    def _whole(self, name: str) -> str:
        return name if name.startswith("/") else self.prefix + name

    def _ask(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._address, timeout=BOUND)
        try:
            connection.request("POST", path, json.dumps(message))
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
            assert response.status == 200, answer
            return answer
        finally:
            connection.close()


def python(code: str, *arguments: str) -> list[str]:
    """A command: a small Python program that starts fast."""
    return [sys.executable, "-I", "-S", "-c", code, *arguments]


def wait_until(condition: Callable[[], Any], what: str, bound: float = BOUND) -> Any:
    """Return what `condition` says as soon as it is true: for what sends no event of its own, such as /proc."""
    deadline = time.monotonic() + bound
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {bound:g} s: {what}"
        pause(0.02)


def stays(condition: Callable[[], Any], what: str, seconds: float) -> None:
    """Look again and again for so many seconds that it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), f"no more: {what}"
        pause(0.1)


def pause(seconds: float) -> None:
    select.select([], [], [], seconds)


def state_of(pid: int) -> str:
    """R, S, D, T, Z as in /proc, "" for no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def lives(pid: int) -> bool:
    """True for a process that is there, and no zombie."""
    return state_of(pid) not in ("", "Z", "X")


def wait_dead(pid: int, bound: float = BOUND) -> None:
    wait_until(lambda: not lives(pid), f"the end of process {pid}", bound)


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line on a process's stdout, with a bound."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], BOUND)[0], "it has said nothing"
    line: str = process.stdout.readline()
    return line.rstrip("\n")


def one_line(text: str) -> str:
    """The only line of a text."""
    assert text.endswith("\n"), text
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text[:-1]


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
