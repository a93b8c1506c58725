"""The classes, really applied: the config file, the run lock, and the package out of the repository's own wheel."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
import yaml

from distlock_core import connect
from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.etcd_view import Etcd
from tests.support.paths import ROOT
from tests.support.processes import wait_until
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import BIN, CHANGED, FAILED, UNCHANGED, quoted

pytestmark = pytest.mark.timeout(600)

SECRET = "s3cr3t-äé"
STRANGE = ["yes", "12:30:45", "=", "<<", "1e3", "a\nb: c", "ä€😀", "'\"\\", "# x", "$(id)", "\x7f\x85\u2028"]
OWNER = f"config_owner => {os.getuid()}, config_group => {os.getgid()}"


def in_puppet(text: str) -> str:
    """A string, as a manifest has it."""
    # Puppet reads a backslash that is written by its number as the beginning of an escape.
    written = ("\\\\" if character == "\\" else f"\\u{{{ord(character):x}}}" for character in text)
    return '"' + "".join(written) + '"'


def test_the_config_file_holds_any_value_and_keeps_the_secret(node: ModuleNode, tmp_path: Path) -> None:
    path = tmp_path / "distlock.yaml"
    endpoints = ", ".join(in_puppet(text) for text in STRANGE)
    manifest = f"""
        class {{ 'distlock': install => 'none', config_file => '{path}', {OWNER},
          endpoints => [{endpoints}], prefix => {in_puppet(STRANGE[5])}, user => 'u', transport => 'http',
          password => Sensitive({in_puppet(SECRET)}), connect_timeout => 2.5, settings => {{ 'nowait' => true }},
        }}"""
    path.write_text("password: older\n")
    code, said = node.apply(manifest, "--no-noop", "--show_diff", "--debug")
    assert code == CHANGED, said
    assert "s3cr3t" not in said
    assert "older" not in said
    assert yaml.safe_load(path.read_text()) == {
        "endpoints": STRANGE,
        "prefix": STRANGE[5],
        "user": "u",
        "password": SECRET,
        "transport": "http",
        "connect_timeout": 2.5,
        "nowait": True,
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    left = subprocess.run(["grep", "-rl", "s3cr3t", str(node.vardir / "reports")], capture_output=True, check=False)
    assert left.stdout == b""


def test_the_run_lock_guards_from_the_next_run_on_until_it_is_taken_away(
    node: ModuleNode, seen: Etcd, etcd: Cluster, realm_prefix: str, tmp_path: Path
) -> None:
    conf = node.confdir / "puppet.conf"
    conf.write_text("# mine\n" + conf.read_text() + "[agent]\nnoop = false\n")
    before = conf.read_text()
    realm = connect(etcd.endpoints, realm_prefix)
    during = f"distlock --show --lock-name=percona_prod >> {tmp_path}/during"
    look = f"exec {{ 'look': command => {quoted('/bin/sh', '-c', during)} }}"
    lock = (
        f"class {{ 'distlock::run_lock': lock_name => 'percona_prod', program => '{BIN}/distlock-puppet',"
        " ttl => 20, reason => 'nightly (all nodes)' }"
    )
    code, said = node.apply(lock)
    assert code == CHANGED, said
    written = [line for line in conf.read_text().splitlines() if "distlock" in line]
    assert written == [
        f"prerun_command = {BIN}/distlock-puppet acquire --ttl=20 --reason='nightly (all nodes)' percona_prod",
        f"postrun_command = {BIN}/distlock-puppet release percona_prod",
    ]
    assert [line for line in conf.read_text().splitlines() if "distlock" not in line] == before.splitlines()

    # The native type finds the run's own lock, and leaves it as it is.
    code, said = node.apply(f"{lock} {look} distlock {{ 'percona_prod': }}")
    assert code == CHANGED, said
    assert "Distlock" not in said.replace("Distlock::Run_lock", "")
    assert re.search(r"held by +puppet:db1", (tmp_path / "during").read_text())
    assert "nightly (all nodes)" in (tmp_path / "during").read_text()
    wait_until(lambda: not realm.show("percona_prod").holders, "the end of the run's lock")

    seen.lock("percona_prod", "puppet:db2", "its run")
    code, said = node.apply(look)
    assert code == 1, said
    assert re.search(r'percona_prod is held by puppet:db2 since .*: "its run"', said)
    seen.unlock("percona_prod")

    # A run with noop has not taken the lock: it applies nothing at all, not even what has noop => false.
    code, said = node.apply(f"{lock} exec {{ '/usr/bin/touch {tmp_path}/ran': noop => false }}", "--noop")
    assert code == 1, said
    assert re.search(r"has not taken the lock, and would apply Exec\[.*touch.*\] \(noop => false\).*noop_runs", said)
    assert not (tmp_path / "ran").exists()

    code, said = node.apply("class { 'distlock::run_lock': ensure => absent }")
    assert code == CHANGED, said
    assert conf.read_text() == before


def test_a_run_that_waited_for_its_lock_reports_it_in_log_and_report(
    node: ModuleNode, seen: Etcd, etcd: Cluster, realm_prefix: str
) -> None:
    realm = connect(etcd.endpoints, realm_prefix)
    lock = (
        f"class {{ 'distlock::run_lock': lock_name => 'percona_prod', program => '{BIN}/distlock-puppet',"
        " lock_timeout => -1, reason => 'nightly (all nodes)' }"
    )
    code, said = node.apply(lock)
    assert code == CHANGED, said
    story = re.compile(
        r"Distlock_puppet_conf\[main/prerun_command\]: percona_prod is held by puppet:db1 since .*"
        r'"nightly \(all nodes\)", after .* in the queue from position 1, behind puppet:db2 since .*"its run"'
    )
    code, said = node.apply(lock)
    assert code == UNCHANGED, said
    assert "in the queue" not in said  # there was no wait

    seen.lock("percona_prod", "puppet:db2", "its run")
    # Whatever the tags pick.
    run = node.start(lock, "--no-noop", "--tags", "nothing")
    wait_until(lambda: realm.show("percona_prod").waiting == 1, "it stands in line", 90)
    seen.unlock("percona_prod")
    assert run.wait() == UNCHANGED, run.said
    assert story.search(run.said), run.said
    (report,) = (node.vardir / "state").glob("last_run_report.yaml")
    assert "behind puppet:db2 since" in report.read_text()
    assert not realm.show("percona_prod").holders

    # A run goes on without the story where etcd does not tell it any more.
    away = lock.replace("lock_timeout", "config => '/dev/null', lock_timeout")
    code, said = node.apply(away)
    assert code == CHANGED, said  # the line in puppet.conf is another one
    assert "in the queue" not in said


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with the wheel of this repository."""
    build = [sys.executable, str(ROOT / "tools/build_wheel.py"), "--into", str(tmp_path / "wheels")]
    subprocess.run(build, check=True, timeout=100)
    return tmp_path / "wheels"


