"""An etcd with TLS and users, under Salt: it works, and the password is in no output, return or log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest

from tests.support.salt_minions import Minion

pytestmark = pytest.mark.timeout(300)  # for a machine that is busy with other things

SECRET = "hunter2-of-salt"
# What anybody on the node may read while the command runs.
PROCESSES = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; true"


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
        ("state.single", "distlock.held", "x"),
        ("state.single", "distlock.locked", "y", "until=run_end"),
        ("distlock.show", "x"),
        ("distlock.run", "x", f"echo $DISTLOCK_HELD; {PROCESSES}", "python_shell=True"),
        ("distlock.run", "x", "true", "cwd=/no/such/folder"),
        ("state.single", "distlock.unlocked", "x"),
    ):
        done = minion.run("--log-level=all", *words, env=env)
        assert "Traceback" not in done.stdout
        assert (done.returncode == 0) is (not any("no/such" in word for word in words)), (words, done.stdout)
        shown += [done.stdout, done.stderr]
    shown.append(minion.log)
    assert any(str(settings["prefix"]) in text for text in shown)
    assert any("salt-call" in text for text in shown)
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


def test_a_commands_user_is_another_and_does_not_see_etcds_password(
    new_minion: Callable[..., Minion], settings: dict[str, object]
) -> None:
    if os.getuid() != 0:
        pytest.skip("only root starts a command as another user")
    done = new_minion(distlock=settings).steps(
        named=("distlock.run", {"name": "x", "cmd": "id -un; id -Gn; env", "runas": "nobody", "python_shell": True}),
        unknown=("distlock.run", {"name": "x", "cmd": "id", "runas": "nobody-of-this-name"}),
    )
    assert done["named"].result is True, done
    said = done["named"].changes["stdout"].splitlines()
    assert said[:2] == ["nobody", "nogroup"]
    assert "USER=nobody" in said
    assert not [line for line in said if SECRET in line]
    assert (done["unknown"].result, done["unknown"].comment) == (False, "runas: there is no user nobody-of-this-name")
