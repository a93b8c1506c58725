"""`--shared`: commands that hold a lock together, beside none that holds it alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any, Callable

import pytest

from tests.support.doc_blocks import recipe
from tests.support.processes import Process
from tests.support.realm_view import BOUND, Holding, RealmView, eventually, one_line
from tests.support.scene import Scene

DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Hold = Callable[..., Holding]
SHARED = ("--lock-name=web", "--shared")


def shown(run_distlock: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run_distlock("--show", "--lock-name=web", "--json").stdout)["locks"]
    return found


def test_commands_share_it_and_an_exclusive_one_waits_for_all(run_distlock: Run, hold: Hold, realm: RealmView) -> None:
    first, second = hold(*SHARED, "--reason=backup"), hold(*SHARED, env={"DISTLOCK_ID": "job"})
    assert [lock["token"] for lock in shown(run_distlock)] == [first.token, second.token]
    assert [(lock["shared"], lock["slot"]) for lock in shown(run_distlock)] == [(True, None)] * 2
    refused = run_distlock("--lock-name=web", "--nowait", "--", "true")
    assert refused.returncode == 1
    assert " (shared) since " in one_line(refused.stderr)
    assert " and by job (shared) since " in refused.stderr
    listed = run_distlock("--list").stdout
    assert listed.count("web (shared)") == 2
    assert run_distlock("--show", "--lock-name=web").stdout.count("(shared)") == 2
    assert first.let_go() == 0
    assert second.let_go() == 0
    assert run_distlock("--lock-name=web", "--nowait", "--", "true").returncode == 0
    realm.assert_nothing_left()


def test_the_last_shared_command_lets_the_exclusive_waiter_in_before_later_shared_ones(
    run_distlock: Run, spawn_distlock: Callable[..., Process], hold: Hold, realm: RealmView
) -> None:
    first = hold(*SHARED)
    upgrade = spawn_distlock("--lock-name=web", "--id=upgrade", "--", "sh", "-c", "echo upgraded")
    eventually(lambda: shown(run_distlock)[0]["waiting"] == 1, "the upgrade waits")
    late = spawn_distlock(*SHARED, "--id=late", "--", "sh", "-c", "echo backed up")
    eventually(lambda: shown(run_distlock)[0]["waiting"] == 2, "the late one waits")
    waiters = shown(run_distlock)[0]["waiters"]
    assert [(waiter["owner"], waiter["shared"]) for waiter in waiters] == [("upgrade", False), ("late", True)]
    assert "2. late (shared) on " in run_distlock("--show", "--lock-name=web").stdout
    assert first.let_go() == 0
    assert upgrade.communicate(timeout=BOUND)[0] == "upgraded\n"
    assert late.communicate(timeout=BOUND)[0] == "backed up\n"
    realm.assert_nothing_left()


def test_a_killed_one_under_a_ttl_lets_the_next_in_when_its_lease_expires(
    run_distlock: Run, spawn_distlock: Callable[..., Process], hold: Hold, realm: RealmView
) -> None:
    holder = hold(*SHARED, "--ttl=3")
    holder.process.send_signal(signal.SIGKILL)
    holder.process.wait(BOUND)
    done = run_distlock("--lock-name=web", "--timeout=30", "--", "echo", "in")
    assert (done.returncode, done.stdout) == (0, "in\n")
    realm.assert_nothing_left()


def test_a_lost_shared_lock_ends_its_command(hold: Hold, run_distlock: Run) -> None:
    holder = hold(*SHARED, "--ttl=20")
    assert run_distlock("--unlock", "--lock-name=web", f"--token={holder.token}").returncode == 0
    assert holder.process.wait(BOUND) == 2


def test_verify_and_unlock_are_about_one_hold(run_distlock: Run, hold: Hold) -> None:
    inside = f"{DISTLOCK} --verify --lock-name=web"
    assert run_distlock(*SHARED, "--", "sh", "-c", inside).returncode == 0
    tokens = []
    for owner in ("a", "b", "c"):
        done = run_distlock(*SHARED, f"--id={owner}", "--lock", "--json")
        (lock,) = json.loads(done.stdout)["locks"]
        assert lock["shared"] is True
        tokens.append(lock["token"])
        assert run_distlock("--verify", "--lock-name=web", f"--token={tokens[-1]}").returncode == 0
    refused = run_distlock("--unlock", "--lock-name=web")
    assert refused.returncode == 1
    assert f"Choose one with --token ({tokens[0]}, {tokens[1]}, {tokens[2]})" in one_line(refused.stderr)
    assert run_distlock("--unlock", "--lock-name=web", "--id=b").returncode == 0
    assert run_distlock("--verify", "--lock-name=web", f"--token={tokens[1]}").returncode == 2
    assert run_distlock("--unlock", "--lock-name=web", f"--token={tokens[0]}").returncode == 0
    done = run_distlock("--unlock", "--lock-name=web", "--id=c", "--json")
    assert json.loads(done.stdout)["unlocked"]["shared"] is True


def test_a_keeper_keeps_it_while_a_process_lives(run_distlock: Run, realm: RealmView) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        done = run_distlock(*SHARED, "--lock", f"--while-pid={process.pid}", "--ttl=5", "--json")
        (lock,) = json.loads(done.stdout)["locks"]
        assert (lock["shared"], lock["lifetime"]) == (True, "bound")
        assert run_distlock(*SHARED, "--nowait", "--", "true").returncode == 0
        assert run_distlock("--lock-name=web", "--nowait", "--", "true").returncode == 1
        process.kill()
        process.wait()
        assert run_distlock("--lock-name=web", "--timeout=30", "--", "true").returncode == 0
    eventually(lambda: realm.keys() == [], "nothing is left")


def test_on_failure_and_cooldown_of_a_shared_one(run_distlock: Run, realm: RealmView) -> None:
    assert run_distlock(*SHARED, "--on-failure=keep", "--", "false").returncode == 1
    (kept,) = shown(run_distlock)
    assert (kept["state"], kept["shared"]) == ("kept", True)
    assert run_distlock(*SHARED, "--nowait", "--cooldown=60", "--", "true").returncode == 0
    assert [lock["state"] for lock in shown(run_distlock)] == ["kept", "cooling"]
    assert run_distlock(*SHARED, "--nowait", "--on-failure=freeze", "--", "false").returncode == 1
    assert run_distlock(*SHARED, "--nowait", "--", "true").returncode == 1
    assert run_distlock("--thaw", "--lock-name=web").returncode == 0
    assert run_distlock(*SHARED, "--nowait", "--", "true").returncode == 0


def test_inside_a_shared_command_an_exclusive_one_is_refused_at_once(run_distlock: Run, realm: RealmView) -> None:
    for owner in ((), ("--id=me",)):
        inner = f"{DISTLOCK} --lock-name=web {' '.join(owner)} -- true"
        done = run_distlock(*SHARED, *owner, "--", "sh", "-c", inner)
        assert done.returncode == 1
        assert "web is held shared by the command around this one, and a shared hold cannot become exclusive" in (
            one_line(done.stderr)
        )
        inner = f"{DISTLOCK} --lock-name=web --shared {' '.join(owner)} -- true"
        assert run_distlock(*SHARED, *owner, "--", "sh", "-c", inner).returncode == 0
    realm.assert_nothing_left()


def test_explain_tells_who_is_in_the_way_of_which_kind(run_distlock: Run, hold: Hold, realm: RealmView) -> None:
    def explained(*options: str) -> dict[str, Any]:
        done = run_distlock("--explain", "--lock-name=web", "--json", *options)
        found: dict[str, Any] = json.loads(done.stdout)["explained"]
        assert done.returncode == (0 if found["lets_in"] else 1)
        return {one["topic"]: one["holds"] for one in found["conditions"]} | {"lets_in": found["lets_in"]}

    holder = hold(*SHARED)
    assert explained("--shared")["lets_in"] is True
    assert explained("--shared")["holders"] is True
    assert explained()["holders"] is False
    assert explained("--slots=3")["holders"] is False
    realm.put("web/queue/50/shared/0000000000000001", "1500000000;other;{}")
    assert explained("--shared")["lets_in"] is True
    assert (
        "1 is waiting, shared too, or with higher ranks"
        in run_distlock("--explain", "--lock-name=web", "--shared").stdout
    )
    realm.put("web/queue/50/exclusive/0000000000000001", "1500000000;other;{}")
    assert explained("--shared")["queue"] is False
    assert "exclusive, or with a lower rank" in run_distlock("--explain", "--lock-name=web", "--shared").stdout
    assert holder.let_go() == 0


def test_it_comes_from_file_and_environment_and_not_into_the_command(
    run_distlock: Run, config_file: Callable[[str], str]
) -> None:
    show = f"{DISTLOCK} --show --lock-name=web --json; echo $DISTLOCK_SHARED"
    for env in ({"DISTLOCK_SHARED": "true"}, {"DISTLOCK_CONFIG": config_file("shared: true\nslots: 3\n")}):
        done = run_distlock("--lock-name=web", "--", "sh", "-c", show, env=env)
        assert '"shared": true' in done.stdout
        assert done.stdout.endswith("}\n\n")
        done = run_distlock("--lock-name=web", "--shared=false", "--", "sh", "-c", show, env=env)
        assert '"shared": false' in done.stdout


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["--shared", "--slots=3", "--lock"], {}, "--slots and --shared contradict each other: the number of shared"),
        (["--slots=3", "--lock"], {"DISTLOCK_SHARED": "yes"}, "--slots and DISTLOCK_SHARED contradict each other"),
        (["--shared=maybe", "--lock"], {}, "option --shared: expected"),
        (["--lock"], {"DISTLOCK_SHARED": "3"}, "DISTLOCK_SHARED: expected"),
        (["--shared", "--shared", "--lock"], {}, "option --shared is given twice"),
        (["--shared", "--unlock"], {}, "--shared goes with -- COMMAND, --lock, --explain or --wait"),
        (["--shared", "--show"], {}, "--shared goes with -- COMMAND, --lock, --explain or --wait"),
        (["--shared", "--policy"], {}, "--shared goes with -- COMMAND, --lock, --explain or --wait"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    run_here: Run, arguments: list[str], env: dict[str, str | None], said: str
) -> None:
    done = run_here("--lock-name=web", *arguments, env=env)
    assert done.returncode == 1
    assert said in one_line(done.stderr)


def test_slots_of_a_policy_are_set_whatever_the_environment_shares(run_distlock: Run, scene: Scene) -> None:
    done = run_distlock("--policy", "--lock-name=web", "--slots=2", env={"DISTLOCK_SHARED": "true"})
    assert done.returncode == 0, done.stderr


def test_the_recipe_of_the_page(run_distlock: Run, spawn_distlock: Callable[..., Process], hold: Hold) -> None:
    words = recipe("shared").replace("'nightly backup'", "nightly").split()
    assert words[0] == "distlock"
    assert words[-2:] == ["--", "/usr/local/sbin/backup"]
    other = hold("--lock-name=percona_prod", "--shared")
    done = run_distlock(*words[1:-1], "echo", "backed up")
    assert (done.returncode, done.stdout) == (0, "backed up\n")
    assert other.let_go() == 0


def test_the_recipe_in_python(scene: Scene) -> None:
    seen: list[bool] = []
    realm = scene.realm()

    def back_up() -> None:
        seen.extend(holder.is_shared for holder in realm.show("percona_prod").holders)

    text = recipe("shared in Python").replace("connect()", f"connect({scene.endpoints!r}, {scene.prefix!r})")
    exec(text, {"back_up": back_up})
    assert seen == [True]
