"""docs/security.md: the roles that it names are sufficient, and allow no more than it states."""

from __future__ import annotations

import base64
import os
import re
import shlex
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.testing import Cluster, etcd_version
from tests.support.etcd_servers import ENDS
from tests.support.paths import ROOT
from tests.support.secured_site import BOUND, Run, Site, Spawn, line_of, one_line, queued, wait_until

PAGE = ROOT / "docs" / "security.md"
DENIED = "etcdserver: permission denied"
NO_USER = "etcdserver: user name is empty"
TRUST_STRANGERS = ("3.4.23", "3.5.1")  # the newest 3.5, 3.6 and 3.7 want a user in every call but the login


def documented(mark: str, site: Site, user: str) -> Site:
    """A node that has just the role which the page gives, under the test's own prefix and names."""
    (block,) = re.findall(rf"<!-- role: {mark} -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    role = f"role-of-{user}"
    grants = 0
    for line in block.splitlines():
        words = shlex.split(line.replace("/distlock/", site.prefix))
        assert words.pop(0) == "etcdctl"
        if words[:2] == ["role", "grant-permission"]:
            words[2] = role
            site.cluster.etcdctl(*words)
            grants += 1
        elif words[:2] == ["role", "add"]:
            site.cluster.etcdctl("role", "add", role)
    assert grants
    site.cluster.etcdctl("user", "add", user, "--interactive=false", input=f"pw-of-{user}\n")
    site.cluster.etcdctl("user", "grant-role", user, role)
    return Site(site.cluster, site.prefix, user=user, password=f"pw-of-{user}")


def test_users_are_switched_on_as_the_page_says(
    start_etcd: Callable[..., Cluster], spawn_distlock: Spawn, run_distlock: Run
) -> None:
    cluster = start_etcd()
    env = {"DISTLOCK_ENDPOINTS": cluster.endpoints[0], "DISTLOCK_PREFIX": "/distlock/", "DISTLOCK_LOCKNAME": "x"}
    holder = spawn_distlock("--quiet", "--", "sh", "-c", "echo in; cat", env=env, stdin=subprocess.PIPE)
    assert line_of(holder) == "in"
    (block,) = re.findall(r"<!-- role: root -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for line in block.splitlines():
        words = shlex.split(line)
        assert words.pop(0) == "etcdctl"
        # Without a terminal etcdctl reads the password from stdin only with an option.
        asked = ["--interactive=false"] if words[:2] == ["user", "add"] else []
        cluster.etcdctl(*words, *asked, input="secret\n")
    refused = run_distlock("--list", env=env)
    assert (refused.returncode, one_line(refused.stderr) in PAGE.read_text().splitlines()) == (1, True), refused
    # So is one that holds a lock by then.
    holder.stdin.close()
    assert holder.wait(BOUND) == 1
    assert "It wants a user" in holder.stderr.read()
    root = {**env, "DISTLOCK_USER": "root", "DISTLOCK_PASSWORD": "secret"}
    assert run_distlock("--unlock", env=root).returncode == 0
    assert run_distlock("--", "true", env=root).returncode == 0


def everything(node: Site, name: str, run_distlock: Run, spawn_distlock: Spawn, tmp_path: Path) -> None:
    """All that a node does with one lock."""
    env = {**node.env, "DISTLOCK_LOCKNAME": name}

    def well(*options: str) -> str:
        done = run_distlock(*options, env=env)
        assert (done.returncode, done.stderr) == (0, ""), options
        return done.stdout

    assert well("--", "echo", "in") == "in\n"
    assert well("--ttl=30", "--slots=2", "--heartbeat=20", "--", "echo", "in") == "in\n"
    well("--cooldown=60", "--", "true")
    well("--unlock", "--quiet")
    assert run_distlock("--on-failure=keep", "--quiet", "--", "false", env=env).returncode == 1
    well("--unlock", "--quiet")
    well("--lock", "--id=me", "--reason=because")
    assert "because" in well("--show")
    inside = os.path.join(os.path.dirname(sys.executable), "distlock")
    assert well("--id=me", "--", inside, "--verify", f"--lock-name={name}") == ""
    waiter = spawn_distlock("--quiet", "--ttl=30", "--", "sh", "-c", "echo in; cat", env=env, stdin=subprocess.PIPE)
    queued(node, name)
    well("--unlock", "--id=me")
    assert line_of(waiter) == "in"
    waiter.stdin.close()
    assert (waiter.wait(BOUND), waiter.stderr.read()) == (0, "")
    process = subprocess.Popen(["sleep", "300"])
    try:
        well("--lock", f"--while-pid={process.pid}", f"--log-file={tmp_path / 'log'}")
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not node.realm().show(name).holders, "the keeper lets go")


def test_the_role_of_a_node_is_enough(
    auth_site: Site, run_distlock: Run, spawn_distlock: Spawn, tmp_path: Path
) -> None:
    node = documented("realm", auth_site, f"node-{auth_site.prefix[3:9]}")
    everything(node, "percona_prod", run_distlock, spawn_distlock, tmp_path)
    assert run_distlock("--list", env=node.env).returncode == 0


def test_the_role_for_one_lock_is_enough_for_that_lock_alone(
    auth_newest: Site, run_distlock: Run, spawn_distlock: Spawn, tmp_path: Path
) -> None:
    node = documented("lock", auth_newest, f"one-{auth_newest.prefix[3:9]}")
    everything(node, "percona_prod", run_distlock, spawn_distlock, tmp_path)
    for options in (["--lock-name=another", "--lock"], ["--list"]):
        done = run_distlock(*options, env=node.env)
        assert done.returncode == 1
        assert f"distlock: etcd's user '{node.settings['user']}' may not read " in one_line(done.stderr)
    token = token_of(node)
    assert say(node, "/v3/kv/put", {"key": b64(f"{node.prefix}__freeze"), "value": b64("1;x;{}")}, token) == DENIED


def test_a_user_who_may_only_read_waits_until_a_lock_is_free(auth_site: Site, spawn_distlock: Spawn) -> None:
    monitor = auth_site.node(f"monitor-{auth_site.prefix[3:9]}", ("read", auth_site.prefix))
    lock = auth_site.realm().lock("percona_prod", "node-1").acquire(0)
    waiter = spawn_distlock("--wait", "--lock-name=percona_prod", env=monitor.env)
    assert "waiting until percona_prod is free: " in waiter.stderr.readline()
    lock.release()
    assert waiter.wait(BOUND) == 0


# Refused operations.


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def token_of(site: Site) -> str:
    status, answer = site.ask(
        "/v3/auth/authenticate", {"name": site.settings["user"], "password": site.settings["password"]}
    )
    assert status == 200
    return str(answer["token"])


def say(site: Site, path: str, message: dict[str, Any], token: str = "") -> str:
    """etcd's refusal, or an empty text."""
    status, answer = site.ask(path, message, token)
    return "" if status == 200 else str(answer["message"])


def test_a_node_cannot_leave_its_realm(auth_site: Site) -> None:
    mine = documented("realm", auth_site, f"in-{auth_site.prefix[3:9]}")
    other = auth_site.node(f"out-{auth_site.prefix[3:9]}", ("readwrite", f"/other{auth_site.prefix}"))
    token, theirs = token_of(mine), token_of(other)
    outside, lease = b64(f"/other{auth_site.prefix}x"), str(int.from_bytes(auth_site.prefix[3:9].encode(), "big"))
    assert say(other, "/v3/lease/grant", {"ID": lease, "TTL": "60"}, theirs) == ""
    assert say(other, "/v3/kv/put", {"key": outside, "lease": lease}, theirs) == ""
    refused = {
        "/v3/kv/range": {"key": outside},
        "/v3/kv/put": {"key": outside},
        "/v3/kv/deleterange": {"key": outside},
        "/v3/lease/revoke": {"ID": lease},
        "/v3/auth/user/list": {},
        "/v3/auth/user/changepw": {"name": mine.settings["user"], "password": "another"},
        "/v3/auth/role/grant": {"name": "x", "perm": {"permType": "READWRITE", "key": outside}},
        "/v3/auth/disable": {},
        "/v3/cluster/member/add": {"peerURLs": ["http://127.0.0.1:9"]},
    }
    assert {path: say(mine, path, message, token) for path, message in refused.items()} == dict.fromkeys(
        refused, DENIED
    )
    on_their_lease = {"key": b64(f"{mine.prefix}x"), "lease": lease}
    assert say(mine, "/v3/kv/put", on_their_lease, token) == DENIED
    # Inside of a transaction older versions do not ask. Whose lease it is may not revoke it any more.
    old = etcd_version(mine.cluster.etcd) in TRUST_STRANGERS
    value = {"success": [{"request_put": on_their_lease}]}
    assert say(mine, "/v3/kv/txn", value, token) == ("" if old else DENIED)
    assert say(other, "/v3/lease/revoke", {"ID": lease}, theirs) == (DENIED if old else "")
    elsewhere = Site(other.cluster, f"/other{auth_site.prefix}", **other.settings)
    lock = elsewhere.realm().lock("held", ttl=60).acquire(0)
    held = elsewhere.ask("/v3/kv/range", {"key": b64(f"{elsewhere.prefix}held")}, theirs)[1]["kvs"][0]
    theirs_too = {"key": b64(f"{mine.prefix}y"), "lease": held["lease"]}
    assert say(mine, "/v3/kv/txn", {"success": [{"request_put": theirs_too}]}, token) == ("" if old else DENIED)
    lock.release()  # deletes the key itself
    assert elsewhere.ask("/v3/kv/range", {"key": b64(f"{elsewhere.prefix}held")}, theirs)[1].get("kvs") is None


# Operations that etcd allows without rights.


def test_operations_that_etcd_allows_without_a_user(own_auth: Callable[..., Site], need: Callable[..., str]) -> None:
    """The page warns of this, of older versions."""
    for version in ENDS:
        allows = etcd_version(need(f"etcd {version}")) in TRUST_STRANGERS
        site = own_auth(version=version)
        token, key = token_of(site), b64(f"{site.prefix}x")
        assert say(site, "/v3/lease/grant", {"ID": "77", "TTL": "60"}, token) == ""
        assert say(site, "/v3/kv/put", {"key": key, "lease": "77"}, token) == ""
        assert say(site, "/v3/kv/range", {"key": key}) == NO_USER
        assert say(site, "/v3/kv/deleterange", {"key": key}) == NO_USER
        assert say(site, "/v3/lease/revoke", {"ID": "77"}) == NO_USER
        assert say(site, "/v3/auth/user/list", {}) == NO_USER
        if allows:
            assert site.ask("/v3/lease/timetolive", {"ID": "77", "keys": True})[1]["keys"] == [key]
            assert site.ask("/v3/lease/keepalive", {"ID": "77"})[1]["result"]["TTL"] == "60"
        else:
            assert say(site, "/v3/lease/timetolive", {"ID": "77", "keys": True}) == NO_USER
            assert site.ask("/v3/lease/keepalive", {"ID": "77"})[1]["error"]["message"] == NO_USER
        for path, message in (
            ("/v3/cluster/member/list", {}),
            ("/v3/lease/leases", {}),
            ("/v3/lease/grant", {"ID": "78", "TTL": "60"}),
            ("/v3/kv/compaction", {"revision": "2"}),
            ("/v3/maintenance/alarm", {"action": "ACTIVATE", "alarm": "NOSPACE"}),
        ):
            assert say(site, path, message) == ("" if allows else NO_USER), (version, path)
        if allows:
            assert "database space exceeded" in say(site, "/v3/kv/put", {"key": key}, token)
            assert say(site, "/v3/auth/user/list", {}) == ""
        node, alarm = token_of(site.node("node")), {"action": "ACTIVATE", "alarm": "NOSPACE"}
        for path, message in (("/v3/kv/compaction", {"revision": "3"}), ("/v3/maintenance/alarm", alarm)):
            assert allows or say(site, path, message, node) == DENIED


def test_a_client_without_a_certificate_is_refused(picky: Cluster, realm_prefix: str) -> None:
    assert picky.tls is not None
    stranger = ssl.create_default_context(cafile=picky.tls.authority.cacert)
    site = Site(picky, realm_prefix)

    request = urllib.request.Request(picky.endpoints[0] + "/v3/cluster/member/list", b"{}")
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)):
        urllib.request.urlopen(request, timeout=BOUND, context=stranger)
    assert say(site, "/v3/cluster/member/list", {}) == ""
