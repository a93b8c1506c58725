"""The manual pages: they render without a warning, and have every option."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.needs import need
from tools.shell_files.manual import page
from tools.shell_files.parsers import ALL, Command

COMMANDS = {command.name: command for command in ALL}


def rendered(command: Command, tmp_path: Path) -> str:
    source = tmp_path / f"{command.name}.1"
    source.write_text(page(command))
    plain = {"MANWIDTH": "200", "LC_ALL": "C.UTF-8", "PATH": os.environ["PATH"]}
    shown = subprocess.run(
        [need("man"), "--warnings", "--no-hyphenation", "-l", str(source)],
        env=plain,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert shown.stderr == ""
    return re.sub(".\b", "", shown.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_it_renders_without_a_warning(name: str, tmp_path: Path) -> None:
    roff = [need("groff"), "-man", "-ww", "-Tutf8"]
    done = subprocess.run(roff, input=page(COMMANDS[name]).encode(), capture_output=True, timeout=60, check=True)
    assert done.stderr == b""


@pytest.mark.parametrize("name", COMMANDS)
def test_it_has_every_option_of_the_help(name: str, tmp_path: Path) -> None:
    text = " ".join(rendered(COMMANDS[name], tmp_path).split())
    help_text = subprocess.run(
        [Path(sys.executable).with_name(name), "--help"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", help_text)) - {"--help", "-h"}
    assert {option for option in options if option not in text} == set()
    assert text.startswith(f"{name.upper()}(1)")
    assert "SEE ALSO" in text


def test_it_says_what_is_not_an_option(tmp_path: Path) -> None:
    text = " ".join(rendered(COMMANDS["distlock"], tmp_path).split())
    for part in (
        "distlock --lock-name=NAME [OPTIONS] -- COMMAND [ARGUMENTS]",
        "those of a pattern: 'es-*', 'db?'",  # a line of roff that began with ' would be lost
        "--on-failure release|keep|freeze",
        "[DISTLOCK_ON_FAILURE]",
        "The command's own; 128+n when signal n ended it",
        "/etc/distlock/distlock.yaml",
        "distlock --lock-name=percona_prod --ttl=60 -- ./upgrade.sh",
        "distlock-etcd(1), distlock-puppet(1), etcdlocker(1)",
    ):
        assert part in text, part
