"""`make test-fast` leaves no package out."""

from __future__ import annotations

from pathlib import Path

import distlock_core
from tests.support.fast_lane import LANE, arguments
from tests.support.paths import ROOT

PACKAGE = Path(distlock_core.__file__).parent
ELSEWHERE = {"saltext"}  # links to salt/, which Salt loads


def test_every_package_has_tests_in_the_fast_lane() -> None:
    packages = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")} - {"."}
    packages = {name for name in packages if name.partition("/")[0] not in ELSEWHERE}
    assert packages - LANE.keys() == set()
    assert [package for package in LANE if not LANE[package]] == []
    assert [package for package in LANE if not (PACKAGE / package).exists() and package != "manager"] == []


def test_every_file_of_the_fast_lane_is_there() -> None:
    assert [path for path in arguments() if not (ROOT / path.partition("::")[0]).exists()] == []


def test_the_tests_have_a_folder_for_every_package() -> None:
    assert [package for package in LANE if not list((ROOT / "tests" / package).glob("test_*.py"))] == []
