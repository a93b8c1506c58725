"""Completion in real shells: bash and zsh on a terminal, and fish's own list of what it would offer."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from distlock_core.cli.help import HELP
from distlock_core.cli.option_rules import OPERATIONS
from distlock_core.errors import ConfigError
from distlock_core.settings.options import OF_ONE_CALL, SETTINGS
from distlock_core.testing import Cluster
from tests.support.needs import missing, need
from tests.support.shell_line import ShellLine

BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
SHELLS = ("bash", "zsh")
LINES = {
    "distlock --lock-n": "distlock --lock-name=",
    "distlock --transport=h": "distlock --transport=http ",
    "distlock --on-failure k": "distlock --on-failure keep ",
    "distlock --config=con": "distlock --config=conf.yaml ",
    "distlock --config con": "distlock --config conf.yaml ",
    "distlock --state-dir=a": r"distlock --state-dir=a\ folder/",
    "distlock --gate-at=before,": "distlock --gate-at=before,after ",
    "distlock --lock-name=perc": "distlock --lock-name=percona ",
    "distlock --lock-name perc": "distlock --lock-name percona ",
    "distlock --lock-name=db:m": "distlock --lock-name=db:main ",
    "distlock --show --lock-name=with": r"distlock --show --lock-name=with\ blank ",
    "distlock --lock-name=percona --lock-name=rele": "distlock --lock-name=percona --lock-name=released ",
    "distlock --config=conf.yaml --lock-name=": "distlock --config=conf.yaml --lock-name=staged ",
    "distlock --endpoints=nonsense://x --lock-name=perc": "distlock --endpoints=nonsense://x --lock-name=perc",
    "distlock --lock-name=x -- /bin/ech": "distlock --lock-name=x -- /bin/echo ",
    "distlock --lock-name=x /bin/ech": "distlock --lock-name=x /bin/echo ",
    "distlock --lock-name=x -- ls con": "distlock --lock-name=x -- ls conf.yaml ",
    "distlock-puppet ac": "distlock-puppet acquire ",
    "distlock-puppet acquire perc": "distlock-puppet acquire percona ",
    "distlock-puppet exec web --comm": "distlock-puppet exec web --command-timeout=",
    "etcdlocker -k x --t": "etcdlocker -k x --ttl=",
    "etcdlocker -k x -t 5 -- ls con": "etcdlocker -k x -t 5 -- ls conf.yaml ",
    "distlock-etcd --data-dir=a": r"distlock-etcd --data-dir=a\ folder/",
}
QUOTED = {
    'distlock --show --lock-name "with': 'distlock --show --lock-name "with blank" ',
    'distlock --reason="a = b" --lock-name=perc': 'distlock --reason="a = b" --lock-name=percona ',
    r"distlock --show --lock-name=\$": r"distlock --show --lock-name=\$\(touch\ evil\) ",
}
ONE_DASH = {"distlock -lock-name=perc": "distlock -lock-name=percona ", "distlock -log": "distlock --log-file="}


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tools.shell_files.build import write

    folder = tmp_path_factory.mktemp("share")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, etcd: Cluster) -> Path:
    """A home directory with files to complete, a realm with locks, and a `timeout` with patience for a busy machine."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "a folder").mkdir()
    (folder / "conf.yaml").write_text(f"prefix: /{folder.name}/stage/\n")
    (folder / "base.yaml").write_text(f"prefix: /{folder.name}/\n")
    for key in (
        "percona",
        "db:main",
        "with blank",
        "stage/staged",
        "__last/released",
        "queued/queue/50/exclusive/1",
        "$(touch evil)",
    ):
        etcd.etcdctl("put", f"/{folder.name}/{key}", "1;other;{}")
    patient = folder / "bin/timeout"
    patient.parent.mkdir()
    patient.write_text('#!/bin/sh\n[ "$1" = 0.3 ] || exit 1\nshift\nexec "$@"\n')
    patient.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def env(home: Path, etcd: Cluster, state_dir: str) -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("DISTLOCK_", "XDG_"))}
    realm = {"DISTLOCK_ENDPOINTS": etcd.endpoints[0], "DISTLOCK_CONFIG": f"{home}/base.yaml"}
    return {**plain, **realm, "PATH": f"{home}/bin:{PATH}", "HOME": str(home), "LC_ALL": "C.UTF-8"}


@pytest.fixture(scope="module", params=SHELLS)
def line(request: pytest.FixtureRequest, share: Path, home: Path, env: dict[str, str]) -> Iterator[ShellLine]:
    shell: str = request.param
    need(shell)
    start = f"fpath=({share}/zsh/site-functions $fpath)\n"
    if shell == "bash":
        if not BASH_COMPLETION.exists():
            missing("bash-completion is missing. To install it: apt-get install bash-completion")
        start = f"XDG_DATA_DIRS={share}\n. {BASH_COMPLETION}\n"  # it loads them when they are needed
    typed = ShellLine(shell, env, home, f"cd {home}\n{start}")
    yield typed
    typed.close()


def test_a_tab_completes_options_values_names_files_and_the_command(line: ShellLine) -> None:
    assert {typed: line.tab(typed) for typed in LINES} == LINES


