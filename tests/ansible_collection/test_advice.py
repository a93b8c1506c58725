"""Ansible's advice, executed as it is worded by `ansible-playbook`, in a realm that is not the environment's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from distlock_core import connect, hints
from distlock_core.adapters.advice import ANSIBLE
from distlock_core.errors import DistlockError
from distlock_core.hints import DATA, Hint
from distlock_core.testing import Cluster
from tests.support.ansible_controller import Controller
from tests.support.etcd_servers import NEWEST
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


def check_break(site: Site) -> None:
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
    done = site.play({f"{MODULE}_freeze": {"name": NAME, "reason": "why", **option, **site.where}})
    assert done.outcome == "ok", done
    freeze = site.at.frozen(NAME)
    assert freeze is not None
    assert freeze.by != "other"


def check_policy(site: Site) -> None:
    site.at.set_policy(NAME, slots=2)
    done = site.play(behind("See: ", site.worded(hints.POLICY)))
    assert done.outcome == "ok", done
    assert done["locks"][0]["policy"]["slots"] == 2


def check_open_window(site: Site) -> None:
    site.at.set_policy(NAME, window="Mon 03:00-04:00")
    done = site.play(behind("Its window is in its policy: ", site.worded(hints.OPEN_WINDOW)))
    assert done.outcome == "ok", done
    assert "Mon 03:00-04:00" in done["locks"][0]["policy"]["window"]


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
NO_TASK = {
    "change_token": "the module changes no value of a lock",
    "same_owner": "names an option, of the command around the run too: tried below",
    "raw_prefix": "names a setting of the config file: tried below",
    "set_endpoints": "names settings of tasks and of the controller: tried below",
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
    cluster = etcd_cell(NEWEST, "tls")
    site = Site(playbook, cluster, f"{realm_prefix}else where/", **cluster.settings)
    site.lock("other")
    site.shows(behind("See: ", site.refused()), "other")
    site.releases(behind("To break it: ", site.refused(state="unlocked")))


def on_host(*tasks: dict[str, Any], **words: Any) -> list[dict[str, Any]]:
    named = [{"name": f"{number}", **task, "ignore_errors": True} for number, task in enumerate(tasks)]
    return [{"hosts": "all", "gather_facts": False, **words, "tasks": named}]


def test_the_advice_to_give_both_the_same_owner_works(controller: Controller) -> None:
    def run(outer: list[str], inner: dict[str, str]) -> tuple[int, str]:
        distlock = [str(controller.bin / "distlock"), f"--lock-name={NAME}", *outer, "--"]
        controller.wrap = lambda command: [*distlock, *command]
        task = {MODULE: {"name": NAME, "timeout": 60, **inner}}
        code, output = controller.run([{"hosts": "all", "gather_facts": False, "tasks": [task]}])
        return code, " ".join(output.split())

    code, output = run([], {})
    assert code == 2, output
    found = re.search(r"Give both the same (\w+), so that the inner one can enter it", output)
    assert found is not None, output
    code, output = run(["--id=both"], {found[1]: "both"})  # `--id` is the owner for the command around the run
    assert code == 0, output


def test_the_advice_about_a_prefix_of_the_go_original_works(
    playbook: Callable[..., Played], realm_prefix: str, tmp_path: Path
) -> None:
    task = {MODULE: {"name": NAME, "prefix": f"{realm_prefix}/twice"}}
    said = playbook(json.dumps(on_host(task))).task("0")["msg"]
    found = re.search(r"If the Go original uses this prefix: (\w+: \w+) in the config file$", said)
    assert found is not None, said
    config = tmp_path / "distlock.yaml"
    config.write_text(f"{found[1]}\n")
    task[MODULE]["config"] = str(config)
    done = playbook(json.dumps(on_host(task))).task("0")
    assert done.outcome == "ok", done


def test_the_advice_to_set_endpoints_works_in_each_way(
    playbook: Callable[..., Played], etcd: Cluster, realm_prefix: str
) -> None:
    nowhere: dict[str, str | None] = {"DISTLOCK_ENDPOINTS": None}
    locked = {MODULE: {"name": NAME, "connect_timeout": 1}}
    said = playbook(json.dumps(on_host(locked)), env=nowhere).task("0")["msg"]
    found = re.search(
        r"No endpoint is configured: set (\w+) in the task, (\w+) for a strategy or lookup, "
        r"or (\w+) on the controller$",
        said,
    )
    assert found is not None, said
    argument, variable, environment = found.groups()

    in_task = {MODULE: {**locked[MODULE], "owner": "me", argument: etcd.endpoints}}
    looked = {"ansible.builtin.debug": {"msg": f"{{{{ lookup('distlock.distlock.holder', {NAME!r}) }}}}"}}
    played = playbook(json.dumps(on_host(in_task, looked, vars={variable: etcd.endpoints})), env=nowhere)
    assert played.task("0").outcome == "ok", played.text
    assert played.task("1")["msg"] == "me", played.text
    strategy = {"strategy": "distlock.distlock.linear", "vars": {"distlock_name": "y", variable: etcd.endpoints}}
    played = playbook(json.dumps(on_host({"ansible.builtin.ping": {}}, **strategy)), env=nowhere)
    assert played.task("0").outcome == "ok", played.text

    unlocked = {MODULE: {"name": NAME, "owner": "me", "state": "unlocked", "force": True}}
    played = playbook(json.dumps(on_host(unlocked)), env={environment: ",".join(etcd.endpoints)})
    assert played.task("0").outcome == "ok", played.text
    assert connect(etcd.endpoints, realm_prefix).list() == []
