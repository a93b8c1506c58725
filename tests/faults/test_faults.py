"""Short runs under a nemesis. Longer ones: `make faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.faults.run import faults
from tests.support.needs import need

SECONDS = 15.0


@pytest.mark.parametrize("seed", [1, 20])
def test_no_promise_is_broken_under_a_nemesis(seed: int, tmp_path: Path) -> None:
    need("etcdctl")
    summary, _ = faults(SECONDS, seed, 5, need("etcd"), tmp_path)
    assert not summary.found, summary
    assert summary.acquisitions > 5, summary
    assert sum(summary.faults.values()) > 5, summary
