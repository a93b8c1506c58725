"""A network that drops packets for less than ttl - refresh - kill_after ends no command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Callable

import pytest

from tests.support.needs import missing
from tests.support.paths import ROOT

TTL = 12
FRACTION = 0.9  # of ttl - refresh - kill_after: what is left of it is 0.6 s, and the machine may be busy
COMMANDS = ("http", "grpc", "http", "http", "grpc", "http")
SCRIPT = ROOT / "tests/support/network_cut.py"
OWN_NETWORK = ("unshare", "--map-root-user", "--net")


@pytest.fixture
def own_network(need: Callable[..., str]) -> None:
    """A network of the test's own can be had, with packets dropped in it."""
    for tool in ("unshare", "nsenter", "ip", "iptables"):
        need(tool)
    tried = subprocess.run([*OWN_NETWORK, "iptables", "-L", "-n"], capture_output=True, text=True, check=False)
    if tried.returncode:
        missing(f"no network of the test's own is to be had: {tried.stderr.strip()}")


@pytest.mark.usefixtures("own_network")
def test_a_cut_shorter_than_promised_ends_no_command() -> None:
    """Renewals were due just before it: TCP sends again after ever longer pauses, the last of which outlasts it."""
    distlock = os.path.join(os.path.dirname(sys.executable), "distlock")
    done = subprocess.run(
        [*OWN_NETWORK, sys.executable, str(SCRIPT), distlock, str(TTL), str(FRACTION), *COMMANDS],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert len(results) == len(COMMANDS)
    assert [one for one in results if not one["alive"]] == []
