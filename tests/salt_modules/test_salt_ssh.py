"""`salt-ssh`: no minion, no package on the node, settings from the roster."""

from __future__ import annotations

import getpass
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from distlock_core.testing import Cluster
from tests.support.doc_blocks import recipe
from tests.support.etcd_view import Etcd
from tests.support.needs import SALT, missing
from tests.support.paths import ROOT
from tests.support.processes import wait_until
from tests.support.salt_minions import BIN, State, run_salt, states
from tests.support.sshd import Sshd

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things

CALL_TIMEOUT = 200.0  # seconds; salt-ssh packs a Salt first, and ships it
SLS = """
one node at a time:
  distlock.locked:
    - name: percona_prod
    - reason: Upgrade RPMs
    - until: run_end

work:
  cmd.run:
    - name: touch {folder}/worked
    - require:
      - distlock: one node at a time

mine:
  module.run:
    - distlock.show:
      - name: percona_prod
    - require:
      - cmd: work
"""


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    sshd = Sshd(tmp_path_factory.mktemp("sshd"))
    yield sshd
    sshd.stop()


class Site:
    """A folder with Salt's configuration for salt-ssh, and one node in its roster: this machine, with a bare Python."""

    def __init__(self, folder: Path, sshd: Sshd, etcd: Cluster, prefix: str) -> None:
        self.folder = folder
        self._sshd = sshd
        sls = folder / "sls"
        sls.mkdir()
        (sls / "upgrade.sls").write_text(SLS.format(folder=folder))
        (host_key,) = (sshd.folder / "host_key.pub").read_text().splitlines()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{sshd.port} {host_key}\n")
        self.settings = {"endpoints": etcd.endpoints, "prefix": prefix}
        # What the page says, for this machine.
        master = yaml.safe_load(recipe("Salt ssh master"))
        self._write(
            "master", {"root_dir": str(folder), "file_roots": {"base": [str(ROOT / "salt"), str(sls)]}, **master}
        )
        (node,) = yaml.safe_load(recipe("Salt ssh roster")).values()
        node["minion_opts"]["distlock"].update(self.settings)
        here = {
            "host": "127.0.0.1",
            "port": sshd.port,
            "user": getpass.getuser(),
            "priv": str(sshd.folder / "user_key"),
            "ssh_options": [f"UserKnownHostsFile={folder}/known_hosts"],
            "set_path": f"{sshd.python.parent}:/usr/bin:/bin",
            "thin_dir": str(folder / "thin"),
        }
        self._write("roster", {"h1": {**node, **here}})

    def call(self, *arguments: str) -> tuple[int, Any]:
        """The exit code, and what the node has returned."""
        options = ["--config-dir", str(self.folder), "--roster-file", str(self.folder / "roster"), "--out=json"]
        done = run_salt([str(BIN / "salt-ssh"), *options, "h1", *arguments], timeout=CALL_TIMEOUT)
        said = done.stdout + done.stderr
        assert done.stdout.lstrip().startswith("{"), said
        assert "Traceback" not in said
        return done.returncode, json.loads(done.stdout)["h1"]

    def apply(self, sls: str, *arguments: str) -> tuple[int, dict[str, State]]:
        code, returned = self.call("state.apply", sls, *arguments)
        return code, states(returned)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        (self.folder / name).write_text(yaml.safe_dump(content))


@pytest.fixture
def site(salt_is_there: None, sshd: Sshd, etcd: Cluster, realm_prefix: str, tmp_path: Path) -> Site:
    if not shutil.which("salt-ssh", path=str(BIN)):
        missing(f"salt-ssh is missing. To install it: {SALT}")
    return Site(tmp_path, sshd, etcd, realm_prefix)


def test_a_state_that_requires_the_lock_is_guarded_over_ssh(site: Site, keys: Etcd) -> None:
    keys.lock("percona_prod", owner="node-3")
    code, done = site.apply("upgrade")
    assert code != 0
    assert done["one node at a time"].result is False
    assert "percona_prod is held by node-3 since" in done["one node at a time"].comment
    assert done["work"].result is False
    assert not (site.folder / "worked").exists()
    keys.unlock("percona_prod")

    code, done = site.apply("upgrade")
    assert code == 0, done
    assert "percona_prod is locked by salt:h1, token" in done["one node at a time"].comment
    (lock,) = done["mine"].changes["distlock.show"]
    assert (lock["owner"], lock["lifetime"], lock["reason"]) == ("salt:h1", "bound", "Upgrade RPMs")
    assert (site.folder / "worked").exists()
    wait_until(lambda: keys.keys() == [], "its release with the end of the run on the node")
