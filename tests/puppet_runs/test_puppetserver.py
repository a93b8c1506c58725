"""Real agents of a real puppetserver: `make test-puppetserver`. No part of `make test`: the server takes a minute."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest

from distlock_core import Holder, connect
from distlock_core.testing import Cluster
from tests.support.etcd_view import Etcd
from tests.support.needs import missing
from tests.support.paths import ROOT
from tests.support.processes import is_running, present, status_of, wait_until
from tests.support.puppet_node import CHANGED, DISTLOCK_PUPPET, UNCHANGED, Guarded, PuppetNode, holder_named, quoted
from tests.support.puppet_server import JAR, PuppetServer

pytestmark = [pytest.mark.puppetserver, pytest.mark.timeout(900)]

Holding = Callable[[], "Holder | None"]
NewAgent = Callable[[str], PuppetNode]
BOUND = 200.0  # seconds for a run to come to its command, the first one of a server included


@pytest.fixture(scope="module")
def server(need: Callable[..., str]) -> Iterator[PuppetServer]:
    need("puppet")
    need("puppetserver")
    if not JAR.exists():
        missing(f"{JAR} is missing. To install it: apt-get install puppetserver")
    server = PuppetServer()
    yield server
    server.stop()


@pytest.fixture
def new_agent(server: PuppetServer, new_node: Callable[..., PuppetNode], tmp_path: Path) -> NewAgent:
    """new_agent("db1") -> an agent of the server's, with the whole-run lock. A shell stands before its post."""
    post = tmp_path / "post"
    post.write_text(
        f"#!/bin/sh\n{DISTLOCK_PUPPET} release percona_prod\ncode=$?\necho $1 >> {tmp_path}/posts\nexit $code\n"
    )
    post.chmod(0o755)

    def new(certname: str) -> PuppetNode:
        # The certificate of a name is the same for all tests.
        ssl = {"ssldir": str(server.folder / "agents" / certname)}
        conf = {**ssl, "server": "localhost", "serverport": str(server.port), "keylength": "2048", "waitforcert": "5"}
        return new_node(certname, whole_run=True, postrun_command=f"{post} {certname}", **conf)

    return new


def posts(folder: Path) -> list[str]:
    path = folder / "posts"
    return path.read_text().split() if path.exists() else []


def serve(server: PuppetServer, guarded: Guarded) -> None:
    """Every node does the guarded part."""
    server.site.write_text(f"exec {{ 'upgrade': command => [{quoted(guarded.script)[1:-1]}, $trusted['certname']] }}\n")


def wait_free(holder: Holding, seen: Etcd) -> None:
    wait_until(lambda: holder() is None, "the lock is free")
    wait_until(lambda: not seen.keys() and not seen.new_leases(), "nothing left in etcd")


def test_one_agent_at_a_time_and_the_other_when_it_runs_again(
    server: PuppetServer, new_agent: NewAgent, guarded: Guarded, holder: Holding, seen: Etcd
) -> None:
    serve(server, guarded)
    nodes = {name: new_agent(name) for name in ("db1", "db2")}
    runs = {name: node.start_agent("--test") for name, node in nodes.items()}
    wait_until(
        lambda: guarded.began and any(run.process.poll() is not None for run in runs.values()), "one refused", BOUND
    )
    (winner,) = guarded.began
    (loser,) = set(nodes) - {winner}
    assert runs[loser].wait() == 1, runs[loser].said
    assert holder_named(runs[loser].said) == f"puppet:{winner}" == present(holder()).owner
    guarded.gate.touch()
    assert runs[winner].wait() == CHANGED, runs[winner].said
    code, said = nodes[loser].run_agent()
    assert code == CHANGED, said
    assert guarded.began == guarded.ended == [winner, loser]
    wait_free(holder, seen)


def test_a_catalog_that_does_not_compile(
    server: PuppetServer, new_agent: NewAgent, etcd: Cluster, realm_prefix: str, tmp_path: Path
) -> None:
    server.site.write_text("include nothing_of_this_name\n")
    node = new_agent("db1")
    # Post runs without pre. The lock that it finds belongs to another run of the same node.
    lock = connect(etcd.endpoints, realm_prefix).lock("percona_prod", node.owner).acquire(0)
    code, said = node.run_agent()
    assert code == 1, said
    assert "Could not retrieve catalog" in said
    assert "postrun_command" not in said
    assert posts(tmp_path) == ["db1"]
    assert lock.verify()


