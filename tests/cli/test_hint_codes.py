"""Every hint, pasted: the command that a message names works on the very lock that the message is about."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest

import distlock_core
from distlock_core import hints
from distlock_core.adapters import advice
from distlock_core.cli import hint as commands
from distlock_core.errors import DistlockError, LockBusy
from distlock_core.hints import DATA, PYTHON, Hint
from distlock_core.testing import Cluster
from tests.support.advice_site import BIN, NAME, Site, behind, pasted
from tests.support.realm_view import RealmView, one_line
from tests.support.time_windows import closed_now

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(distlock_core.__file__).parent
TABLES = {
    "python": PYTHON,
    "distlock": commands.COMMANDS,
    "salt": advice.SALT.table,
    "salt-run": advice.SALT_RUN.table,
    "ansible": advice.ANSIBLE.table,
    "puppet": advice.PUPPET.table,
    "bolt": advice.BOLT.table,
}


@pytest.fixture(params=["options", "variables"])
def site(request: pytest.FixtureRequest, run_distlock: Run, etcd: Cluster, realm: RealmView) -> Site:
    return Site(run_distlock, etcd, realm, request.param == "variables")


def check_show(site: Site) -> None:
    site.locked("--id=other")
    assert "held by   other" in pasted(behind("See: ", site.said("--nowait", "--", "true"))).stdout
    assert "held by   other" in pasted(behind("See: ", site.said("--timeout=0.3", "--quiet", "--", "true"))).stdout
    assert "held by   other" in pasted(behind("See: ", site.said("--unlock", "--token=1"))).stdout


def check_break(site: Site) -> None:
    site.locked("--id=other")
    command = behind("To break it: ", site.said("--unlock", "--id=me"))
    assert pasted(command, "--yes", "--reason=it is dead").returncode == 0
    assert site.free()
    site.locked("--id=newer")
    assert "left alone" in pasted(command, "--yes", "--reason=it is dead").stderr
    assert not site.free()


def check_same_slots(site: Site) -> None:
    site.locked("--id=other", "--slots=2")
    option = behind("Use the same number everywhere: ", site.said("--nowait", "--slots=3", "--", "true"))
    assert site("--nowait", option, "--", "true").returncode == 0


def check_choose_token(site: Site) -> None:
    site.locked("--id=one", "--slots=2")
    token = site.locked("--id=two", "--slots=2")
    tokens = re.findall(r"\d+", behind("Choose one with --token", site.said("--unlock")))
    assert str(token) in tokens
    for one in tokens:
        assert site("--unlock", f"--token={one}").returncode == 0
    assert site.free()


def check_change_token(site: Site) -> None:
    token = site.locked("--id=other")
    said = site.said("--update", "--value=new", "--id=me")
    assert behind("name it with --token ", said) == f"({token})"
    assert site("--update", "--value=new", f"--token={token}").returncode == 0
    assert site.at.get(NAME) == "new"


def check_same_owner(site: Site) -> None:
    inner = shlex.join([f"{BIN}/distlock", *site.where, f"--lock-name={NAME}", "--", "true"])
    option = behind("Give both the same ", site("--", "sh", "-c", inner).stderr.strip()).split(",")[0]
    inner = shlex.join([f"{BIN}/distlock", *site.where, f"--lock-name={NAME}", f"{option}=me", "--", "true"])
    assert site(f"{option}=me", "--", "sh", "-c", inner).returncode == 0


def step_of_another(site: Site) -> tuple[int, subprocess.Popen[bytes]]:
    """A step of `me`, taken by a process that lives and is none of those around this one."""
    words = shlex.join([f"{BIN}/distlock", *site.where, f"--lock-name={NAME}", "--id=me", "--lock"])
    env = {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}
    env.update({key: value for key, value in site.env.items() if value is not None})
    taker = subprocess.Popen(["sh", "-c", f"{words}; echo; exec sleep 100"], env=env, stdout=subprocess.PIPE)
    assert taker.stdout is not None
    taker.stdout.readline()
    return site.at.show(NAME).holders[0].token, taker


def check_enter(site: Site) -> None:
    token, taker = step_of_another(site)
    try:
        option = behind("To enter it anyway: ", site.said("--id=me", "--nowait", "--", "true"))
        assert option == f"--token={token}"
        assert site("--id=me", "--nowait", option, "--", "true").returncode == 0
    finally:
        taker.kill()
        taker.communicate()


def check_unlock_step(site: Site) -> None:
    _, taker = step_of_another(site)
    try:
        assert pasted(behind("To release it anyway: ", site.said("--id=me", "--unlock"))).returncode == 0
        assert site.free()
    finally:
        taker.kill()
        taker.communicate()


def check_unlock_dead_run(site: Site) -> None:
    # A run of this owner on a machine that cannot be seen from here.
    details = (
        '{"run": "r", "explicit": true, "kind": "run", "host": "far", "pid": 1, "boot": "b", "start": 1, "limit": 1}'
    )
    site.realm.put(f"else where/{NAME}", f"1500000000;me;{details}")
    said = site.said("--id=me", "--nowait", "--", "true")
    command = behind("If you are sure that it has ended: ", said)
    assert pasted(command, "--yes", "--reason=it is dead").returncode == 0
    assert site.free()


def words_of(site: Site, hint: Hint) -> str:
    """For what takes a fault of etcd to come about: the hint alone, as the command line words it."""
    program = (
        "import sys; from distlock_core.cli.command_line import parse; from distlock_core.cli.hint import advice; "
        "from distlock_core.hints import Hint; parse(sys.argv[2:]); print(advice(eval(sys.argv[1])))"
    )
    env = {**os.environ, **{key: value for key, value in site.env.items() if value is not None}}
    arguments = [repr(hint), *site.where, f"--lock-name={NAME}", "--", "true"]
    return subprocess.check_output([sys.executable, "-c", program, *arguments], env=env, text=True).strip()


def check_thaw(site: Site) -> None:
    site.at.freeze(NAME)
    assert pasted(behind("To thaw it: ", site.said("--nowait", "--", "true"))).returncode == 0
    assert site("--nowait", "--", "true").returncode == 0


def check_thaw_realm(site: Site) -> None:
    site.at.freeze()
    assert pasted(behind("To thaw it: ", site.said("--timeout=0.3", "--quiet", "--", "true"))).returncode == 0
    assert site("--nowait", "--", "true").returncode == 0


def check_policy(site: Site) -> None:
    site.realm.put(f"else where/__policy/{NAME}", '1;admin;{"quorum":3}')
    assert "does not know its field quorum" in pasted(behind("See: ", site.said("--nowait", "--", "true"))).stdout


def check_open_window(site: Site) -> None:
    site.at.set_policy(NAME, window=closed_now())
    words = "To open it at all times: "
    (line,) = [line for line in site("--explain").stdout.splitlines() if words in line]
    assert pasted(behind(words, line)).returncode == 0
    assert site("--nowait", "--", "true").returncode == 0


def check_replace_freeze(site: Site) -> None:
    site.at.freeze(NAME, owner="other")
    option = behind("To replace it: ", site.said("--freeze", "--id=me"))
    assert site("--freeze", "--id=me", option).returncode == 0
    found = site.at.frozen(NAME)
    assert found is not None
    assert found.by == "me"


def check_unlock_later(site: Site) -> None:
    token = site.locked("--id=other")
    line = words_of(site, Hint(hints.UNLOCK_LATER, lock=NAME, owner="other", token=token))
    assert pasted(behind("When etcd is back: ", line)).returncode == 0
    assert site.free()


def check_resolve(site: Site) -> None:
    site.locked("--id=other")
    line = words_of(site, Hint(hints.RESOLVE, lock=NAME, owner="other", run="r"))
    look, _, unlock = line.removeprefix("Check with ").partition("; if that run holds it: ")
    assert "held by   other" in pasted(look).stdout
    assert pasted(unlock).returncode == 0
    assert site.free()


def check_show_key(site: Site) -> None:
    # Tried with etcdctl in test_hints.py.
    assert words_of(site, hints.see("/a key")) == "See: etcdctl get --prefix '/a key'"


def check_raw_prefix(site: Site) -> None:
    done = site._run(f"--endpoints={site.endpoint}", "--prefix=raw", "--list")
    option = behind("If the Go original uses this prefix: ", one_line(done.stderr))
    assert site._run(f"--endpoints={site.endpoint}", "--prefix=raw", option, "--list").returncode == 0


def check_set_endpoints(site: Site) -> None:
    # Seen where no etcd answers at the default endpoint in test_exit_codes.py.
    said = words_of(site, Hint(hints.SET_ENDPOINTS))
    option, variable = re.findall(r"--[a-z]+|DISTLOCK_[A-Z]+", said)
    assert site._run(f"{option}={site.endpoint}", "--list", env={variable: None}).returncode == 0
    assert site._run("--list", env={variable: site.endpoint}).returncode == 0


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}


@pytest.mark.parametrize("code", sorted(DATA))
def test_the_advice_of_a_hint_works(site: Site, code: str) -> None:
    CHECKS[code](site)


@pytest.mark.parametrize("world", sorted(TABLES))
def test_every_world_words_every_hint(world: str) -> None:
    assert TABLES[world].keys() == DATA.keys()
    for code, names in DATA.items():
        data: dict[str, Any] = {name: [1, 2] if name == "tokens" else 7 for name in names}
        line = hints.sentence(Hint(code, **data), TABLES[world], str, realm="", etcdctl="")
        assert "{" not in line
        if world not in ("distlock", "puppet"):
            assert not re.search(r"distlock --|(?<!etcdctl get )--[a-z]", line)


OF_OTHERS = (
    "--host-whitelist",
    "--mount-proc",
    "--auto-compaction-retention",
    "--quota-backend-bytes",
)  # options of etcd and unshare


def test_the_core_has_no_word_of_a_command_line_in_its_messages() -> None:
    """No option in a text that is an error's, wherever it is raised below the front ends."""
    commands = ("adapters/advice.py", "adapters/salt_command.py")  # they word commands, or call them
    front_ends = ("cli", "saltext", "embedded", "testing", "settings/options.py", *commands)
    paths = [path for path in ROOT.rglob("*.py") if not str(path.relative_to(ROOT)).startswith(front_ends)]
    assert len(paths) > 100
    found = []
    for path in paths:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documented = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
        ours = {ast.get_docstring(node, clean=False) for node in documented}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            option = re.search(r"(?<![\w-])--[a-z][\w-]+|distlock --", text)
            if option and text not in ours and option[0] not in OF_OTHERS:
                found.append((str(path.relative_to(ROOT)), text))
    assert found == []


