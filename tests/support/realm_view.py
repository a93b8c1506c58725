"""The content of a realm, read over etcd's JSON gateway without the code under test."""

from __future__ import annotations

import base64
import http.client
import json
from typing import Any

from tests.support.etcd_view import Etcd, after, b64, is_note, text
from tests.support.processes import BOUND, Process, one_line
from tests.support.processes import wait_until as eventually

__all__ = ["BOUND", "Holding", "RealmView", "eventually", "one_line"]


class RealmView(Etcd):
    """The keys under one prefix, and their history."""

    def put(self, name: str, value: str | bytes) -> None:
        """Write a key below the prefix."""
        self.ask("/v3/kv/put", {"key": b64(self.prefix + name), "value": b64(value)})

    def delete(self, name: str) -> None:
        self.unlock(name)

    def entries(self) -> dict[str, bytes]:
        """Every key under the prefix, without it, but for the notes of how a hold ended."""
        return {key: value for key, value in self.all_keys().items() if not is_note(key)}

    def all_keys(self) -> dict[str, bytes]:
        """Every key under the prefix, without it."""
        return {key: base64.b64decode(kv.get("value", "")) for key, kv in self.found().items()}

    def token(self, name: str) -> int:
        """The create_revision of a key."""
        return int(self.found()[name]["create_revision"])

    def record(self, name: str) -> tuple[str, dict[str, Any]]:
        """The owner and the JSON object in the record of a lock."""
        _, owner, details = self.entries()[name].decode().split(";", 2)
        return owner, json.loads(details)

    def revision(self) -> int:
        return int(self.ask("/v3/kv/range", {"key": b64(self.prefix)})["header"]["revision"])

    def written_since(self, revision: int) -> list[str]:
        """Every key under the prefix that was written or deleted after a revision, in order, by the watch."""
        end = "__end_of_what_a_test_looks_at"
        self.put(end, "")
        connection = http.client.HTTPConnection(self._address, timeout=BOUND)
        create = {"key": b64(self.prefix), "range_end": b64(after(self.prefix)), "start_revision": revision + 1}
        try:
            connection.request("POST", "/v3/watch", json.dumps({"create_request": create}))
            stream = connection.getresponse()
            written: list[str] = []
            while end not in written:
                answer = json.loads(stream.readline())["result"]
                written += [text(event["kv"]["key"])[len(self.prefix) :] for event in answer.get("events", [])]
        finally:
            connection.close()
        self.delete(end)
        return written[: written.index(end)]


class Holding:
    """A distlock that holds a lock while its command reads stdin."""

    COMMAND = ("--", "sh", "-c", "echo $DISTLOCK_TOKEN; exec cat >/dev/null")

    def __init__(self, process: Process) -> None:
        self.process = process
        line = process.stdout.readline()  # the fixture ends the process when the test's own bound is over
        assert line, f"it was not started: {process.stderr.read()}"
        self.token = int(line)

    def let_go(self) -> int:
        """Let the command end; return distlock's exit code."""
        self.process.stdin.close()
        return self.process.wait(BOUND)
