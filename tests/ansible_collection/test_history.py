"""distlock_info with `history: true`: what happened, read from etcd's own revisions."""

from __future__ import annotations

import json
from typing import Any, Callable

import pytest
import yaml

from distlock_core import Realm, connect
from distlock_core.history.entries import End, Gap, Moment, PastFreeze, PastHold, PastWait, Reach
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe
from tests.support.paths import ROOT
from tests.support.playbooks import Played

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
INFO = "distlock.distlock.distlock_info"


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


def test_the_module_returns_what_happened(playbook: Callable[..., Played], realm: Realm) -> None:
    with realm.lock("x", "node-1", "Upgrade"):
        pass
    realm.lock("y", "node-2").acquire()
    (whole,) = yaml.safe_load(recipe("ansible history"))
    tasks: list[dict[str, Any]] = [
        {"name": "whole", INFO: whole[INFO]},
        {"name": "one", INFO: {"name": "x", "history": True}},
        {"name": "none", INFO: {"name": "x"}},
        {"name": "alone", INFO: {"since": "2h"}, "ignore_errors": True},
        {"name": "examined", INFO: {"name": "y", "doctor": True}},
        {"name": "away", INFO: {"doctor": True, "endpoints": ["http://127.0.0.1:1"], "connect_timeout": 0.3}},
    ]
    played = playbook(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    found = played.task("whole")["history"]
    assert [(entry["kind"], entry.get("lock")) for entry in found] == [("reach", None), ("hold", "x"), ("hold", "y")]
    _, hold = played.task("one")["history"]
    assert (hold["owner"], hold["reason"], hold["ended"]["how"]) == ("node-1", "Upgrade", "released")
    assert "history" not in played.task("none")
    assert "since is about the history: it needs history: true" in played.task("alone")["msg"]
    examined = played.task("examined")
    assert [lock["owner"] for lock in examined["locks"]] == ["node-2"]
    by_check = {one["check"]: one for one in examined["doctor"]["findings"]}
    assert (by_check["quorum"]["status"], by_check["locks"]["facts"]["held"]) == ("ok", 1)
    assert set(examined["doctor"]) == set(_returned("doctor"))
    away = played.task("away")
    assert (away["locks"], away["doctor"]["status"]) == ([], "bad")


def _returned(field: str) -> set[str]:
    """The documented contents of a field of the module's result."""
    text = (ROOT / "ansible/plugins/modules/distlock_info.py").read_text().partition('RETURN = r"""\n')[2]
    return set(yaml.safe_load(text.partition('"""')[0])[field]["contains"])


def test_its_documentation_has_every_field() -> None:
    documented = _returned("history")
    ended = End("released", Moment())
    entries: list[Any] = [
        Reach(1, Moment(), "first"),
        PastHold("x", 0, None, "", 1, "", "", Moment(), None, (), ended),
        PastWait("x", None, "", "", Moment(), ended),
        PastFreeze(None, None, "", Moment(), None, ended),
        Gap(1, 2, Moment(), Moment()),
    ]
    assert documented == {field for entry in entries for field in entry.fields()}
