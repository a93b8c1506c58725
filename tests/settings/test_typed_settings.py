"""Settings have typed fields: a type checker sees every use of one, and the table agrees with the types."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from distlock_core.settings import options
from distlock_core.settings.options import BY_KEY, SETTINGS, Settings

USES = """\
from distlock_core.settings.options import Settings, setting
from distlock_core.settings.readers import read_text, read_whole

def use(settings: Settings) -> None:
"""
RIGHT = (
    "name: str = settings.lockname",
    "ttl: int | None = settings.ttl",
    "urls: list[str] | None = settings.endpoints",
    "other: Settings = settings._replace(ttl=60)",
    "made = Settings(lockname='x', quiet=True)",
    "count: int = setting(read_whole(1, 2), 1)",
)
WRONG = {
    "settings.lock_name": '"Settings" has no attribute "lock_name"',
    "settings.ttl = 60": 'Property "ttl" defined in "Settings" is read-only',
    "number: int = settings.refresh": "Incompatible types in assignment",
    "settings._replace(tll=60)": 'Unexpected keyword argument "tll"',
    "settings._replace(ttl='60')": 'Argument "ttl" to "_replace"',
    "Settings(lock_name='x')": 'Unexpected keyword argument "lock_name"',
    # Lines of the table whose reader or default has another type than the field.
    "wrong_reader: int = setting(read_text, 1)": "Incompatible types in assignment",
    "wrong_default: int = setting(read_whole(1, 2), None)": "Incompatible types in assignment",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """mypy's message about each line, in a function with the argument `settings`."""
    folder = tmp_path_factory.mktemp("mypy")
    path, lines = folder / "uses.py", [*RIGHT, *WRONG]
    path.write_text(USES + "".join(f"    {line}\n" for line in lines))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={folder / 'cache'}", str(path)],
        cwd=Path(options.__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    said = dict.fromkeys(lines, "")
    for number, error in re.findall(r"uses\.py:(\d+): error: (.*)", done.stdout):
        said[lines[int(number) - USES.count("\n") - 1]] += f"{error}\n"
    return said


@pytest.mark.parametrize("line", RIGHT)
def test_mypy_accepts_the_right_uses(found: dict[str, str], line: str) -> None:
    assert found[line] == ""


@pytest.mark.parametrize("line", WRONG)
def test_mypy_refuses_a_misspelt_setting_and_a_wrong_type(found: dict[str, str], line: str) -> None:
    assert WRONG[line] in found[line]


def test_every_field_but_those_about_all_settings_is_a_line_of_the_table() -> None:
    assert [one.key for one in SETTINGS] == [
        word for word in Settings._fields if word not in ("given", "warnings", "origins", "realm_arguments")
    ]
    assert {one.key: one for one in SETTINGS} == BY_KEY


def test_the_defaults_are_those_of_the_table() -> None:
    assert Settings()[: len(SETTINGS)] == tuple(one.default for one in SETTINGS)


def test_settings_cannot_be_changed() -> None:
    settings = Settings(ttl=60)
    with pytest.raises(AttributeError):
        settings.ttl = 30  # type: ignore[misc]
    assert settings._replace(ttl=30).ttl == 30
    assert settings.ttl == 60


def test_a_setting_is_found_by_a_key_known_at_run_time_only() -> None:
    settings = Settings(slots=3)
    assert settings.by_key("slots") == 3
    for word in ("lock-name", "given", "warnings", "time_to_end"):
        with pytest.raises(KeyError):
            settings.by_key(word)


def test_a_secret_is_not_shown() -> None:
    settings = Settings(user="web-7", password="s3cret")
    assert "s3cret" not in repr(settings)
    assert "web-7" not in repr(settings)
    assert "password=***" in repr(settings)


def test_the_defaults_for_a_loss_depend_on_the_ttl() -> None:
    assert (Settings().time_to_end, Settings().kills_on_loss) == (5.0, False)
    assert (Settings(ttl=60).time_to_end, Settings(ttl=60).kills_on_loss) == (10.0, True)
    both_set = Settings(ttl=60, kill_after=3.0, on_loss="continue")
    assert (both_set.time_to_end, both_set.kills_on_loss) == (3.0, False)
