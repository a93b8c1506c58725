"""Scripts that complete the commands in bash, zsh and fish: those of shtab, and what it leaves out.

shtab knows the options and their values. The files `completion.*` have the functions that find names of locks and the
like; `wrapper.*` adds values after a =, and the completion of the command under the lock.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import shtab

from tools.shell_files.parsers import Command

HERE = Path(__file__).resolve().parent
# Below share/: where each shell looks for the completion of a command.
PLACES = {
    "bash": "bash-completion/completions/{name}",
    "zsh": "zsh/site-functions/_{name}",
    "fish": "fish/vendor_completions.d/{name}.fish",
}


def script(command: Command, shell: str) -> str:
    """The completion of one command in one shell."""
    parser = command.parser(shell)
    made: str = shtab.complete(parser, shell, preamble=_read(f"completion.{shell}"))
    if shell == "bash":
        kinds = {kind: " ".join(_options(parser, valued=kind == "valued")) for kind in ("valued", "flags")}
        made += "".join(f"\n{_function(command)}_{kind}=({options})" for kind, options in kinds.items()) + "\n"
    return made + ("" if shell == "zsh" else _filled(_read(f"wrapper.{shell}"), command))


def _filled(text: str, command: Command) -> str:
    function = _function(command)
    # With the others a command begins after a -- only, if at all.
    plain = "yes" if command.name in ("distlock", "etcdlocker") else ""
    words = {"FUNCTION": function, "SHTAB": f"_shtab{function}", "PROG": command.name, "COMMAND_AT": f"-n '{plain}'"}
    for name, value in words.items():
        text = text.replace(f"@{name}@", value)
    return text


def _function(command: Command) -> str:
    return "_" + command.name.replace("-", "_")


def _options(parser: argparse.ArgumentParser, *, valued: bool) -> list[str]:
    """The options with a value, or those without, of the parser and of those below it."""
    found: dict[str, None] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                found.update(dict.fromkeys(_options(below, valued=valued)))
        elif (action.nargs != 0) is valued:
            found.update(dict.fromkeys(action.option_strings))
    return list(found)


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