def test_python_is_advised_in_terms_of_the_library(site: Site) -> None:
    site.locked("--id=other")
    with pytest.raises(LockBusy) as caught:
        site.at.lock(NAME).acquire(timeout=0)
    assert caught.value.hints == (Hint(hints.SHOW, lock=NAME),)
    assert str(caught.value) == f"{caught.value.message}. See: realm.show({NAME!r})"
    assert eval(str(caught.value).partition("See: ")[2], {"realm": site.at}).holders[0].owner == "other"


@pytest.mark.parametrize(
    ("tool", "line"),
    [
        (advice.SALT, "distlock.show x endpoints=http://u:1 prefix='/a b/' password_file=/p"),
        (
            advice.ANSIBLE,
            'distlock.distlock.distlock_info with name: x, endpoints: http://u:1, prefix: "/a b/", password_file: /p',
        ),
        (advice.BOLT, "bolt task run distlock::show name=x endpoints=http://u:1 prefix='/a b/' password_file=/p"),
        (
            advice.PUPPET,
            "distlock --show --lock-name=x --endpoints=http://u:1 --password-file=/p --prefix='/a b/'",
        ),
    ],
)
def test_a_tool_names_the_realm_of_its_arguments_and_never_a_password(tool: advice.Tool, line: str) -> None:
    error = DistlockError("x is held", hints=[hints.see("x")])
    error.realm_settings = {
        "endpoints": ["http://u:1"],
        "prefix": "/a b/",
        "password_file": "/p",
        "password": "secret",
        "reason": "none of it",
    }
    assert tool.said(error) == f"x is held. See: {line}"
