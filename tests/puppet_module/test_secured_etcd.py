"""An etcd with TLS and users, under Puppet: it works, and the password stays where it was put."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core import Realm, connect
from tests.support.puppet_module_node import ModuleNode
from tests.support.puppet_node import BIN, CHANGED, CHANGED_AND_FAILED, quoted

pytestmark = pytest.mark.timeout(300)

OWNER = f"config_owner => {os.getuid()}, config_group => {os.getgid()}"
SECRET, WRONG = "hunter2-of-puppet", "hunter3-of-puppet"
# Files that any user of the node may read while a command runs under one lock, with another bound to the run.
PROCESSES = """
import glob, sys
with open(sys.argv[1], "wb") as seen:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            seen.write(open(path, "rb").read() + b"\\n")
        except OSError:
            pass  # it has ended
"""


@pytest.fixture
def settings(user_of_realm: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return user_of_realm(SECRET)


@pytest.fixture
def realm(settings: dict[str, Any]) -> Realm:
    return connect(**settings)


def files_with(folder: Path, *texts: str) -> dict[Path, int]:
    """The files below a folder that contain one of these texts, and who may read them."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and any(text.encode() in path.read_bytes() for text in texts):
            found[path] = stat.S_IMODE(path.stat().st_mode)
    return found


def test_locks_work_and_the_password_is_in_its_own_file_alone(
    new_node: Callable[..., ModuleNode], settings: dict[str, Any], realm: Realm, realm_prefix: str, tmp_path: Path
) -> None:
    # The class writes where etcd is; nothing in the environment does.
    node = new_node(DISTLOCK_ENDPOINTS="", DISTLOCK_PREFIX="")
    config_file, secret, seen = tmp_path / "distlock.yaml", tmp_path / "secret", tmp_path / "seen"
    secret.touch(0o600)
    manifest = f"""
        File {{ backup => '.before' }}
        class {{ 'distlock': install => 'none', config_file => '{config_file}', {OWNER},
          endpoints => {quoted(*settings["endpoints"])}, prefix => '{realm_prefix}', cacert => '{settings["cacert"]}',
          user => '{settings["user"]}', password => Sensitive(file('{secret}')),
        }}
        distlock {{ 'stays': config => '{config_file}' }}
        -> distlock {{ 'run': config => '{config_file}', until => run_end }}
        -> distlock::exec {{ 'one':
          program => '{BIN}/distlock-puppet',
          command => {quoted(sys.executable, "-c", PROCESSES, seen)},
        }}"""
    options = ("--no-noop", "--debug", "--show_diff")
    secret.write_text(SECRET)
    code, said = node.apply(manifest, *options)
    assert code == CHANGED, said
    assert [holder.owner for holder in realm.show("stays").holders] == ["puppet:db1"]
    ended = realm.show("one").last
    assert ended is not None
    assert (ended.how, ended.by) == ("released", "puppet:db1")
    assert b"distlock-puppet" in seen.read_bytes()
    assert b"--while-pid" in seen.read_bytes() or b"keeper" in seen.read_bytes()
    assert SECRET not in said
    assert list((node.vardir / "reports").rglob("*.yaml"))
    assert files_with(tmp_path, SECRET) == {config_file: 0o600, secret: 0o600}

    # Another password: the one before is kept nowhere, and one that is wrong is shown nowhere.
    secret.write_text(WRONG)
    code, said = node.apply(manifest, *options)
    assert code == CHANGED_AND_FAILED, said
    assert f"etcd refuses user '{settings['user']}': wrong password, or no such user" in said
    assert not [text for text in (SECRET, WRONG) if text in said]
    assert files_with(tmp_path, SECRET, WRONG) == {config_file: 0o600, secret: 0o600}

    # None any more: it does not stay behind in a backup either.
    without = f"""
        File {{ backup => '.before' }}
        class {{ 'distlock': install => 'none', config_file => '{config_file}', {OWNER},
          password_file => '{secret}',
        }}"""
    code, said = node.apply(without, *options)
    assert code == CHANGED, said
    assert files_with(tmp_path, SECRET, WRONG) == {secret: 0o600}
