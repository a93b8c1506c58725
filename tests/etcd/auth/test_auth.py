"""Users: no place, lock or lease is lost over an expired token; a missing right is named."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import AccessDenied, connect
from distlock_core.base.deadline import Patience
from distlock_core.etcd.auth import login
from distlock_core.keeper.handover import part_with
from distlock_core.testing import Cluster, Proxy
from tests.support.etcd_servers import ENDS
from tests.support.secured_site import BOUND, Run, Site, Spawn, line_of, one_line, queued, wait_until

Own = Callable[..., Site]


def forget_tokens(site: Site, user: str) -> None:
    """etcd forgets this user's tokens when his password is set, be it to what it was."""
    site.cluster.etcdctl("user", "passwd", user, "--interactive=false", input=f"pw-of-{user}\n")


def test_a_user_with_a_password_locks_waits_and_releases(auth_site: Site, spawn_distlock: Spawn) -> None:
    node = auth_site.node(f"locks-{auth_site.prefix[3:9]}")
    command = ("--lock-name=x", "--ttl=30", "--", "sh", "-c", "echo in; cat")
    holder = spawn_distlock(*command, env=node.env, stdin=subprocess.PIPE)
    assert line_of(holder) == "in"
    waiter = spawn_distlock(*command, env=node.env, stdin=subprocess.PIPE)
    queued(node, "x")
    holder.stdin.close()
    assert holder.wait(BOUND) == 0
    assert line_of(waiter) == "in"
    waiter.stdin.close()
    assert waiter.wait(BOUND) == 0
    assert auth_site.realm().list() == []


# Refusals.


def test_a_wrong_password_is_one_line_without_it(auth_site: Site, run_distlock: Run) -> None:
    node = auth_site.node(f"wrong-{auth_site.prefix[3:9]}")
    user = node.settings["user"]
    done = run_distlock("--lock-name=x", "--lock", env={**node.env, "DISTLOCK_PASSWORD": "hunter2"})
    assert done.returncode == 1
    assert one_line(done.stderr) == f"distlock: etcd refuses user '{user}': wrong password, or no such user"
    done = run_distlock("--list", "--json", env={**node.env, "DISTLOCK_USER": "nobody"})
    assert json.loads(done.stdout)["error"] == {
        "kind": "denied",
        "message": "etcd refuses user 'nobody': wrong password, or no such user",
    }
    assert done.stderr == ""


def test_a_client_without_a_user_is_advised_to_set_one(auth_site: Site) -> None:
    with pytest.raises(AccessDenied, match="It wants a user: set user, and a password"):
        auth_site.realm(user=None, password=None).list()


@pytest.mark.parametrize(
    ("grants", "said"),
    [
        (
            [("readwrite", "/elsewhere/")],
            "may not read {p}web, {p}web/shared/ to {p}web/slot0, {p}web/queue/*, {p}__freeze and 5 more;",
        ),
        ([("read", "")], "may not write {p}web;"),
        ([("read", ""), ("write", "web")], "may not write {p}__last/web;"),
        (
            [("readwrite", "web"), ("readwrite", "__last/web")],
            "may not read {p}__freeze, {p}__internal_lock/*, {p}__policy/web;",
        ),
        (
            [
                ("readwrite", "web"),
                ("readwrite", "__last/web"),
                ("read", "__freeze"),
                ("read", "__policy/web"),
                ("read", "__internal_lock/"),
            ],
            "may not read {p}__pruned/at;",
        ),
    ],
    ids=["nothing", "read only", "the lock alone", "no freeze", "no prune mark"],
)
def test_a_missing_right_is_named_with_its_key(auth_site: Site, grants: list[tuple[str, str]], said: str) -> None:
    p = auth_site.prefix
    named = [(right, key if key.startswith("/") else p + key) for right, key in grants]
    node = auth_site.node(f"lacks-{p[3:9]}", *named)
    with pytest.raises(AccessDenied) as caught, node.realm().lock("web"):
        pass
    assert caught.value.message == (
        f"etcd's user '{node.settings['user']}' {said.format(p=p)} docs/security.md has the role that it needs"
    )
    # Trying which right it is has written nothing.
    left = auth_site.cluster.etcdctl("get", "--prefix", "--keys-only", p).split()
    assert [key for key in left if not key.endswith("web")] == []


def test_a_right_taken_away_in_mid_wait_ends_the_wait(auth_newest: Site, spawn_distlock: Spawn) -> None:
    node = auth_newest.node(f"taken-{auth_newest.prefix[3:9]}")
    part_with(auth_newest.realm().lock("x").acquire(0))
    waiter = spawn_distlock("--lock-name=x", "--quiet", "--", "true", env=node.env)
    queued(auth_newest, "x")
    role = node.settings["user"]
    auth_newest.cluster.etcdctl("role", "revoke-permission", role, auth_newest.prefix, "--prefix=true")
    auth_newest.realm().unlock("x")  # so that it looks now, and not when its ten seconds are over
    _, said = waiter.communicate(timeout=BOUND)
    assert waiter.returncode == 1
    assert f"etcd's user '{role}' may not read " in one_line(said)


# Tokens that end.


@pytest.fixture(params=ENDS)
def own(request: pytest.FixtureRequest, own_auth: Own) -> Site:
    """An etcd with users of the test's own, of both versions."""
    return own_auth(version=request.param)


