"""distlock: run a command under a lock, or carry out one of the operations on locks."""

from __future__ import annotations

import os
import sys

from distlock_core.base import warn_once
from distlock_core.cli.command_line import Request, error_form, is_for_doctor, parse
from distlock_core.cli.outcome import NOT_EXAMINED, fail, warn
from distlock_core.cli.program import as_a_program
from distlock_core.errors import DistlockError
from distlock_core.settings.load import unknown_variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

COMPLETE = "--complete-lock-names"  # only as the first word; what follows is the line of a shell that completes it


def main() -> NoReturn:
    """The console script."""
    as_a_program(lambda: run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Carry out the arguments, report an error in one line, and return the exit code."""
    if arguments and arguments[0] == COMPLETE:
        from distlock_core.cli.complete import print_names

        return print_names(arguments[1:])
    try:
        request = parse(arguments)
    except DistlockError as error:
        json, has_command = error_form(arguments, os.environ)
        warn(unknown_variables(os.environ), json=json)  # a misspelt one may be the missing setting
        code = fail(error, json=json, to_stderr=has_command)
        return NOT_EXAMINED if is_for_doctor(arguments) else code
    if request.settings.warnings and not request.settings.quiet and request.operation != "doctor":
        warn(request.settings.warnings, json=request.settings.json)
    warn_once.tell = lambda line: _warn(request, line)
    if request.operation == "run" and not request.dry_run:
        from distlock_core.cli.run import run as run_command

        return run_command(request)
    from distlock_core.cli.operations import carry_out

    return carry_out(request)


def _warn(request: Request, line: str) -> None:
    if not request.settings.quiet:
        warn([line], json=request.settings.json)
