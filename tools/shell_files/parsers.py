"""Parsers of the commands, made from their tables of options: completion and manual pages are generated from them.

They parse nothing: each command reads its line in its own way.
"""

from __future__ import annotations

import argparse
import re
from typing import Any, Callable

from distlock_core.base.value import Value
from distlock_core.cli import distlock_etcd, etcdlocker
from distlock_core.cli.help import OF_ONE_CALL_HELP, USES, described
from distlock_core.cli.puppet import arguments as puppet
from distlock_core.settings.options import OF_ONE_CALL, SETTINGS, Setting
from distlock_core.settings.readers import read_path

# What each shell completes a value with: functions of tools/shell_files/completion.*.
NAMES = {"bash": "_distlock_lock_names", "zsh": "_distlock_lock_names", "fish": "(_distlock_lock_names)"}
FILES = {"bash": "_distlock_file_names", "zsh": "_files", "fish": "(_distlock_file_names)"}
FOLDERS = {"bash": "_distlock_dir_names", "zsh": "_files -/", "fish": "(_distlock_dir_names)"}
COMMANDS = {"zsh": "_distlock_command"}  # bash and fish have the command handled before anything else

CHOICES = {"gate-at": ("before,after", "before", "after")}  # placeholders have the others, with | between
COMPLETED = {"lock-name": NAMES, "state-dir": FOLDERS, "plot": FILES}
REPEATED = ("lock-name", "window")
ONE_LINE = 10_000  # columns, so that no line is wrapped before it is known where


class Command(Value):
    """One command: its parser for a shell ("": for the manual page), and a phrase that says what it does."""

    name: str
    about: str
    parser: Callable[[str], argparse.ArgumentParser]


def _distlock(shell: str) -> argparse.ArgumentParser:
    parser = _new("distlock")
    operations = parser.add_argument_group("operations")
    for operation in dict.fromkeys(operation for operation, _line, _text in USES if operation != "run"):
        texts = [text for one, _line, text in USES if one == operation]
        operations.add_argument(f"--{operation}", action="store_true", help=_escaped("; ".join(texts)))
    options = parser.add_argument_group("options")
    for setting in SETTINGS:
        if "option" in setting.scope:
            _add(options, shell, setting, described(setting))
    one_call = parser.add_argument_group("options of some operations")
    for option, text in OF_ONE_CALL_HELP.items():
        _add(one_call, shell, OF_ONE_CALL[option], text)
    if shell:
        _add_help(parser, "version")
    if shell == "zsh":
        _add_command(parser)
    return parser


def _puppet(shell: str) -> argparse.ArgumentParser:
    parser = _new("distlock-puppet")
    if not shell:
        options = parser.add_argument_group("options")
        _add(options, shell, puppet.NAME, puppet.NAME.help)
        for option, setting in puppet.BY_OPTION.items():
            of = ", ".join(puppet.MEANT_FOR.get(option, ()))
            _add(options, shell, setting, f"{of}: {_of_puppet(setting)}" if of else _of_puppet(setting))
        return parser
    operations = parser.add_subparsers(title="operations", metavar="OPERATION")
    for operation in puppet.OPERATIONS:
        text = puppet.USES[operation]
        one = operations.add_parser(operation, help=_escaped(text), description=_escaped(text), **_FORM)
        _complete(one.add_argument("name", metavar="NAME", nargs="?", help="name of the lock"), NAMES)
        _add(one, shell, puppet.NAME, puppet.NAME.help)
        for option, setting in puppet.BY_OPTION.items():
            if operation in puppet.MEANT_FOR.get(option, puppet.OPERATIONS):
                _add(one, shell, setting, _of_puppet(setting))
    _add_help(parser)
    return parser


def _of_puppet(setting: Setting) -> str:
    if setting.option in puppet.OWN:
        return setting.help
    return described(setting._replace(default=0.0) if setting.option == "timeout" else setting)


def _etcdlocker(shell: str) -> argparse.ArgumentParser:
    parser = _new("etcdlocker")
    options = parser.add_argument_group("options")
    for short, long, metavar, text in re.findall(
        r"^  -(\w), --(\w+)(?: (\S+))? *((?:.*\n)(?: {25}.*\n)*)", etcdlocker.HELP, re.MULTILINE
    ):
        names = [f"-{short}", f"--{long}="] if metavar and shell == "zsh" else [f"-{short}", f"--{long}"]
        given: dict[str, Any] = {"metavar": metavar} if metavar else {"action": "store_true"}
        options.add_argument(*names, help=_escaped(" ".join(text.split()) or "print the options"), **given)
    if shell == "zsh":
        _add_command(parser)
    return parser


def _etcd(shell: str) -> argparse.ArgumentParser:
    parser = distlock_etcd.parser()
    if shell:
        parser.description = parser.epilog = None
    for action in parser._actions:
        if action.dest == "data_dir":
            _complete(action, FOLDERS)
        if shell == "zsh" and action.nargs is None:
            action.option_strings = [f"{option}=" for option in action.option_strings]
    return parser


ALL = (
    Command("distlock", "run a command while holding a lock that the whole cluster honours", _distlock),
    Command("distlock-puppet", "a lock for Puppet: around one command, or around a whole run", _puppet),
    Command("etcdlocker", "run a command under a leased lock, as etcd-lock for Node.js does", _etcdlocker),
    Command("distlock-etcd", "start a real etcd on this machine, to try distlock out", _etcd),
)


_FORM: dict[str, Any] = {
    "add_help": False,
    "allow_abbrev": False,
    "formatter_class": lambda prog: argparse.HelpFormatter(prog, width=ONE_LINE),
}


def _new(name: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog=name, **_FORM)


def _add(where: Any, shell: str, setting: Setting, text: str) -> None:
    """Add an option. To zsh, a = at the end of its name says that the value may be in the same word."""
    name = f"--{setting.option}"
    if setting.flag:
        where.add_argument(name, action="store_true", help=_escaped(text))
        return
    given = {"action": "append"} if setting.option in REPEATED else {}
    choices = CHOICES.get(setting.option) or (setting.placeholder.split("|") if "|" in setting.placeholder else None)
    action = where.add_argument(
        f"{name}=" if shell == "zsh" else name,
        metavar=setting.placeholder or "VALUE",
        help=_escaped(text),
        choices=choices,
        **given,
    )
    completed = COMPLETED.get(setting.option) or (FILES if setting.read is read_path else None)
    if completed is not None:
        _complete(action, completed)


def _add_help(parser: argparse.ArgumentParser, *others: str) -> None:
    for option, text in {"help": "print the options", **dict.fromkeys(others, "print the version")}.items():
        parser.add_argument(f"--{option}", action="store_true", help=text)


def _add_command(parser: argparse.ArgumentParser) -> None:
    _complete(parser.add_argument("command", nargs=argparse.REMAINDER, help="the command under the lock"), COMMANDS)


def _complete(action: argparse.Action, functions: dict[str, str]) -> None:
    action.complete = functions  # type: ignore[attr-defined] # as shtab has it


def _escaped(text: str) -> str:
    return text.replace("%", "%%")