def in_line(site: Site, name: str) -> list[tuple[bytes, int]]:
    keys = site.cluster.etcdctl("get", "--prefix", f"{site.prefix}{name}/queue/", "-w", "json")
    return [(kv["key"], kv["create_revision"]) for kv in json.loads(keys).get("kvs", ())]


def restart(site: Site) -> None:
    """Restart etcd, within less than the lease of the holder needs: newer ones wait 7 s for the end of all watches."""
    (member,) = site.cluster.members
    member.stop(2)
    member.start()
    member.wait_ready()


FAULTS: dict[str, Callable[[Site], object]] = {
    "tokens forgotten": lambda site: forget_tokens(site, "node"),
    "etcd restarted": restart,
    "a role changed": lambda site: site.cluster.etcdctl("role", "grant-permission", "node", "read", "/more"),
}


def test_faults_of_users_cost_neither_a_place_nor_a_lock(own: Site, spawn_distlock: Spawn) -> None:
    node = own.node("node")
    command = ("--lock-name=x", "--ttl=10", "--", "sh", "-c", "echo in $DISTLOCK_TOKEN; cat")
    holder = spawn_distlock(*command, env=node.env, stdin=subprocess.PIPE)
    token = int(line_of(holder).split()[1])
    waiter = spawn_distlock(*command, env=node.env, stdin=subprocess.PIPE)
    queued(own, "x")
    places = in_line(own, "x")
    since = time.monotonic()
    for number, (what, fault) in enumerate(FAULTS.items(), 1):
        fault(own)
        # In all for longer than the holder's lease would live unrenewed.
        while time.monotonic() - since < 4 * number:
            assert holder.poll() is None, (what, holder.stderr.read())
            assert waiter.poll() is None, (what, waiter.stderr.read())
            time.sleep(0.2)
        assert in_line(own, "x") == places, what
        assert own.realm().verify("x", token), what
    # What is done now needs a token: the release, and the claim.
    holder.stdin.close()
    assert (holder.wait(BOUND), holder.stderr.read()) == (0, "")
    assert line_of(waiter).startswith("in ")
    # And the watch still tells at once that a lock is gone.
    own.realm().unlock("x")
    assert waiter.wait(BOUND) == 2
    assert own.realm().list() == []


def test_a_watch_is_opened_with_a_token_that_is_taken(own: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd refuses a watch with an old token by ending it; 3.4 gives no reason."""
    monkeypatch.setattr(login, "FRESH", 0.0)
    node = own.node("node")
    lost: list[Any] = []
    node.realm().lock("x", ttl=60, on_lost=lost.append).acquire(0)
    forget_tokens(own, "node")
    own.cluster.members[0].restart()  # which ends the watch too
    own.cluster.wait_ready()
    wait_until(lambda: own.cluster.members[0].metric("etcd_debugging_mvcc_watcher_total") >= 1, "it watches again")
    own.realm().unlock("x")
    wait_until(lambda: lost, "it is told of the loss")


@pytest.mark.parametrize("version", ENDS)
def test_a_signed_token_of_an_old_revision_is_renewed(own_auth: Own, tmp_path: Path, version: str) -> None:
    """JSON Web Tokens name the revision of users and roles: any change ends them all."""
    key, public = str(tmp_path / "jwt.key"), str(tmp_path / "jwt.pub")
    for words in (["genrsa", "-out", key, "2048"], ["rsa", "-in", key, "-pubout", "-out", public]):
        subprocess.run(["openssl", *words], check=True, capture_output=True)
    signed = f"--auth-token=jwt,pub-key={public},priv-key={key},sign-method=RS256,ttl=10m"
    site = own_auth(version=version, extra_args=[signed])
    node = site.node("node").realm()
    with node.lock("x", ttl=30) as lock:
        for number in range(2):
            site.cluster.etcdctl("role", "add", f"another-{number}")
            assert lock.verify()


def test_an_expired_token_is_renewed(own_auth: Own) -> None:
    site = own_auth(extra_args=["--auth-token-ttl=1"])
    realm = site.node("node").realm()
    with realm.lock("x") as lock:
        time.sleep(3)  # etcd looks for old tokens once a second
        assert lock.verify()


def test_authentication_can_be_enabled_under_a_client_with_a_user(
    start_etcd: Callable[..., Cluster], realm_prefix: str
) -> None:
    with start_etcd() as cluster:
        realm = connect(cluster.endpoints, realm_prefix, user="root", password="roots-very-own")
        with realm.lock("x") as lock:
            cluster.enable_auth()
            assert lock.verify()
        assert realm.list() == []


def test_a_login_is_made_once(auth_newest: Site) -> None:
    made = []
    realm = auth_newest.realm(transport="http")
    etcd: Any = realm._etcd
    authenticate: Callable[..., str] = etcd._authenticate

    def count(*arguments: Any) -> str:
        made.append(arguments)
        return authenticate(*arguments)

    etcd._login._authenticate = count
    with realm.lock("x", ttl=30):
        pass
    assert len(made) == 1


def test_a_lost_login_puts_no_write_in_doubt(own_auth: Own) -> None:
    """The login goes first, so what is to be written has not been sent when that gets no answer."""
    site = own_auth()
    with Proxy(site.cluster.endpoints[0]) as proxy:
        realm = site.realm(proxy.url)
        proxy.lose_reply("/v3/auth/authenticate", times=2)
        proxy.lose_request("/v3/auth/authenticate", times=1)
        assert realm._etcd.txn([], [], [], Patience.lasting(BOUND)).succeeded
