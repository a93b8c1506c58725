"""The probe of one endpoint, against scripted answers that no etcd of the tests gives."""

from __future__ import annotations

import json
import re
import socket
from typing import Any, Callable

import pytest

from distlock_core.base.deadline import Patience
from distlock_core.etcd.address import parse_endpoint
from distlock_core.etcd.auth.access import Access
from distlock_core.etcd.facts import EndpointFacts
from distlock_core.etcd.http.pool import Pool
from distlock_core.etcd.http.probe import HttpProbe
from tests.support.scripted_server import Script, reply

HEADER = {"cluster_id": "7", "member_id": "9", "revision": "3", "raft_term": "2"}
STATUS = {"header": HEADER, "version": "9.9.9", "leader": "9", "raftTerm": "2", "raftIndex": "5", "dbSizeQuota": "4096"}
NO_USER = json.dumps({"code": 3, "message": "etcdserver: user name is empty"})
Answer = Callable[[str, str], bytes]  # from the path and the token of a request


def look(answer: Answer, **access: Any) -> EndpointFacts:
    """What a probe finds at a server with these answers."""

    def talk(client: socket.socket) -> None:
        request = client.recv(65536).decode()
        path = request.split(" ")[1]
        found = re.search(r"^Authorization: (\S+)", request, re.MULTILINE)
        client.sendall(answer(path, found[1] if found else ""))

    server = Unread(talk)
    try:
        patience = Patience.lasting(5)
        return HttpProbe(Pool(None), parse_endpoint(server.url), Access(**access), patience).look(b"/x")
    finally:
        server.close()


class Unread(Script):
    """A `Script` that leaves the request to its answer."""

    def _talk(self, client: socket.socket) -> None:
        with client:
            try:
                self._answer(client)
            except OSError:
                pass


def closing(status: str, body: str, *headers: str) -> bytes:
    return reply(status, body, "Connection: close", *headers)


def healthy(path: str, _: str) -> bytes:
    bodies = {
        "/v3/maintenance/status": json.dumps(STATUS),
        "/v3/cluster/member/list": json.dumps({"header": HEADER, "members": [{"ID": "9", "name": "n1"}]}),
        "/v3/kv/range": json.dumps({"header": HEADER}),
        "/metrics": "# HELP x\netcd_server_leader_changes_seen_total 3\netcd_server_quota_backend_bytes 8192\n",
        "/debug/vars": json.dumps({"cmdline": ["etcd", "--election-timeout", "2500"]}),
    }
    return closing("200 OK", bodies[path], "Date: Sat, 28 Nov 2026 23:22:56 GMT")


def test_all_that_an_etcd_tells_is_read() -> None:
    found = look(healthy)
    assert found.status is not None
    assert (found.status.version, found.status.quota, found.status.leader) == ("9.9.9", 4096, 9)
    assert (found.reads, found.wants_user, found.via) == ("", False, "gateway")
    assert found.counters is not None
    assert (found.counters.leader_changes, found.counters.quota, found.counters.started) == (3, 8192, None)
    assert (found.election_ms, [one.name for one in found.members]) == (2500, ["n1"])
    assert found.lead is not None


def test_a_status_that_wants_a_user_is_asked_again_as_that_user_and_the_read_is_not() -> None:
    asked = []

    def answer(path: str, token: str) -> bytes:
        asked.append((path, token))
        if path == "/v3/auth/authenticate":
            return closing("200 OK", json.dumps({"header": HEADER, "token": "t0ken"}))
        return healthy(path, token) if token else closing("400 Bad Request", NO_USER)

    found = look(answer, user="node", password="pw")
    assert found.status is not None
    assert (found.reads, found.wants_user) == ("", True)
    assert [token for path, token in asked if path == "/v3/kv/range"] == [""]
    assert [path for path, _ in asked].count("/v3/auth/authenticate") == 1
    assert [one.name for one in found.members] == ["n1"]


def test_without_a_user_that_is_said() -> None:
    found = look(lambda _path, _token: closing("400 Bad Request", NO_USER))
    assert found.status is None
    assert found.failure == "etcd refuses: etcdserver: user name is empty"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        ("200 OK", "{}", "it answers, but not as etcd does"),
        ("200 OK", '{"header":{"cluster_id":"x","member_id":"1"},"version":"1"}', "it answers, but not as etcd does"),
        ("200 OK", "hello", "it answers, but not as etcd does (HTTP 200)"),
        ("404 Not Found", "404", "it has no JSON gateway (404)"),
        ("503 Unavailable", "", "it answers, but not as etcd does (HTTP 503)"),
    ],
)
def test_what_is_no_status_is_a_failure_with_its_reason(status: str, body: str, words: str) -> None:
    found = look(lambda _path, _token: closing(status, body))
    assert found.status is None
    assert words in found.failure
    assert found.is_strange


@pytest.mark.parametrize("path", ["/metrics", "/debug/vars", "/v3/cluster/member/list"])
def test_what_is_not_served_is_unknown_and_the_rest_is_there(path: str) -> None:
    found = look(lambda asked, _: closing("404 Not Found", "no") if asked == path else healthy(asked, ""))
    assert found.status is not None
    assert found.reads == ""
    known = {"/metrics": found.counters, "/debug/vars": found.election_ms, "/v3/cluster/member/list": found.members}
    assert not known[path]
    assert all(value for other, value in known.items() if other != path)
