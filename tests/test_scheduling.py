"""Among several workers, what tests share is made once."""

from __future__ import annotations

import pytest

from tests.support.paths import ROOT
from tests.support.scheduling import next_for, shared_by


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/settings/test_typed_settings.py::test_it[a]", "tests/settings/test_typed_settings.py"),
        ("tests/salt_modules/test_fleet.py::test_it", "tests/salt_modules/test_fleet.py"),
        ("tests/etcd/test_watches.py::test_it[3.10-tls-grpc]", "contract of 3.10-tls"),
        ("tests/etcd/test_refusals.py::test_it[3.5.1-auth]", "contract of 3.5.1-auth"),
        ("tests/lock/test_release.py::test_it[3.4]", ""),
    ],
)
def test_tests_with_a_shared_fixture_run_on_one_worker(nodeid: str, group: str) -> None:
    assert shared_by(ROOT, nodeid) == group


def test_a_worker_takes_what_is_at_home_on_it_first_and_then_anything() -> None:
    puppet, salt, other = "tests/puppet_runs/a", "tests/salt_modules/test_fleet.py", "tests/lock/a"
    assert [next_for(place, 8, [puppet, salt, other]) for place in range(8)] == [puppet] * 4 + [other] + [salt] * 3
    assert [next_for(place, 8, [puppet, salt]) for place in (0, 4, 7)] == [puppet, puppet, salt]
    assert [next_for(0, 1, scopes) for scopes in ([salt, puppet], [salt])] == [puppet, salt]


def test_a_fixture_of_one_file_is_made_once() -> None:
    """For the module, or by `once()`: that of a session would be made by each worker that has a test of the file."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")}
    of_each_worker = "@pytest.fixture(scope=" + '"session"'
    assert [path for path, text in texts.items() if of_each_worker in text and "once(" not in text] == []