def test_the_package_is_installed_from_a_wheel_into_a_virtual_environment(
    new_node: Callable[..., ModuleNode], wheels: Path, tmp_path: Path
) -> None:
    # Packages that pip would fetch from its index.
    (tmp_path / "dependencies").mkdir()
    (tmp_path / "dependencies/yaml").symlink_to(Path(yaml.__file__).parent)
    node = new_node(PYTHONPATH=str(tmp_path / "dependencies"))
    commands = tmp_path / "bin"
    commands.mkdir()

    def manifest(ensure: str) -> str:
        mine = f"""ensure => '{ensure}', venv => '{tmp_path}/venv', python => '{sys.executable}', {OWNER},
          command_dir => '{commands}', config_file => '{tmp_path}/distlock.yaml', prefix => '/x/',"""
        of_the_page = with_stand_ins(
            recipe("Puppet package"),
            ("class { 'distlock':", f"class {{ 'distlock': {mine}"),
            ("--find-links=/srv/wheels", f"--find-links={wheels}"),
            ("'--no-index'", "'--no-index', '--no-deps'"),
        )
        return f"""
        {of_the_page}
        distlock::exec {{ 'x': command => ['/bin/true'], unless => '/usr/bin/test -e {tmp_path}/again' }}
        """

    # The first run of all may be one with noop: it fails at nothing that a real one would have put there.
    hidden = "distlock { 'y': }"
    code, said = node.apply(manifest("present") + hidden, "--noop")
    assert code == UNCHANGED, said
    assert "Error" not in said
    assert re.search(r"Package\[distlock-core\]/ensure: current_value .*absent.*, should be .*present.* \(noop\)", said)
    assert "Distlock[y]/ensure: current_value" in said
    assert not (tmp_path / "venv").exists()

    code, said = node.apply(manifest("present"))
    assert code == CHANGED, said
    assert (commands / "distlock-puppet").readlink() == tmp_path / "venv/bin/distlock-puppet"
    asked = subprocess.run([commands / "distlock", "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert asked.stdout.startswith("distlock ")
    assert "Exec[distlock: x]/returns: executed successfully" in said  # with the program that has just been installed

    (tmp_path / "again").touch()
    code, said = node.apply(manifest("present"))
    assert code == UNCHANGED, said

    code, said = node.apply(manifest("absent").partition("distlock::exec")[0])
    assert code == CHANGED, said
    assert not (tmp_path / "venv").exists()
    assert not (tmp_path / "distlock.yaml").exists()
    assert list(commands.iterdir()) == []


def test_missing_requirements_are_named(
    new_node: Callable[..., ModuleNode], need: Callable[..., str], modules: Path
) -> None:
    # A copy that looks nowhere but in PATH: distlock may well be installed on this machine.
    source = (modules / "distlock").resolve()
    (modules / "distlock").unlink()
    shutil.copytree(source, modules / "distlock")
    command = modules / "distlock/lib/puppet_x/distlock/command.rb"
    text, count = re.subn(r"FOLDERS = \[.*\]", "FOLDERS = []", command.read_text())
    assert count == 1
    command.write_text(text)
    path = f"{Path(need('puppet')).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    code, said = new_node(PATH=path).apply("distlock { 'x': } -> notify { 'guarded': }")
    assert code == FAILED, said
    assert "Could not evaluate: distlock-puppet is not installed: is `include distlock` missing?" in said
    assert "Notify[guarded]: Skipping because of failed dependencies" in said
    # A run with noop, where a real one would install it first.
    own = f"install => 'none', config_file => '{modules.parent}/distlock.yaml', {OWNER}"
    code, said = new_node("db2", PATH=path).apply(
        f"class {{ 'distlock': {own} }} distlock {{ 'x': }} -> notify {{ 'guarded': }}", "--noop"
    )
    assert code == UNCHANGED, said
    assert "as far as can be told: distlock-puppet is not installed" in said
    assert "Notify[guarded]/message: current_value 'absent', should be 'guarded' (noop)" in said
