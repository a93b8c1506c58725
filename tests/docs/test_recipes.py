"""Every command in the documentation is run as written, or has a reason why not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import Realm, connect
from distlock_core.settings.load import load
from distlock_core.testing import Cluster
from tests.support.doc_blocks import blocks, marked, recipe, with_stand_ins
from tests.support.needs import need
from tests.support.paths import ROOT
from tests.support.polling import is_readable
from tests.support.processes import wait_until
from tests.support.recipe_node import BIN, Node, finish

LANGUAGES = ("sh", "console", "python", "yaml", "puppet", "js", "ini", "crontab")
# The hidden comments above blocks.
MARKS = re.compile(
    r"<!-- (?:tried.*|config|role: \w+|run|recipe: [\w -]+|not run: .{10,}|"
    r"tested (?:by |as written: )((?:tests|tools)/[\w/]+\.\w+)) -->"
)
MOST_NOT_RUN = 6
# Programs that the recipes name and that would change this machine.
STAND_INS = ("bin/yum", "bin/systemctl", "bin/backup", "bin/sync-all", "sbin/backup", "sbin/upgrade")


def test_every_block_is_tested_or_has_a_reason_not_to_be() -> None:
    found = [block for block in blocks() if block.language in LANGUAGES]
    assert len(found) > 80
    unmarked = [f"{block.page}:{block.line}" for block in found if not MARKS.fullmatch(block.mark)]
    assert unmarked == []
    not_run = [f"{block.page}:{block.line}" for block in found if block.mark.startswith("<!-- not run")]
    assert len(not_run) <= MOST_NOT_RUN, not_run


def test_the_tests_that_are_named_read_the_page_or_the_example() -> None:
    for block in blocks():
        match = MARKS.fullmatch(block.mark)
        if match and match[1]:
            test = (ROOT / match[1]).read_text(encoding="utf-8")
            assert Path(block.page).name in test, f"{block.page}:{block.line} is not read by {match[1]}"


def test_every_recipe_has_a_test() -> None:
    named = [name for block in blocks() for name in re.findall(r"<!-- recipe: ([\w -]+) -->", block.mark)]
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("**/test_*.py"))
    assert [name for name in named if f'recipe("{name}")' not in tests and f"recipe('{name}')" not in tests] == []


# Each file under examples/, and what runs it: with stand-ins for what would change a machine.
EXAMPLES = {
    "ansible/backup.yml": "tests/ansible_collection/test_ansible_examples.py",
    "ansible/rolling_upgrade.yml": "tests/ansible_collection/test_ansible_examples.py",
    "ansible/rolling_upgrade_strategy.yml": "tests/ansible_collection/test_ansible_examples.py",
    "ansible/schema_change.yml": "tests/ansible_collection/test_ansible_examples.py",
    "ansible/report.yml": "tests/ansible_collection/test_wait.py",
    "ansible/tasks/backup.yml": "tests/ansible_collection/test_ansible_examples.py",
    "ansible/tasks/schema_change.yml": "tests/ansible_collection/test_ansible_examples.py",
    "ansible/tasks/upgrade.yml": "tests/ansible_collection/test_ansible_examples.py",
    "counter.py": "tests/command/test_fencing.py",
    "cron/backup": "tests/docs/test_recipes.py",
    "cron/distlock-metrics": "tests/cli/test_metrics_operation.py",
    "name_server/names.py": "tests/docs/test_examples.py",
    "name_server/service.py": "tests/docs/test_examples.py",
    "prometheus/distlock.rules.yml": "tests/cli/test_metrics_operation.py",
    "puppet/reboot.pp": "tests/puppet_module/test_puppet_examples.py",
    "puppet/upgrade.pp": "tests/puppet_module/test_puppet_examples.py",
    "puppet/whole_run.pp": "tests/puppet_module/test_puppet_examples.py",
    # demo.py starts the others.
    "rolling_restart/demo.py": "tools/bare_debian.sh",
    "rolling_restart/node.py": "examples/rolling_restart/demo.py",
    "rolling_restart/reader.py": "examples/rolling_restart/demo.py",
    "rolling_restart/services.py": "examples/rolling_restart/demo.py",
    "rollouts/elasticsearch/cluster-is-green": "tests/rollout/test_elasticsearch_example.py",
    "rollouts/elasticsearch/policy.sh": "tests/rollout/test_elasticsearch_example.py",
    "rollouts/elasticsearch/upgrade.pp": "tests/puppet_module/test_rollout_examples.py",
    "rollouts/elasticsearch/upgrade.sh": "tests/rollout/test_elasticsearch_example.py",
    "rollouts/elasticsearch/upgrade.sls": "tests/salt_modules/test_rollout_examples.py",
    "rollouts/elasticsearch/upgrade.yml": "tests/ansible_collection/test_rollout_examples.py",
    "rollouts/elasticsearch/upgrade_tasks.yml": "tests/ansible_collection/test_rollout_examples.py",
    "rollouts/percona/all-nodes-synced": "tests/rollout/test_percona_example.py",
    "rollouts/percona/upgrade.pp": "tests/puppet_module/test_gates.py",
    "rollouts/percona/upgrade.sh": "tests/rollout/test_percona_example.py",
    "rollouts/percona/upgrade.sls": "tests/salt_modules/test_salt_gates.py",
    "rollouts/percona/upgrade.yml": "tests/ansible_collection/test_gates_of_the_role.py",
    "rollouts/percona/upgrade_tasks.yml": "tests/ansible_collection/test_gates_of_the_role.py",
    "rollouts/replicas/upgrade.pp": "tests/puppet_module/test_rank.py",
    "rollouts/replicas/upgrade.sh": "tests/rollout/test_replicas_example.py",
    "rollouts/replicas/upgrade.sls": "tests/salt_modules/test_rank.py",
    "rollouts/replicas/upgrade.yml": "tests/ansible_collection/test_rank.py",
    "salt/install.sls": "tests/salt_modules/test_install.py",
    "salt/orch/upgrade_cluster.sls": "tests/salt_modules/test_fleet.py",
    "salt/reactor/freeze_lost_lock.sls": "tests/salt_modules/test_fleet.py",
    "salt/upgrade.sls": "tests/salt_modules/test_fleet.py",
    "salt/upgrade_run_end.sls": "tests/salt_modules/test_fleet.py",
    "singleton.py": "tests/manager/test_singleton.py",
    "systemd/backup.service": "tests/docs/test_recipes.py",
    "systemd/backup.timer": "tests/docs/test_recipes.py",
    "systemd/distlock-metrics.service": "tests/cli/test_metrics_operation.py",
    "systemd/distlock-metrics.timer": "tests/cli/test_metrics_operation.py",
    "systemd/worker.service": "tests/docs/test_recipes.py",
    "unhealthy_service/backend.py": "tests/docs/test_examples.py",
    "unhealthy_service/caller.py": "tests/docs/test_examples.py",
}


def test_every_example_is_run() -> None:
    files = [path for path in (ROOT / "examples").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sorted(str(path.relative_to(ROOT / "examples")) for path in files) == sorted(EXAMPLES)
    for example, runner in EXAMPLES.items():
        text = (ROOT / runner).read_text(encoding="utf-8").partition("EXAMPLES = {")
        rest = text[0] + text[2].partition("\n}\n")[2]
        assert Path(example).stem in rest, f"{example} is not named in {runner}"
        assert "def test_" in rest or not runner.startswith("tests/")


@pytest.fixture
def cluster(start_etcd: Callable[..., Cluster]) -> Iterator[Cluster]:
    """An etcd of the test's own: the recipes have the default prefix."""
    with start_etcd() as cluster:
        yield cluster


