"""Puppet's advice, executed as it is worded by a shell, in a realm that is not the environment's own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import connect, hints
from distlock_core.adapters.advice import PUPPET
from distlock_core.errors import DistlockError
from distlock_core.hints import DATA, Hint
from distlock_core.testing import Cluster, environment
from tests.support.etcd_servers import NEWEST
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import CHANGED, CHANGED_AND_FAILED, FAILED, quoted

pytestmark = pytest.mark.timeout(240)
NAME = "a lock; or $HOME"
PRINTED = {hints.SHOW, hints.SAME_SLOTS, hints.BREAK, hints.THAW, hints.THAW_REALM, hints.POLICY, hints.OPEN_WINDOW}
SENTENCES = {
    hints.ENTER: "To release it anyway: ",
    hints.UNLOCK_DEAD_RUN: "If you are sure that it has ended: ",
    hints.UNLOCK_LATER: "When etcd is back: ",
    hints.UNLOCK_STEP: "To release it anyway: ",
}
NO_COMMAND = {
    hints.CHANGE_TOKEN: "the type changes no value of a lock",
    hints.SAME_OWNER: "names a parameter of two resources: tried below",
    hints.RAW_PREFIX: "names a setting of the config file: tried below",
    hints.SET_ENDPOINTS: "names a parameter: tried below",
    hints.REPLACE_FREEZE: "the types freeze nothing",
    hints.SHOW_KEY: "names etcdctl, for a raw key outside any realm",
}


def behind(words: str, said: str) -> str:
    """The command in the sentence that begins like this."""
    found = re.search(rf"{re.escape(words)}(.*?)(?:\. [A-Z]|$)", said, re.MULTILINE)
    assert found is not None, said
    return found[1]


class Site:
    """A realm that only the resources name."""

    def __init__(self, node: ModuleNode, cluster: Cluster, prefix: str, **settings: Any) -> None:
        self.node, self.where = node, {"endpoints": cluster.endpoints, "prefix": prefix, **settings}
        self.at = connect(**self.where)

    def apply(self, words: str) -> str:
        where = f"endpoints => {quoted(*self.where['endpoints'])}, prefix => '{self.where['prefix']}'"
        said = self.node.apply(f"distlock {{ '{NAME}': {words}, {where} }}")[1]
        return re.sub(r"\x1b\[[\d;]*m", "", said)

    def lock(self) -> int:
        self.apply("owner => 'other', slots => 2")
        return self.at.show(NAME).holders[0].token

    def pasted(self, command: str) -> str:
        done = subprocess.run(
            ["sh", "-c", command], env=self.node.env, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done
        return done.stdout

    def releases(self, command: str) -> None:
        self.pasted(command)
        assert self.at.show(NAME).holders == ()

    def worded(self, code: str, **data: Any) -> str:
        """For what takes a fault of etcd or another machine: the hint alone, as Puppet words it."""
        error = DistlockError("etcd is away", hints=[Hint(code, lock=NAME, owner="other", **data)])
        error.realm_settings = self.where
        return PUPPET.said(error)


@pytest.fixture
def new_site(new_node: Callable[..., ModuleNode], realm_prefix: str) -> Callable[..., Site]:
    def new(cluster: Cluster, **settings: Any) -> Site:
        node = new_node(DISTLOCK_ENDPOINTS="http://127.0.0.1:1", DISTLOCK_PREFIX="/not here/", **environment(settings))
        return Site(node, cluster, f"{realm_prefix}elsewhere/", **settings)

    return new


def test_printed_advice_works(new_site: Callable[..., Site], etcd: Cluster) -> None:
    site = new_site(etcd)
    site.lock()
    said = site.apply("slots => 3")
    assert "Use the same number everywhere: slots => 2" in said
    assert "held by   other" in site.pasted(behind("See: ", said))
    site.releases(behind("To break it: ", site.apply("ensure => unlocked")) + " --yes --reason=gone")

    for name in (NAME, None):
        site.at.freeze(name)
        site.pasted(behind("To thaw it: ", site.apply("owner => 'me'")))
    site.at.set_policy(NAME, slots=1)
    assert "SLOTS" in site.pasted(behind("See: ", site.worded(hints.POLICY)))
    site.pasted(behind("To open it at all times: ", site.worded(hints.OPEN_WINDOW)))
    policy = site.at.policy(NAME)
    assert policy is not None
    assert (policy.slots, policy.window) == (1, "Mon-Sun")


def test_advice_after_faults_works(new_site: Callable[..., Site], etcd: Cluster) -> None:
    site = new_site(etcd)
    assert SENTENCES.keys() | PRINTED | NO_COMMAND.keys() | {hints.RESOLVE, hints.CHOOSE_TOKEN} == DATA.keys()
    for code, words in SENTENCES.items():
        token = site.lock()
        site.releases(behind(words, site.worded(code, token=token)))

    token = site.lock()
    command = behind("): ", site.worded(hints.CHOOSE_TOKEN, tokens=[token]))
    site.releases(command.replace("=TOKEN", f"={token}"))
    site.lock()
    look, _, unlock = site.worded(hints.RESOLVE, run="r").partition("; if that run holds it: ")
    assert "held by   other" in site.pasted(behind("Check with ", look))
    site.releases(unlock)


def test_the_advice_works_in_an_etcd_with_tls(
    new_site: Callable[..., Site], etcd_cell: Callable[[str, str], Cluster]
) -> None:
    cluster = etcd_cell(NEWEST, "tls")
    site = new_site(cluster, **cluster.settings)
    site.lock()
    site.releases(behind("To break it: ", site.apply("ensure => unlocked")) + " --yes --reason=gone")


def test_the_advice_to_give_both_the_same_owner_works(node: ModuleNode) -> None:
    def run(lock: str, outer: str, inner: str) -> tuple[int, str]:
        return node.apply(
            f"distlock {{ '{lock}': until => run_end, {outer} }}"
            f" -> distlock {{ 'inner': lock_name => '{lock}', timeout => 60, {inner} }}"
        )

    code, said = run(NAME, "owner => 'outer'", "owner => 'inner'")
    assert code == CHANGED_AND_FAILED, said
    found = re.search(r"Give both the same (\w+), so that the inner one can enter it", said)
    assert found is not None, said
    same = f"{found[1]} => 'both'"
    code, said = run("another", same, same)
    assert code == CHANGED, said


def test_the_advice_about_a_prefix_of_the_go_original_works(
    node: ModuleNode, realm_prefix: str, tmp_path: Path
) -> None:
    resource = f"distlock {{ '{NAME}': prefix => '{realm_prefix}/twice'"
    code, said = node.apply(f"{resource} }}")
    assert code == FAILED, said
    found = re.search(r"If the Go original uses this prefix: (\w+: \w+) in the config file", said)
    assert found is not None, said
    config = tmp_path / "distlock.yaml"
    config.write_text(f"{found[1]}\n")
    code, said = node.apply(f"{resource}, config => '{config}' }}")
    assert code == CHANGED, said


def test_the_advice_to_set_endpoints_works_in_a_resource_and_in_the_class(
    new_node: Callable[..., ModuleNode], etcd: Cluster, tmp_path: Path
) -> None:
    node = new_node(DISTLOCK_ENDPOINTS="")
    resource = f"distlock {{ '{NAME}': connect_timeout => 1"
    code, said = node.apply(f"{resource} }}")
    assert code == FAILED, said
    found = re.search(
        r"No endpoint is configured: set (\w+ =>) \[\.{3}\] of the class distlock, or of this resource", said
    )
    assert found is not None, said
    given = f"{found[1]} {quoted(*etcd.endpoints)}"
    code, said = node.apply(f"{resource}, {given} }}")
    assert code == CHANGED, said

    config = tmp_path / "distlock.yaml"
    written = (
        f"install => 'none', config_file => '{config}', config_owner => {os.getuid()}, config_group => {os.getgid()}"
    )
    code, said = node.apply(
        f"class {{ 'distlock': {written}, {given} }} -> distlock {{ 'other': config => '{config}' }}"
    )
    assert code == CHANGED, said
