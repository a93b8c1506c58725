"""etcd as the nemesis sees it: over the gateway, with nothing of distlock in between."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any, NamedTuple

from tests.support.faults.history import History


class Key(NamedTuple):
    name: str
    value: str
    created: int
    lease: int


class Gateway:
    """Calls of the JSON gateway, answered by the first member that can."""

    def __init__(self, endpoints: Sequence[str], prefix: str) -> None:
        self._endpoints = list(endpoints)
        self._prefix = prefix

    def call(self, path: str, body: dict[str, Any], timeout: float = 3.0) -> dict[str, Any]:
        """Raises `OSError` when no member answers with success."""
        last: OSError = OSError("no endpoints")
        for endpoint in self._endpoints:
            request = urllib.request.Request(endpoint + path, json.dumps(body).encode(), method="POST")
            try:
                with urllib.request.urlopen(request, timeout=timeout) as reply:
                    found: dict[str, Any] = json.load(reply)
                    return found
            except (OSError, ValueError) as error:
                last = OSError(f"{endpoint}{path}: {error}")
        raise last

    def all_keys(self) -> list[Key]:
        """All keys of the realm."""
        end = self._prefix[:-1] + chr(ord(self._prefix[-1]) + 1)
        reply = self.call("/v3/kv/range", {"key": _encoded(self._prefix), "range_end": _encoded(end)})
        return [
            Key(
                base64.b64decode(kv["key"]).decode(),
                base64.b64decode(kv.get("value", "")).decode(errors="replace"),
                int(kv["create_revision"]),
                int(kv.get("lease", 0)),
            )
            for kv in reply.get("kvs", ())
        ]

    def delete(self, key: Key) -> bool:
        """Delete this key if it is still the one that was created then; return whether it was."""
        same = {"key": _encoded(key.name), "target": "CREATE", "create_revision": str(key.created), "result": "EQUAL"}
        delete = {"requestDeleteRange": {"key": _encoded(key.name)}}
        return bool(self.call("/v3/kv/txn", {"compare": [same], "success": [delete]}).get("succeeded"))

    def put(self, key: str, value: str) -> None:
        self.call("/v3/kv/put", {"key": _encoded(key), "value": _encoded(value)})

    def remove(self, key: str) -> None:
        self.call("/v3/kv/deleterange", {"key": _encoded(key)})

    def revoke(self, lease: int) -> None:
        self.call("/v3/lease/revoke", {"ID": str(lease)})

    def compact(self) -> None:
        """Forget all revisions but the last hundred."""
        revision = int(self.call("/v3/kv/range", {"key": _encoded("-")})["header"]["revision"])
        if revision > 200:
            self.call("/v3/kv/compaction", {"revision": str(revision - 100)})


class Observer:
    """Writes every change of the realm into the history, from etcd's own watch, in the order of its revisions."""

    def __init__(self, etcdctl: str, endpoints: Sequence[str], prefix: str, history: History) -> None:
        command = [etcdctl, "--endpoints", ",".join(endpoints), "watch", "--prefix", prefix, "-w", "json", "--rev=1"]
        environment = {"ETCDCTL_API": "3", "PATH": "/usr/bin:/bin"}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        self._history = history
        self.has_seen = ""  # the key of the last change
        self._thread = threading.Thread(target=self._follow, name="observer")
        self._thread.start()

    def _follow(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            for event in json.loads(line).get("Events") or ():
                kv = event["kv"]
                key, revision = base64.b64decode(kv["key"]).decode(), int(kv["mod_revision"])
                self.has_seen = key
                if event.get("type") in (1, "DELETE"):
                    self._history.write("etcd", "gone", key=key, revision=revision)
                else:
                    owner = (
                        base64.b64decode(kv.get("value", ""))
                        .decode(errors="replace")
                        .partition(";")[2]
                        .partition(";")[0]
                    )
                    created = int(kv["create_revision"])
                    self._history.write("etcd", "put", key=key, revision=revision, created=created, owner=owner)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._thread.join()


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