@pytest.fixture
def node(cluster: Cluster, tmp_path: Path) -> Node:
    node = Node(tmp_path, cluster.endpoints[0])
    for name in STAND_INS:
        node.stand_in(name)
    return node


def test_the_commands_of_the_pages_run_as_written(node: Node, cluster: Cluster) -> None:
    found = marked("run")
    assert len(found) >= 5
    for block in found:
        before = len(node.called)
        code, said = node.run(block.text)
        assert (code, said) == (0, ""), (block, said)
        assert len(node.called) == before + 1, block
        for state in connect(cluster.endpoints[0]).list():
            for holder in state.holders:  # such as a cooldown
                connect(cluster.endpoints[0]).unlock(state.name, token=holder.token)


def test_an_etcd_to_try_things_out(node: Node) -> None:
    need("ip", "apt-get install iproute2")
    command, *output = recipe("an etcd to try things out").splitlines()
    # Its port may be taken on this machine, but is free in a network namespace.
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", "bash", "-c"]
    process = node.start(f"exec {command.removeprefix('$ ')}", alone)
    try:
        assert process.stdout is not None
        assert [process.stdout.readline().rstrip("\n") for _ in output] == output
    finally:
        process.terminate()
        finish(process)


# The recipes of docs/cli.md that take more than one command.


