"""Parsing of the command line of `distlock`: Go's flag syntax, as in the original, and the operations.

One or two dashes, `-name value` or `-name=value`; a flag also takes `=true` and `=false`. The first word that is no
option begins the command, with or without a `--` before it. Options are defined in `settings/options.py`, and what goes
with what in `cli/option_rules.py`.
"""

from __future__ import annotations

from distlock_core.base.deadline import FOREVER
from distlock_core.base.value import Value
from distlock_core.cli.option_rules import (
    OF_A_REALM,
    OPERATIONS,
    UsageError,
    check_names,
    check_operation,
    check_plot,
    check_policy,
    check_that_they_go,
    check_together,
    check_until,
)
from distlock_core.errors import DistlockError
from distlock_core.model.checks import check_name
from distlock_core.model.ttl import DEFAULT_TTL
from distlock_core.settings.load import checked, load
from distlock_core.settings.options import OF_ONE_CALL, SETTINGS, Setting, Settings
from distlock_core.settings.readers import BETWEEN_NAMES, read_bool, read_bool_or_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from distlock_core.cli.hooks import Hooks
    from distlock_core.settings.salvage import Problems

REPEATED = ("window",)  # several of them are a list
STDOUT = "-"  # in place of a file's name

_BY_OPTION = {setting.option: setting for setting in SETTINGS if "option" in setting.scope}


class Request(Value):
    """The request of one call of distlock: an operation, or `run` for a command under the lock.

    `limit`: time limit of the command, in seconds. `waits_for` (pid, start time): a process whose end ends the wait.
    `tells_wait`: report the wait once the lock is acquired. `dry_run`: only say what would be done. `older_than`
    (seconds) is for `prune`, `clear` for `policy`, `yes` for `break`, `lasts` (seconds) for `freeze`; `since`
    (seconds), `follow` and `plot` (a file, - for the terminal) are for `history`, `metrics_file` for `metrics`,
    `until` for `wait`.
    `hooks`: those of the settings, once they are prepared.
    `problems`: for `doctor`, what is wrong with the settings; it is left out of them.
    """

    operation: str
    settings: Settings
    command: list[str]
    force: bool = False
    token: int | None = None
    limit: float = FOREVER
    waits_for: tuple[int, int] | None = None
    tells_wait: bool = False
    older_than: float | None = None
    dry_run: bool = False
    lasts: int | None = None
    clear: bool = False
    since: float | None = None
    follow: bool = False
    yes: bool = False
    plot: str | None = None
    metrics_file: str | None = None
    until: str = "free"
    hooks: Hooks | None = None
    problems: Problems | None = None


class AdviceData:
    """Data for the advice in the messages of this call, stored until a message needs it."""

    given: Mapping[str, Any] = {}  # settings that were options of this call, by key
    etcdctl_endpoints = ""
    words: Mapping[str, str] = {}  # the sentences of a front end where they differ from those of `distlock`, by code


def advise_with(given: Mapping[str, Any], etcdctl_endpoints: str = "", words: Mapping[str, str] | None = None) -> None:
    """Store the data for advice; see `AdviceData`."""
    AdviceData.given, AdviceData.etcdctl_endpoints, AdviceData.words = given, etcdctl_endpoints, words or {}


def parse(arguments: Sequence[str]) -> Request:
    """Read the command line, the environment and the config file. Raises `UsageError`, `ConfigError`."""
    advise_with({})
    options, command = _split(arguments)
    file = options.get("metrics")
    operations = [name for name in OPERATIONS if options.pop(name, False)]
    for name in ("help", "version"):
        if name in operations:
            return Request(name, Settings(), [])  # whatever else is there: a person asks how it is done
    check_operation(operations, options, command)
    operation = operations[0] if operations else "run"
    check_that_they_go(operation, options)
    force, token = options.pop("force", False), options.pop("token", None)
    older_than, dry_run = options.pop("older-than", None), options.pop("dry-run", False)
    lasts, clear, yes = options.pop("for", None), options.pop("clear", False), options.pop("yes", False)
    until = options.pop("until", "free")
    since, follow, plot = options.pop("since", None), options.pop("follow", False), options.pop("plot", None)
    given = {_BY_OPTION[name].key: value for name, value in options.items()}
    names = {_BY_OPTION[name].key: f"--{name}" for name in options}
    settings, problems = _load(operation, given, names)
    advise_with(given)
    if operation in OF_A_REALM and "lock-name" not in options and operation != "doctor":
        # File and environment name a lock to be acquired; these are about all locks.
        settings = settings._replace(lockname="")
    if operation in ("freeze", "break"):
        settings = settings._replace(reason=options.get("reason", ""))  # as for an update
    if operation == "policy":
        # File and environment are meant for locks to be acquired, and must not get into a policy.
        settings = settings._replace(given=frozenset(given))
    if operation == "update":
        # File and environment are meant for a lock to be acquired, and must not change a held one.
        settings = settings._replace(
            value=options.get("value"), reason=options.get("reason", ""), given=frozenset(given)
        )
    if operation == "unlock":
        # File and environment are meant for a lock to be acquired.
        settings = settings._replace(gate=options.get("gate"), on_released=options.get("on-released"))
    if operation != "lock":
        settings = settings._replace(while_pid=None)
    elif settings.while_pid is not None and settings.ttl is None:
        settings = checked(settings._replace(ttl=DEFAULT_TTL))
    check_together(operation, options, settings, token)
    if operation == "prune" and older_than is None:
        raise UsageError("--prune needs an age: --older-than=30d keeps what is younger than 30 days")
    if operation == "policy":
        check_policy(options, settings, clear=clear, dry_run=dry_run)
    check_until(until, options)
    check_plot(plot, options, follow=follow)
    check_names(operation, settings)
    return Request(
        operation,
        settings,
        command,
        force,
        token,
        older_than=older_than,
        dry_run=dry_run,
        lasts=lasts,
        clear=clear,
        since=since,
        follow=follow,
        yes=yes,
        plot=plot,
        metrics_file=file if isinstance(file, str) and file != STDOUT else None,
        until=until,
        problems=problems,
    )


