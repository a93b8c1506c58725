"""The runner, for an operator at the master: it asks etcd itself, so no minion need be up."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from distlock_core import Realm, connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe
from tests.support.etcd_view import Etcd
from tests.support.salt_minions import MasterAlone

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
FUNCTIONS = {"break", "doctor", "explain", "freeze", "history", "list", "show", "thaw", "unlock"}


@pytest.fixture
def realm(etcd: Cluster, realm_prefix: str) -> Realm:
    return connect(etcd.endpoints, realm_prefix)


@pytest.fixture
def master(salt_is_there: None, etcd: Cluster, realm_prefix: str, tmp_path: Path) -> MasterAlone:
    profiles = {"elsewhere": {"prefix": f"{realm_prefix}elsewhere/"}}
    section = {"endpoints": list(etcd.endpoints), "prefix": realm_prefix, "profiles": profiles}
    return MasterAlone(tmp_path, {"id": "boss_master", "distlock": section})


def test_salt_run_works_without_a_running_master_and_refuses_in_one_line(master: MasterAlone, realm: Realm) -> None:
    token = realm.lock("x", "node-3", "Upgrade", step=True).acquire().token
    shown = master.run("distlock.show", "x")
    assert shown.returncode == 0, shown.stderr
    (lock,) = json.loads(shown.stdout)
    assert (lock["owner"], lock["token"], lock["reason"]) == ("node-3", token, "Upgrade")
    refused = master.run("distlock.unlock", "x")
    assert refused.returncode == 1
    said = json.loads(refused.stdout)
    assert re.fullmatch(
        r'x is held by node-3 since \d\d:\d\d \(\d+s\): "Upgrade", not by salt:boss_master: left alone\. '
        rf"To break it: salt-run distlock\.break x token={token} reason=WHY\. See: salt-run distlock\.show x",
        said,
    )


def test_every_function_does_what_the_execution_modules_does(
    master: MasterAlone, realm: Realm, keys: Etcd, realm_prefix: str
) -> None:
    token = realm.lock("x", "node-3", "Upgrade", step=True).acquire().token
    realm.lock("mine", "salt:boss_master", step=True).acquire()
    listed, why_not, broken, frozen, again, thawed, whole, thawed_whole, unlocked, gone, *rest = master.calls(
        ("distlock.list", {}),
        ("distlock.explain", {"name": "x", "owner": "salt:db1"}),
        ("distlock.break", {"name": "x", "token": token, "reason": "node-3 is down", "owner": "alice"}),
        ("distlock.freeze", {"name": "x", "reason": "audit", "duration": "2h"}),
        ("distlock.freeze", {"name": "x"}),
        ("distlock.thaw", {"name": "x"}),
        ("distlock.freeze", {"reason": "network"}),
        ("distlock.thaw", {}),
        ("distlock.unlock", {"name": "mine"}),
        ("distlock.unlock", {"name": "mine"}),
        ("distlock.history", {"name": "x", "since": "2h"}),
        ("distlock.list", {"profile": "elsewhere"}),
        ("distlock.doctor", {"name": ["x", "y"]}),
        ("distlock.doctor", {"endpoints": "http://127.0.0.1:1", "connect_timeout": 0.3}),
    )
    past, other, well, away = rest
    assert [lock["lock"] for lock in listed] == ["mine", "x"]
    assert (why_not["lets_in"], why_not["owner"], why_not["conditions"][0]["topic"]) == (False, "salt:db1", "holders")
    (hint,) = why_not["conditions"][0]["hints"]
    assert hint["advice"] == f"To break it: salt-run distlock.break x token={token} reason=WHY"
    assert (broken["owner"], broken["by"], broken["why"]) == ("node-3", "alice", "node-3 is down")
    assert (broken["process"], broken["machine"]) == ("alive", "here")
    assert (frozen["lock"], frozen["scope"], frozen["by"]) == ("x", "lock", "salt:boss_master")
    assert "x is frozen by salt:boss_master since " in again
    assert again.endswith("left as it is. To replace it: force=True")
    assert (thawed["reason"], whole["scope"], thawed_whole["reason"]) == ("audit", "realm", "network")
    assert whole["prefix"] == realm_prefix
    assert unlocked["lock"] == "mine"
    assert gone == "mine is not locked"
    assert [entry["kind"] for entry in past] == ["reach", "hold", "freeze", "freeze"]
    assert past[1]["ended"] == {"how": "broken", "by": "alice", "why": "node-3 is down", "sure": True}
    assert other == []
    by_check = {one["check"]: one for one in well["findings"]}
    assert (by_check["quorum"]["status"], by_check["rights"]["status"]) == ("ok", "ok")
    assert by_check["locks"]["facts"] == {"held": 0, "waiting": 0}
    assert "endpoints" in {one["key"] for one in well["settings"]}
    assert (away["status"], [one["status"] for one in away["findings"] if one["check"] == "quorum"]) == ("bad", ["bad"])
    keys.assert_nothing_left()


def test_mistakes_are_named_where_they_are(master: MasterAlone) -> None:
    config = master.folder / "master"
    no_name, profile, away = master.calls(
        ("distlock.show", {}),
        ("distlock.list", {"profile": "nowhere"}),
        ("distlock.list", {"endpoints": "http://127.0.0.1:1", "connect_timeout": 0.3}),
    )
    assert no_name == "no lock is named: name or lock_names is required"
    assert profile == "profile 'nowhere': not in distlock:profiles of the master's config; known: elsewhere"
    assert away.startswith("no etcd answered within 0.3")
    config.write_text(config.read_text().replace("endpoints:", "endpoint:"))
    (wrong,) = master.calls(("distlock.list", {}))
    assert wrong.startswith("distlock: in the master's config: unknown key 'endpoint'; did you mean endpoints?")


def test_every_function_has_an_example_of_its_command_line(salt_is_there: None) -> None:
    from distlock_core.saltext.runners import distlock as runner

    assert "salt-run distlock.list\n    salt-run distlock.show percona_prod\n" in str(runner.__doc__)
    named = set()
    for name, function in inspect.getmembers(runner, inspect.isfunction):
        if function.__module__ == runner.__name__ and not name.startswith("_"):
            known = runner.__func_alias__.get(name, name)
            named.add(known)
            example = f"    CLI Example:\n\n    .. code-block:: bash\n\n        salt-run distlock.{known}"
            assert example in str(function.__doc__)
    assert named == FUNCTIONS


def test_the_recipe_names_functions_that_are_there() -> None:
    called = re.findall(r"^salt-run distlock\.(\w+)", recipe("Salt at the master"), re.MULTILINE)
    assert {*called} == FUNCTIONS
