"""The examination in the library: what it asks, and that nothing stops it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from distlock_core import Cancelled, Realm, aio, connect
from distlock_core.doctor import asking, members
from distlock_core.doctor.finding import Examination
from distlock_core.errors import ConfigError
from distlock_core.etcd import probing
from distlock_core.etcd.facts import EndpointFacts
from distlock_core.testing import Cluster

OF_SETTINGS = {"setting", "settings", "config_file", "password_file", "key_file", "ttl"}


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def grades(found: Examination) -> dict[str, list[str]]:
    by_check: dict[str, list[str]] = {}
    for one in found.findings:
        by_check.setdefault(one.check, []).append(one.status)
    return by_check


def test_a_realm_is_examined_without_the_settings_of_a_command(realm: Realm) -> None:
    with realm.lock("x", "node-1"):
        found = realm.doctor()
        assert not OF_SETTINGS & grades(found).keys()
        assert (found.settings, found.realm) == ((), realm.prefix)
        assert next(one for one in found.findings if one.check == "locks").facts == {"held": 1, "waiting": 0}
        named = realm.doctor(["y"])
        assert next(one for one in named.findings if one.check == "locks").facts == {"held": 0, "waiting": 0}
    assert found.having("bad") == tuple(one for one in found.findings if one.status == "bad")
    with pytest.raises(ConfigError):
        realm.doctor("a/b")


def test_asyncio_has_it_too(etcd: Cluster, realm_prefix: str) -> None:
    async def examine() -> Examination:
        async with aio.connect(etcd.endpoints, realm_prefix) as realm:
            return await realm.doctor("x")

    assert grades(asyncio.run(examine()))["quorum"] == ["ok"]


def test_a_part_that_fails_is_a_finding_and_the_others_are_there(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise MemoryError("no more")

    monkeypatch.setattr(members, "judge_members", fails)
    monkeypatch.setattr(asking, "ask_rights", fails)
    found = realm.doctor()
    failed = [
        one for one in found.findings if "this check failed, a bug in distlock: MemoryError: no more" in one.message
    ]
    assert [(one.check, one.status) for one in failed] == [("endpoint", "bad"), ("rights", "bad")]
    assert grades(found)["locks"] == ["ok"]


def test_a_look_that_fails_or_hangs_is_the_failure_of_its_endpoint(
    realm: Realm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> EndpointFacts:
        raise RuntimeError("odd")

    monkeypatch.setattr(probing.Probing, "_look", fails)
    found = realm.doctor()
    (endpoint,) = [one for one in found.findings if one.check == "endpoint"]
    assert (endpoint.status, "it was not looked at: RuntimeError: odd" in endpoint.message) == ("bad", True)
    over = threading.Event()

    def hangs(*_: Any) -> EndpointFacts:
        over.wait(30)
        return EndpointFacts("http://late")

    monkeypatch.setattr(probing, "SPARE", 0.1)
    monkeypatch.setattr(probing.Probing, "_look", hangs)
    hung = connect(["http://127.0.0.1:1"], realm.prefix, connect_timeout=0.2).doctor()
    over.set()
    assert "it was not looked at: timed out" in next(one.message for one in hung.findings if one.check == "endpoint")


def test_a_cancel_ends_it(realm: Realm) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        realm.doctor(cancel=cancel)


def test_it_costs_one_commit_and_changes_no_revision(quiet_etcd: Cluster) -> None:
    realm = connect(quiet_etcd.endpoints)
    realm.lock("x", "node-1", step=True).acquire()
    before = quiet_etcd.members[0].metric("etcd_server_proposals_committed_total")
    revision = realm.explain("x").revision
    realm.doctor()
    realm.doctor("x")
    assert quiet_etcd.members[0].metric("etcd_server_proposals_committed_total") - before == 2
    assert realm.explain("x").revision == revision
