"""gate: distlock.locked and distlock.unlocked wait until the cluster is healthy."""

from __future__ import annotations

from pathlib import Path

import pytest

from distlock_core import connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.processes import wait_until
from tests.support.salt_minions import Minion

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things
ROLLOUT = """
take:
  distlock.locked:
    - name: x
    - gate: &gate echo lag 12; test -e {folder}/healthy
    - gate_every: 0.1
    - timeout: {timeout}
work:
  cmd.run:
    - name: rm {folder}/healthy
    - require: [{{distlock: take}}]
give:
  distlock.unlocked:
    - name: x
    - gate: *gate
    - gate_every: 0.1
    - gate_timeout: 1
    - require: [{{cmd: work}}]
"""


def test_a_red_gate_refuses_the_lock_and_keeps_one_whose_work_is_done(
    minion: Minion, keys: Etcd, etcd: Cluster, realm_prefix: str, tmp_path: Path
) -> None:
    done = minion.apply("gated", text=ROLLOUT.format(folder=tmp_path, timeout=0))
    assert done["take"].result is False
    assert "x is free; its gate is red: lag 12" in done["take"].comment
    assert keys.keys() == []
    (tmp_path / "healthy").touch()
    done = minion.apply("gated")
    assert done["take"].result is True, done
    assert done["give"].result is False
    assert "x: not released: after 1s its gate is red: lag 12" in done["give"].comment
    (holder,) = connect(etcd.endpoints, realm_prefix).show("x").holders
    assert (holder.record.state, holder.reason) == ("kept", "not healthy after the work: its gate is red: lag 12")


def test_a_minion_waits_in_the_queue_for_its_gate(
    minion: Minion, etcd: Cluster, realm_prefix: str, tmp_path: Path
) -> None:
    realm = connect(etcd.endpoints, realm_prefix)
    text = ROLLOUT.format(folder=tmp_path, timeout=-1).replace(f"rm {tmp_path}/healthy", "echo work")
    (minion.sls / "waits.sls").write_text(text)
    process = minion.start("state.apply", "waits")
    wait_until(lambda: realm.show("x").waiting == 1, "the minion to queue", 100)
    assert not realm.show("x").holders
    (tmp_path / "healthy").touch()
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 0, out
    assert not realm.show("x").holders


COMMAND = """
upgrade:
  distlock.run:
    - name: x
    - cmd: [sh, -c, "echo worked; rm {folder}/healthy"]
    - gate: echo asked >> {folder}/asked; echo lag 12; test -e {folder}/healthy
    - gate_every: 0.1
    - gate_timeout: 1
    - on_failure: {on_failure}
"""


@pytest.mark.parametrize("on_failure", ["release", "freeze"])
def test_a_command_has_a_gate_before_and_after(
    minion: Minion, keys: Etcd, etcd: Cluster, realm_prefix: str, tmp_path: Path, on_failure: str
) -> None:
    realm = connect(etcd.endpoints, realm_prefix)
    done = minion.apply("command", text=COMMAND.format(folder=tmp_path, on_failure=on_failure))["upgrade"]
    assert (done.result, done.changes) == (False, {})
    assert "x is free; its gate is red: lag 12" in done.comment
    assert keys.keys() == []
    (tmp_path / "healthy").touch()
    done = minion.apply("command")["upgrade"]
    assert (done.result, done.changes["stdout"], done.changes["retcode"]) == (False, "worked", 1)
    assert "x: not released: after 1s its gate is red: lag 12" in done.comment
    holders, freeze = realm.show("x").holders, realm.frozen("x")
    assert [one.record.state for one in holders] == ([] if on_failure == "freeze" else ["kept"])
    assert (freeze is not None) is (on_failure == "freeze")


def test_the_functions_have_a_gate_too(
    minion: Minion, keys: Etcd, etcd: Cluster, realm_prefix: str, tmp_path: Path
) -> None:
    gate = (f"gate=echo lag 12; test -e {tmp_path}/healthy", "gate_every=0.1", "gate_timeout=1")
    assert "its gate is red: lag 12" in minion.refused("distlock.lock", "x", *gate)
    assert keys.keys() == []
    (tmp_path / "healthy").touch()
    minion.call("distlock.lock", "x", *gate)
    assert keys.keys() == ["x"]
    (tmp_path / "healthy").unlink()
    assert "x: not released: after 1s its gate is red: lag 12" in minion.refused("distlock.unlock", "x", *gate)
    (holder,) = connect(etcd.endpoints, realm_prefix).show("x").holders
    assert holder.record.state == "kept"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("gate_every: 1", "gate_every is about a gate: it goes with gate"),
        ("gate: ''", "gate: expected a line of shell"),
        ("gate: 5", "gate: expected a string"),
        ("gate: 'true', gate_every: -1", "gate_every: expected a number of seconds above 0"),
        ("gate: 'true', gate_timeout: .inf", "gate_timeout: expected a number of seconds"),
        ("gate: 'true', gate_for: 600", "gate_for must be shorter than gate_timeout"),
    ],
)
def test_a_gate_that_makes_no_sense_releases_nothing(minion: Minion, keys: Etcd, words: str, said: str) -> None:
    keys.lock("x", owner=f"salt:{minion.id}")
    done = minion.apply("bad", text=f"x:\n  distlock.unlocked: [{{ {words.replace(', ', ' }, { ')} }}]\n")
    assert done["x"].result is False
    assert said in done["x"].comment
    assert keys.keys() == ["x"]


def test_the_recipe_of_the_page(minion: Minion, keys: Etcd, tmp_path: Path) -> None:
    gate = ("- gate: /usr/local/bin/all-nodes-synced", f"- gate: test -e {tmp_path}/healthy")
    package = (("pkg.latest:", f"file.managed:\n    - name: {tmp_path}/p\n    - contents: new"), ("- pkg:", "- file:"))
    text = with_stand_ins(recipe("Salt gate"), gate, ("timeout: -1", "timeout: 0"), *package)
    assert minion.apply("page", text=text)["one node at a time"].result is False
    (tmp_path / "healthy").touch()
    done = minion.apply("page")
    assert [state.result for state in done.values()] == [True] * 3, done
    assert keys.keys() == []


def test_the_example_for_percona(minion: Minion, keys: Etcd, tmp_path: Path) -> None:
    text = (ROOT / "examples" / "rollouts" / "percona" / "upgrade.sls").read_text()
    package = (("pkg.latest: []", f"file.managed: [{{name: {tmp_path}/p}}, {{contents: new}}]"), ("- pkg:", "- file:"))
    gate = ("/usr/local/bin/all-nodes-synced", f"test -e {tmp_path}/healthy")
    text = with_stand_ins(text, *package, gate, ("timeout: -1", "timeout: 0"), ("gate_for: 10", "gate_for: 0"))
    assert minion.apply("percona", text=text)["one node at a time"].result is False
    assert not (tmp_path / "p").exists()
    (tmp_path / "healthy").touch()
    done = minion.apply("percona")
    assert [state.result for state in done.values()] == [True] * 3, done
    assert keys.keys() == []
    (tmp_path / "healthy").unlink()  # nobody is asked where nothing is to be done
    done = minion.apply("percona")
    assert [state.changes for state in done.values()] == [{}] * 3, done