def test_each_run_of_a_resident_agent_has_its_own_lock(
    server: PuppetServer, new_agent: NewAgent, guarded: Guarded, holder: Holding, seen: Etcd, tmp_path: Path
) -> None:
    serve(server, guarded)
    agent = new_agent("db1").start_agent("--no-daemonize", "--verbose", "--runinterval=1h")

    def at_work(number: int) -> int:
        """The process of the agent's run number so and so, in its guarded part."""
        wait_until(lambda: len(guarded.began) == number, f"run {number} at its command", BOUND)
        run = present(present(holder()).record.number("pid"))
        assert run != agent.pid
        assert int(status_of(run)["PPid"]) == agent.pid
        return run

    at_work(1)
    guarded.gate.touch()
    wait_free(holder, seen)
    assert posts(tmp_path) == ["db1"]
    assert is_running(agent.pid)

    # The run is killed: the lock is free when what it has started has ended, and the agent goes on.
    wait_until(lambda: agent.said.count("Applied catalog") == 1, "the first run's end")
    guarded.gate.unlink()
    agent.send(signal.SIGUSR1)
    run = at_work(2)
    command = present(guarded.pid)
    os.kill(run, signal.SIGKILL)
    wait_until(lambda: not is_running(run), "the end of the run")
    assert is_running(command)
    assert present(present(holder()).record.number("pid")) == run
    guarded.gate.touch()
    wait_free(holder, seen)
    assert posts(tmp_path) == ["db1"]  # killed before its post
    assert is_running(agent.pid)


def test_a_resident_agent_under_noop_locks_nothing(
    server: PuppetServer, new_agent: NewAgent, guarded: Guarded, holder: Holding, etcd: Cluster, realm_prefix: str
) -> None:
    serve(server, guarded)
    lock = connect(etcd.endpoints, realm_prefix).lock("percona_prod", "node-3").acquire(0)
    agent = new_agent("db1").start_agent("--no-daemonize", "--verbose", "--runinterval=1h", "--noop")
    wait_until(lambda: "Applied catalog" in agent.said, "a run", BOUND)
    assert "(noop)" in agent.said
    assert "prerun_command" not in agent.said
    assert lock.verify()
    agent.send(signal.SIGTERM)
    assert agent.wait() == UNCHANGED


def test_the_module_comes_to_the_agent_with_type_function_and_fact(
    server: PuppetServer, new_agent: NewAgent, etcd: Cluster, realm_prefix: str, tmp_path: Path
) -> None:
    source = ROOT / "puppet"
    target = server.folder / "code/environments/production/modules/distlock"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("spec", ".yardoc"))
    look = quoted("/bin/sh", "-c", f"distlock --show --lock-name=upgrade > {tmp_path}/during")
    server.site.write_text(f"""
        class {{ 'distlock': install => 'none', config_file => '{tmp_path}/distlock.yaml',
          config_owner => {os.getuid()}, config_group => {os.getgid()},
          endpoints => ['{etcd.endpoints[0]}'], prefix => '{realm_prefix}',
        }}
        -> distlock {{ 'upgrade': config => '{tmp_path}/distlock.yaml', reason => "it's $(odd)" }}
        -> distlock::exec {{ 'look': command => {look}, path => split($facts['path'], ':'),
          program => '{DISTLOCK_PUPPET}', unless => '/usr/bin/test -e {tmp_path}/during' }}
        notice($facts['distlock']['locks'].keys)
    """)
    node = new_agent("db1")
    code, said = node.run_agent()
    assert code == CHANGED, said
    assert "upgrade is locked by puppet:db1, token" in said
    assert "puppet:db1" in (tmp_path / "during").read_text()
    (held,) = connect(etcd.endpoints, realm_prefix).show("upgrade").holders
    assert (held.owner, held.reason, held.lifetime) == ("puppet:db1", "it's $(odd)", "persistent")

    code, said = node.run_agent()
    assert code == UNCHANGED, said
    assert "warning" not in said.lower()
    # The fact that the agent has sent. It is gathered before prerun_command: the run's own lock is not in it.
    assert "Scope(Class[main]) [upgrade]" in server.log, server.log[-3000:]
    shutil.rmtree(target)