def test_an_upgrade_continues_after_a_reboot_in_its_middle(node: Node) -> None:
    # The first run is killed as a reboot would, and leaves the lock.
    node.stand_in("sbin/upgrade-and-reboot", '[ -e rebooted ] || { touch rebooted; kill -9 "$PPID"; }')
    assert node.run(recipe("after a reboot"))[0] in (137, -9)
    assert node.run("distlock --lock-name=percona_prod --id=web-2 --nowait -- true")[0] == 1
    assert node.run(recipe("after a reboot")) == (0, "")
    assert node.called == ["upgrade-and-reboot "] * 2
    assert node.run("distlock --lock-name=percona_prod --id=web-2 --nowait -- true") == (0, "")


def test_a_step_is_carried_out_only_while_the_lock_is_held(node: Node) -> None:
    inside = recipe("check before a step")
    (node.config.parent / "step").write_text(inside)
    assert node.run("distlock --lock-name=percona_prod -- sh step") == (0, "")
    assert node.called == ["systemctl restart mysqld"]
    unlocked = "distlock --unlock --lock-name=percona_prod; . ./step"
    code, _ = node.run(f"distlock --lock-name=percona_prod -- sh -c '{unlocked}'")
    assert code == 2
    assert len(node.called) == 1


def test_a_script_keeps_the_lock_while_it_lives(node: Node, cluster: Cluster) -> None:
    realm = connect(cluster.endpoints[0])
    script = f"{recipe('while a script lives')}\ntouch inside\nread line <fifo"
    os.mkfifo(node.config.parent / "fifo")
    process = node.start(script)
    wait_until((node.config.parent / "inside").exists, "the script to be inside")
    assert node.run("distlock --lock-name=percona_prod --nowait -- yum")[0] == 1
    os.killpg(process.pid, signal.SIGKILL)  # however it ends
    finish(process)
    wait_until(lambda: not realm.show("percona_prod").holders, "the lock to be released")


@pytest.mark.parametrize("page", ["TLS in the config file", "TLS in security"])
def test_the_settings_of_tls_are_known(page: str, tmp_path: Path) -> None:
    texts = {
        "TLS in the config file": recipe("TLS in the config file"),
        "TLS in security": recipe("TLS in security"),
    }
    (tmp_path / "distlock.yaml").write_text(texts[page].replace("/etc/distlock", str(tmp_path)))
    (tmp_path / "password").write_text("secret")
    (tmp_path / "password").chmod(0o600)
    settings = load({"config": str(tmp_path / "distlock.yaml")}, {})
    assert settings.cacert == f"{tmp_path}/ca.pem"
    assert len(settings.endpoints or ()) == 2


def test_old_notes_are_deleted_and_young_ones_kept(node: Node) -> None:
    command = recipe("prune")
    assert node.run("distlock --lock-name=young -- true") == (0, "")
    assert node.run(command) == (0, "distlock: deleted the last end of 0 locks under /distlock/, kept 1\n")
    assert "last" in node.run("distlock --show --lock-name=young")[1]


