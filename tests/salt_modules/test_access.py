"""An etcd with TLS and users, under Salt: it works, and the password is in no output, return or log."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
from salted import Minion

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things

SECRET = "hunter2-of-salt"


@pytest.fixture
def settings(user_of_realm: Callable[[str], dict[str, object]]) -> dict[str, object]:
    return user_of_realm(SECRET)


def test_states_and_functions_work_and_show_no_password(
    new_minion: Callable[..., Minion], settings: dict[str, object]
) -> None:
    config = {**settings, "password": "sdb://here/DISTLOCK_TEST_SECRET"}
    minion = new_minion(distlock=config, here={"driver": "env"})
    env = {"DISTLOCK_TEST_SECRET": SECRET}
    shown = []
    for words in (
        ("state.single", "distlock.locked", "x"),
        ("distlock.run", "x", "echo $DISTLOCK_HELD", "python_shell=True"),
        ("distlock.run", "x", "true", "cwd=/no/such/folder"),
        ("state.single", "distlock.unlocked", "x"),
    ):
        done = minion.run(*words, env=env)
        assert "Traceback" not in done.stdout + done.stderr
        assert (done.returncode == 0) is (not any("no/such" in word for word in words)), (words, done.stdout)
        shown += [done.stdout, done.stderr]
    shown.append(minion.log)
    assert any(str(settings["prefix"]) in text for text in shown)
    assert not [text for text in shown if SECRET in text]


def test_a_wrong_password_is_one_line_without_it(
    new_minion: Callable[..., Minion], settings: dict[str, object], tmp_path: Path
) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("hunter3")
    config = {key: value for key, value in settings.items() if key != "password"}
    minion = new_minion(distlock={**config, "password_file": str(wrong)})
    said = minion.refused("distlock.list")
    assert f"etcd refuses user '{settings['user']}': wrong password, or no such user" in said
    assert "hunter3" not in said + minion.log
    assert f"{wrong} has a password in it" in minion.log  # everybody may read it