def test_names_are_quoted_for_the_shell(line: ShellLine, home: Path) -> None:
    assert {typed: line.tab(typed) for typed in QUOTED} == QUOTED
    assert "$(touch evil)" not in line.tab('distlock --show --lock-name="$').replace(r"\$", "")
    assert not (home / "evil").exists()


def test_every_option_and_operation_is_offered(line: ShellLine) -> None:
    expected = set(re.findall(r"^ +(?:distlock .*?)?(--[a-z-]+)", HELP, re.MULTILINE))
    expected |= {f"--{operation}" for operation in OPERATIONS}
    offered = {option.rstrip("=") for option in line.offers("distlock --")}
    assert expected - offered == set()
    assert offered - set(re.findall(r"--[a-z-]+", HELP)) == set()
    of_puppet = {option.rstrip("=") for option in line.offers("distlock-puppet exec web --")}
    assert of_puppet >= {"--endpoints", "--command-timeout", "--certname", "--lock-name"}
    assert "--absent" not in of_puppet  # of `policy` only
    assert set(line.offers("distlock --transport=")) & {"grpc", "--transport=grpc"}
    names = [one.removeprefix("--lock-name=") for one in line.offers("distlock --lock-name=")]
    assert sorted(names) == ["$(touch evil)", "db:main", "percona", "queued", "released", "with blank"]


def test_bash_takes_options_with_one_dash_and_works_without_bash_completion(
    share: Path, home: Path, env: dict[str, str]
) -> None:
    line = ShellLine("bash", env, home, f"cd {home}\n. {share}/bash-completion/completions/distlock\n")
    try:
        assert {typed: line.tab(typed) for typed in ONE_DASH} == ONE_DASH
        assert line.tab("distlock --config=con") == "distlock --config=conf.yaml "
        assert line.tab("distlock --lock-name=db:ma") == "distlock --lock-name=db:main "
        assert line.tab("distlock --lock-name=x -- /bin/ech") == "distlock --lock-name=x -- /bin/echo "
        assert line.tab("distlock --lock-name=x -- ls con") == "distlock --lock-name=x -- ls conf.yaml "
    finally:
        line.close()


def test_fish_offers_the_same(share: Path, home: Path, env: dict[str, str]) -> None:
    lines = [*LINES, "distlock --lock-name=x -- ls --lock-na"]
    where = share / "fish/vendor_completions.d"
    program = "for line in $argv; complete -C $line | string replace -r '\\t.*' ''; echo ==; end"
    done = subprocess.run(
        [need("fish"), "--no-config", "-c", f"set fish_complete_path {where}; {program}", *lines],
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    offered = [part.strip("\n").splitlines() for part in done.stdout.split("==\n")][: len(lines)]
    completed = {
        line: [line[: line.rfind(" ") + 1] + word.replace(" ", r"\ ") for word in words]
        for line, words in zip(lines, offered)
    }
    # fish adds the blank or the = itself.
    expected = {line: [whole.rstrip(" =")] if whole != line else [] for line, whole in LINES.items()}
    expected["distlock-puppet ac"] = ["distlock-puppet acquire"]
    expected["distlock --gate-at=before,"] = ["distlock --gate-at=before,after"]
    assert {line: words for line, words in completed.items() if line in expected} == expected
    assert completed[lines[-1]] == []  # what follows the command is the command's


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_names_come_within_a_bound_or_not_at_all(shell: str, share: Path, env: dict[str, str], tmp_path: Path) -> None:
    """An etcd that accepts and never answers does not hold up the shell, and nothing is written into the line."""
    script = {
        "bash": share / "bash-completion/completions/distlock",
        "zsh": share / "zsh/site-functions/_distlock",
        "fish": share / "fish/vendor_completions.d/distlock.fish",
    }[shell]
    assert "timeout 0.3 " in script.read_text()
    program = {
        "bash": f". {script}; _distlock_line=(distlock); _distlock_lock_names ''",
        "zsh": f'compdef() {{ :; }}; eval "$(cat {script})"; _wanted() {{ print -r -- $names; }}; '
        "words=(distlock ''); CURRENT=2; _distlock_lock_names",
        "fish": f"source {script}; complete -C 'distlock --lock-name='",
    }[shell]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_etcd = {"DISTLOCK_ENDPOINTS": f"http://127.0.0.1:{silent.getsockname()[1]}", "PATH": PATH}
        began = time.monotonic()
        done = subprocess.run(
            [need(shell), "-c", program], env={**env, **silent_etcd}, capture_output=True, timeout=60, check=False
        )
    assert (done.stdout.strip(), done.stderr) == (b"", b"")
    assert time.monotonic() - began < 4  # connect_timeout alone would take 5 s


def test_values_that_are_offered_are_accepted() -> None:
    from tools.shell_files.parsers import ALL

    settings = [*SETTINGS, *OF_ONE_CALL.values()]
    choosing = {one.option: one for one in settings if one.read.__qualname__.startswith("read_choice.")}
    (distlock,) = (one for one in ALL if one.name == "distlock")
    offered = {
        action.option_strings[0].lstrip("-"): list(action.choices)
        for action in distlock.parser("bash")._actions
        if action.choices
    }
    assert offered.keys() == choosing.keys()
    for option, values in offered.items():
        for value in values:
            assert choosing[option].read(value) == value
        with pytest.raises(ConfigError) as error:
            choosing[option].read("")
        assert set(str(error.value).split(" or ")) == set(values)
