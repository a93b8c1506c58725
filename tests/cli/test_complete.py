"""`distlock --complete-lock-names`, which the completion of shells calls."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from distlock_core.cli.complete import print_names
from distlock_core.testing import Cluster

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_names_of_held_queued_frozen_ruled_and_released_locks_are_printed(
    run_distlock: Run, etcd: Cluster, realm_prefix: str
) -> None:
    for key in ("held", "slots/slot/3", "queued/queue/50/exclusive/1", "still/freeze", "__policy/ruled", "__last/past"):
        etcd.etcdctl("put", f"{realm_prefix}{key}", "1;other;{}")
    for key in ("__freeze", "__internal_lock/1", "__pruned/at", "odd/other/key", "invisible\u200b"):
        etcd.etcdctl("put", f"{realm_prefix}{key}", "1;other;{}")
    done = run_distlock("--complete-lock-names")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["held", "past", "queued", "ruled", "slots", "still"]


def test_the_words_of_the_line_lead_to_the_realm(
    distlock_env: dict[str, str],
    etcd: Cluster,
    realm_prefix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    etcd.etcdctl("put", f"{realm_prefix}here", "1;other;{}")
    etcd.etcdctl("put", f"{realm_prefix}stage/there", "1;other;{}")
    config = tmp_path / "config.yaml"
    config.write_text(f"prefix: {realm_prefix}stage/\n")
    monkeypatch.setenv("DISTLOCK_ENDPOINTS", etcd.endpoints[0])
    monkeypatch.setenv("DISTLOCK_PREFIX", realm_prefix)

    def printed(*words: str) -> str:
        assert print_names(words) == 0
        out, err = capfd.readouterr()
        assert err == ""
        return out

    assert printed() == "here\n"
    assert printed("--show", "--lock-name=he", "--timeout", "5", "--lock-name") == "here\n"
    assert printed("exec", "web", f"--prefix={realm_prefix}stage/") == "there\n"
    assert printed("-prefix", f"{realm_prefix}stage/", "--json", "--ttl=wrong") == "there\n"
    monkeypatch.delenv("DISTLOCK_PREFIX")
    assert printed(f"--config={config}") == "there\n"
    # Errors are silent.
    assert printed("--config=/nowhere.yaml") == ""
    assert printed("--endpoints=http://127.0.0.1:1", "--connect-timeout=1") == ""
    assert printed("--prefix=/wrong//") == ""
    assert printed("--endpoints=") == ""


def test_it_is_no_option_of_a_run(run_distlock: Run) -> None:
    done = run_distlock("--lock-name=x", "--complete-lock-names", "--", "true")
    assert done.returncode == 1
    assert "unknown option" in done.stderr
