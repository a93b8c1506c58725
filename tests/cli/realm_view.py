"""A realm in etcd as the tests of the command see it: past the code under test, over etcd's JSON gateway."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import time
import urllib.parse
from typing import Any, Callable

from distlock_core.testing import Cluster

BOUND = 30.0  # seconds that anything may take which is to happen at once; the machine may be busy


class RealmView:
    """What stands under one prefix, and what has been written there."""

    def __init__(self, cluster: Cluster, prefix: str) -> None:
        self.prefix = prefix
        self._address = urllib.parse.urlsplit(cluster.endpoints[0]).netloc

    def put(self, name: str, value: str | bytes) -> None:
        """Write what stands behind the prefix."""
        data = value if isinstance(value, bytes) else value.encode()
        self._post("/v3/kv/put", {"key": _b64(self.prefix + name), "value": base64.b64encode(data).decode()})

    def delete(self, name: str) -> None:
        self._post("/v3/kv/deleterange", {"key": _b64(self.prefix + name)})

    def entries(self) -> dict[str, bytes]:
        """Every key under the prefix, without it, but for the notes of how a hold ended."""
        found = self._range().get("kvs", [])
        pairs = {_text(kv["key"])[len(self.prefix) :]: base64.b64decode(kv.get("value", "")) for kv in found}
        return {key: value for key, value in pairs.items() if not key.startswith("__last/")}

    def all_keys(self) -> dict[str, bytes]:
        """Every key under the prefix, without it."""
        found = self._range().get("kvs", [])
        return {_text(kv["key"])[len(self.prefix) :]: base64.b64decode(kv.get("value", "")) for kv in found}

    def token(self, name: str) -> int:
        """The create_revision of a key."""
        kvs = self._range().get("kvs", [])
        return next(int(kv["create_revision"]) for kv in kvs if _text(kv["key"]) == self.prefix + name)

    def record(self, name: str) -> tuple[str, dict[str, Any]]:
        """The owner of a lock of ours, and the JSON object behind it."""
        _, owner, details = self.entries()[name].decode().split(";", 2)
        return owner, json.loads(details)

    def revision(self) -> int:
        return int(self._range()["header"]["revision"])

    def written_since(self, revision: int) -> list[str]:
        """Every key under the prefix that was written or deleted after a revision, in order, by the watch."""
        end = "__end_of_what_a_test_looks_at"
        self.put(end, "")
        connection = http.client.HTTPConnection(self._address, timeout=BOUND)
        create = {"key": _b64(self.prefix), "range_end": _b64(_after(self.prefix)), "start_revision": revision + 1}
        try:
            connection.request("POST", "/v3/watch", json.dumps({"create_request": create}))
            stream = connection.getresponse()
            written: list[str] = []
            while end not in written:
                answer = json.loads(stream.readline())["result"]
                written += [_text(event["kv"]["key"])[len(self.prefix) :] for event in answer.get("events", [])]
        finally:
            connection.close()
        self.delete(end)
        return written[: written.index(end)]

    def _range(self) -> dict[str, Any]:
        return self._post("/v3/kv/range", {"key": _b64(self.prefix), "range_end": _b64(_after(self.prefix))})

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection(self._address, timeout=BOUND)
        try:
            connection.request("POST", path, json.dumps(body))
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
            assert response.status == 200, answer
            return answer
        finally:
            connection.close()


class Holding:
    """A distlock that holds a lock, because its command reads stdin to the end."""

    COMMAND = ("--", "sh", "-c", "echo $DISTLOCK_TOKEN; exec cat >/dev/null")

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        line = process.stdout.readline()  # the fixture ends the process when the test's own bound is over
        assert line, f"it was not started: {process.stderr.read()}"
        self.token = int(line)

    def let_go(self) -> int:
        """Let the command end; return distlock's exit code."""
        self.process.stdin.close()
        return self.process.wait(BOUND)


def eventually(check: Callable[[], Any], what: str) -> Any:
    """The first result of the check that is true."""
    deadline = time.monotonic() + BOUND
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < deadline, f"it did not come: {what}"
        time.sleep(0.02)


def one_line(text: str) -> str:
    """The only line of a text."""
    assert text.endswith("\n"), text
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text[:-1]


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode(errors="replace")


def _after(prefix: str) -> str:
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