def _load(operation: str, given: Mapping[str, Any], names: Mapping[str, str]) -> tuple[Settings, Problems | None]:
    """The settings; for `doctor` as far as they can be read, and what is wrong with the others."""
    if operation != "doctor":
        return load(given, names=names), None
    from distlock_core.settings.salvage import salvage

    return salvage(given, names)


def error_form(arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[bool, bool]:
    """The form of an error for arguments that may be invalid: whether as JSON, and whether stdout is a command's."""
    json, operation = environ.get("DISTLOCK_JSON") or "false", False
    rest = list(arguments)
    while _begins_with_option(rest):
        name, setting, text = take(rest)
        operation = operation or name in OPERATIONS
        if setting is not None and setting.key == "json":
            json = text or ""
    try:
        return read_bool(json), bool(rest) and not operation
    except DistlockError:
        return False, bool(rest) and not operation


def is_for_doctor(arguments: Sequence[str]) -> bool:
    """True if arguments that may be invalid ask for an examination."""
    rest = list(arguments)
    while _begins_with_option(rest):
        if take(rest)[0] == "doctor":
            return True
    return False


def _split(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    options: dict[str, Any] = {}
    rest = list(arguments)
    while _begins_with_option(rest):
        argument = rest[0]
        name, setting, text = take(rest)
        if setting is None:
            known = (*_BY_OPTION, *OF_ONE_CALL, *OPERATIONS)
            raise UsageError(f"unknown option {argument!a}{_meant(name, known) or '.'} See: distlock --help")
        if text is None:
            raise UsageError(f"option --{name} needs a value. See: distlock --help")
        if name in options and name not in (*REPEATED, "lock-name"):
            raise UsageError(f"option --{name} is given twice: use it once")
        earlier = options.get(name)
        if name in options and name in REPEATED:
            text = f"{earlier}, {text}"
        try:
            options[name] = setting.value(setting.as_utf8(text), f"option --{name}")
        except DistlockError as error:
            raise UsageError(error.message) from None
        if name == "lock-name":
            options[name] = _names(options[name], earlier)
    return options, rest


def _names(name: str, earlier: str | None) -> str:
    """The value of --lock-name, which can be given several times."""
    if BETWEEN_NAMES in name or (earlier is not None and not name):
        try:
            check_name(name)
        except DistlockError as error:
            raise UsageError(error.message) from None
    return name if earlier is None else earlier + BETWEEN_NAMES + name


def _meant(name: str, known: Sequence[str]) -> str:
    from distlock_core.base.nearest import did_you_mean

    return did_you_mean(name, known, "--{}")


def _begins_with_option(rest: list[str]) -> bool:
    if rest and rest[0] == "--":
        del rest[0]
        return False
    return bool(rest) and rest[0].startswith("-") and rest[0] != "-"


def take(rest: list[str]) -> tuple[str, Setting | None, str | None]:
    """Remove an option and its value from the front. None for an unknown option, or for a missing value."""
    argument = rest.pop(0)
    name, equals, text = argument[2 if argument.startswith("--") else 1 :].partition("=")
    name = {"h": "help"}.get(name, name)
    setting = _BY_OPTION.get(name) or OF_ONE_CALL.get(name)
    if name in OPERATIONS:
        setting = Setting(name, name, read_bool_or_path if name == "metrics" else read_bool, False, flag=True)
    if equals or setting is None:
        return name, setting, text
    if setting.flag:
        return name, setting, "true"
    return name, setting, rest.pop(0) if rest else None