def test_a_wrong_config_file_is_named(node: Node) -> None:
    command, output = recipe("a wrong config file").removeprefix("$ ").split("\n")
    node.config.write_text("timeout: abc\n")
    assert node.run(command) == (1, output.replace("/etc/distlock/distlock.yaml", str(node.config)) + "\n")


def test_signs_of_life_from_a_shell_and_from_python(node: Node, tmp_path: Path) -> None:
    need("systemd-notify", "apt-get install systemd")
    # Each part is shorter than the heartbeat, all of them are longer.
    (tmp_path / "migrate").write_text("#!/bin/sh\nsleep 1\n")
    (tmp_path / "migrate").chmod(0o755)
    (tmp_path / "all").write_text(recipe("heartbeat in a shell"))
    assert node.run("distlock --lock-name=x --heartbeat=2.5 -- sh all") == (0, "")
    body = "\nimport time\nfor _ in range(3):\n    time.sleep(1)\n    alive()\n"
    (tmp_path / "all.py").write_text(recipe("heartbeat in Python") + body)
    assert node.run(f"distlock --lock-name=x --heartbeat=2.5 -- {sys.executable} all.py") == (0, "")


def test_signs_of_life_from_node(node: Node, tmp_path: Path) -> None:
    need("node", "apt-get install nodejs")
    for text in (recipe("heartbeat in Node"), recipe("pings of etcdlocker")):
        (tmp_path / "module.js").write_text(f"{text}\nsetTimeout(() => process.exit(0), 3500);\n")
        assert node.run("distlock --lock-name=x --node --heartbeat=2.5 --refresh=1 --ttl=20 -- module.js") == (0, "")


# docs/etcd.md


def test_etcdctl_shows_unlocks_and_watches(node: Node, cluster: Cluster) -> None:
    realm = connect(cluster.endpoints[0])
    lock = realm.lock("percona_prod").acquire()
    show, one, unlock, watch = recipe("etcdctl").splitlines()
    settings = f"export ETCDCTL_API=3 ETCDCTL_ENDPOINTS={cluster.endpoints[0]} PATH=$PATH:{BIN};"
    assert "percona_prod" in node.run(f"{settings} {show}")[1]
    assert f'"create_revision":{lock.token}' in node.run(f"{settings} {one}")[1]
    assert node.run(f"{settings} {unlock}") == (0, "1\n")
    assert not lock.verify()
    watching = node.start(f"{settings} {watch}")
    assert watching.stdout is not None
    realm.lock("other").acquire()
    # It may have been opened too late for the first one.
    seen = wait_until(lambda: _turn(realm) and is_readable(watching.stdout, 0.1), "an event")
    assert seen
    os.killpg(watching.pid, signal.SIGTERM)
    assert "/distlock/" in finish(watching)[1]


def _turn(realm: Realm) -> bool:
    with realm.lock("another"):
        return True


def test_a_realm_is_frozen_and_thawed_by_hand(node: Node, cluster: Cluster) -> None:
    freeze, thaw = recipe("freeze by hand").splitlines()
    settings = f"export ETCDCTL_API=3 ETCDCTL_ENDPOINTS={cluster.endpoints[0]} PATH=$PATH:{BIN};"
    assert node.run(f"{settings} {freeze}") == (0, "OK\n")
    code, said = node.run("distlock --lock-name=x --nowait -- yum")
    assert code == 1
    assert "network maintenance" in said
    assert node.run(f"{settings} {thaw}") == (0, "1\n")
    assert node.run("distlock --lock-name=x --nowait -- yum") == (0, "")


# docs/rollouts.md


def test_a_program_freezes_its_lock_if_the_work_fails(cluster: Cluster) -> None:
    def upgrade() -> None:
        raise RuntimeError("no space left")

    text = with_stand_ins(recipe("freeze in Python"), ("connect()", f"connect({cluster.endpoints[0]!r})"))
    with pytest.raises(RuntimeError):
        exec(compile(text, "docs/rollouts.md", "exec"), {"upgrade": upgrade})
    realm = connect(cluster.endpoints)
    freeze = realm.frozen("percona_prod")
    assert freeze is not None
    assert freeze.reason == "the upgrade failed: no space left"
    assert realm.show("percona_prod").holders == ()


