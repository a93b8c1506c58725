"""--beat: whether the distlock that holds a lock is alive is told on any machine, and nothing depends on it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import Any, Callable

import pytest

from tests.support.doc_blocks import recipe, with_stand_ins
from tests.support.processes import Process
from tests.support.realm_view import BOUND, RealmView, eventually
from tests.support.scene import Scene

Run = Callable[..., subprocess.CompletedProcess[str]]
Spawn = Callable[..., Process]

DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")
AT = r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d"
# Another machine: its host name is another one.
FAR = ("unshare", "--uts", "sh", "-c", 'hostname far-away && exec "$@"', "sh")


def beat_line(card: str) -> str:
    (line,) = re.findall(r"^  beat      (.*)$", card, re.MULTILINE)
    return str(line)


def test_it_is_told_from_anywhere_and_breaks_nothing(
    spawn_distlock: Spawn, run_distlock: Run, distlock_env: dict[str, str], realm: RealmView, scene: Scene
) -> None:
    def far(*options: str) -> str:
        words = [*FAR, DISTLOCK, "--lock-name=x", *options]
        done = subprocess.run(words, env=distlock_env, capture_output=True, text=True, timeout=BOUND, check=True)
        return done.stdout

    def beat(option: str = "--show") -> Any:
        (lock,) = json.loads(far(option, "--json"))["locks"]
        return lock["beat"]

    holder = spawn_distlock("--lock-name=x", "--beat=1", "--", "sh", "-c", "echo $$; exec sleep 100")
    command = int(holder.stdout.readline())
    card = far("--show")
    assert re.fullmatch(rf"last sign of life {AT}, \ds ago \(one every 1s\)", beat_line(card))
    assert "  process " not in card  # that is known on its own host only
    here = run_distlock("--lock-name=x", "--show").stdout
    assert "\n  process   running\n  machine   this one, not restarted since\n" in here
    assert beat_line(here).startswith("last sign of life")
    found = beat()
    assert (found["every"], found["alive"], found["doubt"]) == (1, True, None)
    assert beat("--list").keys() == found.keys() == {"every", "alive", "silent_seconds", "last", "doubt"}

    holder.send_signal(signal.SIGSTOP)
    eventually(lambda: beat()["alive"] is False, "silent while stopped")
    holder.send_signal(signal.SIGCONT)
    eventually(lambda: beat()["alive"] is True, "alive again")
    holder.kill()
    assert holder.wait(BOUND) == -signal.SIGKILL
    os.kill(command, signal.SIGKILL)
    eventually(lambda: beat()["alive"] is False, "silent once it is killed")
    silent = rf"SILENT: last sign of life {AT}, \d+s ago \(one every 1s is expected\)"
    assert re.fullmatch(silent, beat_line(far("--show")))
    assert re.search(r"^x +\S+ +\S+ +\d+s SILENT +0$", far("--list"), re.MULTILINE)
    assert "\n  process   gone\n" in run_distlock("--lock-name=x", "--show").stdout
    # Silence lets nobody in.
    busy = run_distlock("--lock-name=x", "--nowait", "--", "true")
    assert busy.returncode == 1
    broken = run_distlock("--lock-name=x", "--break", "--yes", "--reason=it is gone")
    assert re.fullmatch(silent, beat_line(broken.stderr))
    scene.assert_clean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--beat=15", "--ttl=60", "--", "true"), "--beat is for a lock without a lease: that of --ttl ends it"),
        (("--lock", "--beat=15"), "--beat"),
        (("--show", "--beat=15"), "--beat"),
        (("--beat=0", "--", "true"), "--beat: expected a whole number of seconds from 1 to 86400, found '0'"),
        (("--beat=2d", "--", "true"), "--beat: expected a whole number of seconds from 1 to 86400, found '2d'"),
    ],
)
def test_it_is_refused_where_it_would_do_nothing(
    run_distlock: Run, realm: RealmView, options: tuple[str, ...], message: str
) -> None:
    done = run_distlock("--lock-name=x", *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert realm.entries() == {}


def test_from_the_environment_it_is_for_this_call_and_for_locks_that_can_have_it(
    run_distlock: Run, realm: RealmView, scene: Scene
) -> None:
    env = {"DISTLOCK_BEAT": "1m"}
    shown = f"{DISTLOCK} --lock-name=x --show; {DISTLOCK} --lock-name=y -- {DISTLOCK} --lock-name=y --show; env"
    done = run_distlock("--lock-name=x", "--", "sh", "-c", shown, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  beat  ") == 1
    assert "one every 1m00s" in done.stdout
    assert "DISTLOCK_BEAT" not in done.stdout
    assert run_distlock("--lock-name=x", "--lock", env=env).returncode == 0
    assert "beat" not in realm.record("x")[1]
    assert run_distlock("--lock-name=x", "--unlock", env=env).returncode == 0
    assert run_distlock("--lock-name=x", "--ttl=20", "--", "true", env=env).returncode == 0
    scene.assert_clean()


def test_the_runbooks_command_gives_signs_of_life(distlock_env: dict[str, str]) -> None:
    line = with_stand_ins(recipe("beat"), ("yum --assumeyes upgrade", "distlock --show --lock-name=percona_prod"))
    path = {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    words = ["sh", "-c", line]
    done = subprocess.run(
        words, env={**distlock_env, **path}, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"last sign of life {AT}, \ds ago \(one every 15s\)", beat_line(done.stdout))
