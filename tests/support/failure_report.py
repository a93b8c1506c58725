"""Reports: the history of a failed test's realm; skipped tests, with the command that installs what is missing."""

from __future__ import annotations

import subprocess
from collections.abc import Generator

import pytest

from distlock_core.testing import Cluster, EtcdctlError
from tests.support.needs import summary

HISTORY_LIMIT = 20_000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The content and the history of a failed test's realm."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    prefix = arguments.get("realm_prefix")
    if call.when == "call" and report.failed and prefix is not None:
        for name in ("etcd", "oldest_etcd", "each_etcd", "cluster3"):
            if isinstance(arguments.get(name), Cluster):
                report.sections.append((f"realm {prefix} in {name}", _history(arguments[name], prefix)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """In place of a line per skipped test: what is missing, and how to install it."""
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", ())]
    if reasons:
        terminalreporter.section("not tested", yellow=True)
        for line in summary(reasons):
            terminalreporter.write_line(line)


def _history(cluster: Cluster, prefix: str) -> str:
    try:
        now = cluster.etcdctl("get", "--prefix", prefix)
    except (EtcdctlError, OSError, RuntimeError, subprocess.TimeoutExpired, pytest.fail.Exception) as e:
        # The last one comes from pytest-timeout, and would end the whole session here.
        return f"(not to be had: {e})"
    return f"now:\n{now}\nhistory:\n{_watched(cluster, prefix)}"[:HISTORY_LIMIT]


def _watched(cluster: Cluster, prefix: str) -> str:
    # A watch is endless: read until nothing more arrives for a moment; only a failed test takes this time.
    try:
        cluster.etcdctl("watch", "--prefix", prefix, "--rev=1", timeout=2)
    except subprocess.TimeoutExpired as e:
        said = e.stdout or b""
        return said.decode(errors="replace") if isinstance(said, bytes) else said
    except (EtcdctlError, OSError) as e:
        return str(e)
    return ""