# docs/library.md


def test_the_library_for_asyncio(cluster: Cluster, tmp_path: Path) -> None:
    text = recipe("asyncio").replace("http://127.0.0.1:2379", cluster.endpoints[0])
    with subprocess.Popen(
        [sys.executable, "-u", "-c", text], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = process.stdout
        assert re.fullmatch(r"token \d+ True\n", process.stdout.readline())
        realm = connect(cluster.endpoints[0])
        wait_until(lambda: _turn(realm) and is_readable(told, 0.1), "an event")
        assert process.stdout.readline() in ("acquired another\n", "released percona_prod\n", "released another\n")
        process.terminate()


# docs/running.md


def as_cron_does(node: Node, line: str) -> tuple[int, str]:
    """By /bin/sh, in cron's environment, as root."""
    schedule = r"(?:[\d*/,-]+ ){5}"
    match = re.fullmatch(rf"{schedule}root (.+)", line)
    assert match is not None, line
    assert "%" not in match[1]  # cron would make a line feed of it
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/root", "LOGNAME": "root", "SHELL": "/bin/sh"}
    return finish(node.start_in(environment, ["/bin/sh", "-c", match[1]]))


def test_a_job_of_cron_is_silent_where_the_lock_is_held(node: Node, cluster: Cluster) -> None:
    line = recipe("cron")
    assert line in (ROOT / "examples/cron/backup").read_text()
    realm = connect(cluster.endpoints[0])
    with realm.lock("backup"):
        assert as_cron_does(node, line) == (0, "")
        assert node.called == []
    assert as_cron_does(node, line) == (0, "")
    assert node.called == ["backup "]
    # Failures are mailed: a backup that fails, and an etcd that is away.
    node.stand_in("sbin/backup", "echo no space; exit 3")
    assert as_cron_does(node, line) == (3, "no space\n")
    cluster.members[0].stop()
    code, said = as_cron_does(node, line)
    assert (code, said.count("\n")) == (1, 1)
    assert "no etcd answered" in said


def test_sudo_outside_and_the_token_as_an_argument(node: Node) -> None:
    need("sudo")
    about_the_network = re.compile(r"sudo: unable to resolve host .*\n")
    code, said = node.run(recipe("sudo outside"))
    assert (code, about_the_network.sub("", said)) == (0, "")
    assert node.called == ["yum --assumeyes upgrade"]
    code, said = node.run(recipe("sudo inside"))
    assert (code, about_the_network.sub("", said)) == (0, "")
    code, said = node.run("DISTLOCK_TOKEN=7 DISTLOCK_ENDPOINTS=x sudo env")
    assert (code, "DISTLOCK" in said) == (0, False)


@pytest.mark.parametrize("unit", sorted(path.name for path in (ROOT / "examples/systemd").iterdir()))
def test_systemd_accepts_the_units(node: Node, unit: str, tmp_path: Path) -> None:
    need("systemd-analyze", "apt-get install systemd")
    node.stand_in("sbin/worker")
    units = shutil.copytree(ROOT / "examples/systemd", tmp_path / "units")
    verified = node.run(f"systemd-analyze verify --recursive-errors=no {units / unit}")
    assert verified == (0, "")
    for command in re.findall(r"^ExecStart=(.+ -- .+)$", (units / unit).read_text(), re.MULTILINE):
        assert node.run(command) == (0, "")
        assert len(node.called) == 1


def test_ssh_starts_a_command_that_outlives_it(node: Node, tmp_path: Path) -> None:
    """The nohup recipe, by the shell that ssh would start; its waiter and its command see no terminal and no pipe."""
    need("bash")
    (command,) = re.findall(r"ssh web-1 '(.+)'$", recipe("ssh with nohup"))
    node.stand_in("sbin/upgrade", "touch upgraded")
    assert node.run(command) == (0, "")
    wait_until((tmp_path / "upgraded").exists, "the upgrade")
    assert (tmp_path / "upgrade.log").read_text() == ""
