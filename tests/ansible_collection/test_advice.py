"""Ansible's advice, executed as it is worded by `ansible-playbook`, in a realm that is not the environment's own."""

from __future__ import annotations

import json
import re
from typing import Any, Callable

import pytest
import yaml

from distlock_core import connect, hints
from distlock_core.adapters.advice import ANSIBLE
from distlock_core.errors import DistlockError
from distlock_core.hints import DATA, Hint
from distlock_core.testing import Cluster
from tests.support.playbooks import Played, Task

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
MODULE = "distlock.distlock.distlock"
NAME = "it's a lock; or $HOME"
AWAY: dict[str, str | None] = {"DISTLOCK_ENDPOINTS": "http://127.0.0.1:1", "DISTLOCK_PREFIX": "/not here/"}


def behind(words: str, line: str) -> dict[str, Any]:
    """The task in the sentence that begins like this."""
    found = re.search(rf"{re.escape(words)}([\w.]+) with (.*?)(?:\. [A-Z]|$)", line)
    assert found is not None, line
    return {found[1]: yaml.safe_load("{" + found[2] + "}")}


class Site:
    """A realm that only the tasks name."""

    def __init__(self, playbook: Callable[..., Played], cluster: Cluster, prefix: str, **settings: Any) -> None:
        self._playbook = playbook
        self.where = {"endpoints": cluster.endpoints, "prefix": prefix, **settings}
        self.at = connect(**self.where)

    def play(self, task: dict[str, Any]) -> Task:
        tasks = [{"name": "it", **task, "ignore_errors": True}]
        plays = json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}])
        return self._playbook(plays, env=AWAY).task("it")

    def lock(self, owner: str, **arguments: Any) -> int:
        done = self.play({MODULE: {"name": NAME, "owner": owner, **arguments, **self.where}})
        assert done.outcome == "ok", done
        token = done["token"]
        assert isinstance(token, int)
        return token

    def refused(self, **arguments: Any) -> str:
        done = self.play({MODULE: {"name": NAME, **arguments, **self.where}})
        assert done.outcome == "failed", done
        return str(done["msg"])

    def shows(self, task: dict[str, Any], owner: str) -> None:
        done = self.play(task)
        assert done.outcome == "ok", done
        assert [(hold["lock"], hold["owner"]) for hold in done["locks"]] == [(NAME, owner)], done

    def releases(self, task: dict[str, Any]) -> None:
        done = self.play(task)
        assert (done.outcome, done.get("changed")) == ("ok", True), done
        assert self.at.show(NAME).holders == ()

    def worded(self, code: str, **data: Any) -> str:
        """For what takes a fault of etcd or another machine: the hint alone, as Ansible words it."""
        error = DistlockError("etcd is away", hints=[Hint(code, lock=NAME, owner="other", **data)])
        error.realm_settings = self.where
        return ANSIBLE.said(error)


@pytest.fixture
def site(playbook: Callable[..., Played], etcd: Cluster, realm_prefix: str) -> Site:
    return Site(playbook, etcd, f"{realm_prefix}else where/")


def check_show(site: Site) -> None:
    site.lock("other")
    site.shows(behind("See: ", site.refused()), "other")


def check_unlock_force(site: Site) -> None:
    site.lock("other")
    site.releases(behind("To break it: ", site.refused(state="unlocked")))


def check_unlock_later(site: Site) -> None:
    site.releases(behind("When etcd is back: ", site.worded(hints.UNLOCK_LATER, token=site.lock("other"))))


def check_unlock_step(site: Site) -> None:
    site.releases(behind("To release it anyway: ", site.worded(hints.UNLOCK_STEP, token=site.lock("other"))))


def check_unlock_dead_run(site: Site) -> None:
    line = site.worded(hints.UNLOCK_DEAD_RUN, token=site.lock("other"))
    site.releases(behind("If you are sure that it has ended: ", line))


def check_choose_token(site: Site) -> None:
    token = site.lock("other")
    line = site.worded(hints.CHOOSE_TOKEN, tokens=[token])
    site.releases(behind("): ", line.replace("token: TOKEN", f"token: {token}")))


def check_resolve(site: Site) -> None:
    site.lock("other")
    look, _, unlock = site.worded(hints.RESOLVE, run="r").partition("; if that run holds it: ")
    site.shows(behind("Check with ", look), "other")
    site.releases(behind("", unlock))


def check_enter(site: Site) -> None:
    token = site.lock("other")
    option = yaml.safe_load(site.worded(hints.ENTER, token=token).partition("To enter it anyway: ")[2])
    assert site.lock("other", **option) == token


def check_same_slots(site: Site) -> None:
    site.lock("other", slots=2)
    found = re.search("Use the same number everywhere: (.*?)(?:\\. [A-Z]|$)", site.refused(slots=3))
    assert found is not None
    site.lock("me", **yaml.safe_load(found[1]))


def check_thaw(site: Site) -> None:
    site.at.freeze(NAME)
    assert site.play(behind("To thaw it: ", site.refused())).outcome == "ok"
    site.lock("me")


def check_thaw_realm(site: Site) -> None:
    site.at.freeze()
    assert site.play(behind("To thaw it: ", site.refused())).outcome == "ok"
    site.lock("me")


def check_replace_freeze(site: Site) -> None:
    site.at.freeze(NAME, owner="other")
    option = yaml.safe_load(site.worded(hints.REPLACE_FREEZE).partition("To replace it: ")[2])
    done = site.play({f"{MODULE}_freeze": {"name": NAME, **option, **site.where}})
    assert done.outcome == "ok", done
    freeze = site.at.frozen(NAME)
    assert freeze is not None
    assert freeze.by != "other"


def check_policy(site: Site) -> None:
    site.at.set_policy(NAME, slots=2)
    done = site.play(behind("See: ", site.worded(hints.POLICY)))
    assert done.outcome == "ok", done
    assert done["locks"][0]["policy"]["slots"] == 2


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
NO_TASK = {
    "change_token": "the module changes no value of a lock",
    "same_owner": "names the argument `owner`, and no task",
    "raw_prefix": "names a setting of the config file, and no task",
    "set_endpoints": "names a setting of the controller, and no task",
    "show_key": "names etcdctl, for a raw key outside any realm",
}


def test_every_hint_is_executed_or_has_a_reason_not_to_be() -> None:
    assert not CHECKS.keys() & NO_TASK.keys()
    assert CHECKS.keys() | NO_TASK.keys() == DATA.keys()


@pytest.mark.parametrize("code", sorted(CHECKS))
def test_the_advice_of_a_hint_works(site: Site, code: str) -> None:
    CHECKS[code](site)


def test_the_advice_works_in_an_etcd_with_tls(
    playbook: Callable[..., Played], etcd_cell: Callable[[str, str], Cluster], realm_prefix: str
) -> None:
    cluster = etcd_cell("3.5", "tls")
    site = Site(playbook, cluster, f"{realm_prefix}else where/", **cluster.settings)
    site.lock("other")
    site.shows(behind("See: ", site.refused()), "other")
    site.releases(behind("To break it: ", site.refused(state="unlocked")))
