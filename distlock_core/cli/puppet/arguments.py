"""The command line of `distlock-puppet`: OPERATION NAME [OPTIONS] [-- COMMAND], with the options of `distlock`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distlock_core.base.deadline import FOREVER
from distlock_core.base.nearest import did_you_mean
from distlock_core.base.value import Value
from distlock_core.cli.option_rules import UsageError
from distlock_core.model.wording import are
from distlock_core.settings.options import SETTINGS, Setting
from distlock_core.settings.readers import BETWEEN_NAMES, read_bool, read_seconds, read_text, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USES = {
    "exec": "run a command under the lock",
    "acquire": "acquire it for as long as this Puppet run lasts: for prerun_command",
    "release": "release what this run has acquired: for postrun_command",
    "check": "exit 0: held by this node, 1: free, 2: held by another, 3: unknown",
    "policy": (
        "set the lock's policy to exactly --slots, --cooldown, --window and --expect; --absent: remove it; --dry-run: "
        "exit 0 only if it is so already"
    ),
}
OPERATIONS = tuple(USES)
CERTNAME = "DISTLOCK_CERTNAME"
SEE = "See: distlock-puppet --help"

# Options that do not apply here: reports are for people, and the name of one lock is an argument.
LEFT_OUT = ("lock-name", "json", "node", "while-pid")
OWN = {
    "certname": Setting(
        "certname",
        "certname",
        read_text,
        "",
        "the node's name; default: the run's own, then `puppet config print certname`",
        placeholder="NAME",
    ),
    "command-timeout": Setting(
        "command_timeout",
        "command-timeout",
        read_seconds,
        0.0,
        "longest time that the command may run, not counting the wait; 0: no limit",
        placeholder="SECONDS",
    ),
    "absent": Setting("absent", "absent", read_bool, False, "remove the policy", flag=True),
    "dry-run": Setting("dry_run", "dry-run", read_bool, False, "exit 0 only if the policy is so already", flag=True),
    "noop-runs": Setting("noop_runs", "noop-runs", read_bool, False, "acquire it in a noop run too", flag=True),
}
BY_OPTION = {
    **{setting.option: setting for setting in SETTINGS if "option" in setting.scope and setting.option not in LEFT_OUT},
    **OWN,
}

NAME = Setting(
    "lockname",
    "lock-name",
    read_text,
    "",
    "instead of NAME, and several times: the locks are acquired together or not at all",
    placeholder="NAME",
)

# Options that apply only to some operations.
_GETTING = ("exec", "acquire")
MEANT_FOR = {
    **dict.fromkeys(("timeout", "nowait", "rank", "shared", "ttl", "refresh", "kill-after", "on-loss"), _GETTING),
    **dict.fromkeys(("reason", "slots", "window", "expect"), (*_GETTING, "policy")),
    **dict.fromkeys(("command-timeout", "heartbeat", "beat", "only-if", "unless"), ("exec",)),
    **dict.fromkeys(("busy-exit-code", "unreachable-exit-code"), ("exec",)),
    **dict.fromkeys(("gate", "gate-timeout", "gate-every", "gate-for"), _GETTING),
    "gate-at": ("exec",),
    "on-failure": ("exec", "acquire", "release"),
    "cooldown": ("exec", "release", "policy"),
    **dict.fromkeys(("absent", "dry-run"), ("policy",)),
    **dict.fromkeys(("log-file", "noop-runs"), ("acquire",)),
}

HELP = """\
distlock-puppet - a lock for Puppet: around one command, or around a whole run

Usage:
  distlock-puppet exec NAME [OPTIONS] -- COMMAND [ARGUMENTS]
      run a command under the lock
  distlock-puppet acquire NAME [OPTIONS]
      acquire it for as long as this Puppet run lasts: for prerun_command
  distlock-puppet release NAME [OPTIONS]
      release what this run has acquired: for postrun_command
  distlock-puppet check NAME [OPTIONS]
      exit 0: held by this node, 1: free, 2: held by another, 3: unknown
  distlock-puppet policy NAME [OPTIONS]
      set the lock's policy to exactly --slots, --cooldown, --window and
      --expect; --absent: remove it; --dry-run: exit 0 only if it is so already

Options:
  --lock-name=NAME           instead of NAME, and several times: the locks are
                             acquired together or not at all
  --timeout=SECONDS          longest wait for the lock; 0 (the default): do not
                             wait, -1: forever
  --command-timeout=SECONDS  exec: longest time that the command may run, not
                             counting the wait; 0: no limit
  --ttl=SECONDS              lease the lock (acquire: 60)
  --noop-runs                acquire: acquire it in a noop run too
  --on-failure=keep|freeze   exec: if the command fails; acquire, release: if
                             the run fails, as distlock::run_lock finds
  --reason=TEXT              why the lock is taken; shown to all waiters
  --certname=NAME            the node's name; default: the run's own, then
                             `puppet config print certname`
  and the other options of distlock: --endpoints, --prefix, --config, --id,
  --slots, --shared, --on-loss, --log-file ...

exec exits with the command's own code; 128+n when signal n ended it; 1 not
acquired (--busy-exit-code=N); 2 the lock was lost; 3 not started; 124 ended by
--command-timeout. acquire: 0 acquired, or the run is a noop run; 1 not
acquired. release: 0 this run holds nothing any more; 1 it failed.
"""


class Call(Value):
    """The request of one call. `arguments` are settings by key, as text. `names`: of the lock, or of several."""

    operation: str
    names: tuple[str, ...]
    arguments: Mapping[str, str]
    command: list[str]
    certname: str
    limit: float  # time limit of the command, in seconds
    noop_runs: bool = False  # a run with noop acquires the lock, too
    absent: bool = False  # policy: remove it
    dry_run: bool = False  # policy: only say whether it is so already


def parse(words: Sequence[str], environ: Mapping[str, str]) -> Call:
    """Parse the command line. Raises `UsageError`."""
    operation, *rest = words or [""]
    if operation not in OPERATIONS:
        raise UsageError(f"expected one of {', '.join(OPERATIONS)}, found {operation!a}. {SEE}")
    names, options, command = _split(rest, takes_command=operation == "exec")
    if not names:
        raise UsageError(f"{operation}: no lock is named. {SEE}")
    if len(names) > 1 and operation == "policy":
        raise UsageError(f"policy is about one lock, but {are(names)} named. {SEE}")
    if operation == "exec" and not command:
        raise UsageError(f"exec: no command is given. {SEE}")
    for option in options:
        meant_for = MEANT_FOR.get(option, OPERATIONS)
        if operation not in meant_for:
            raise UsageError(f"--{option} cannot be used with {operation}, only with {' and '.join(meant_for)}. {SEE}")
    own = {option: options.pop(option) for option in OWN if option in options}
    arguments = {"lockname": BETWEEN_NAMES.join(names)}
    arguments.update((BY_OPTION[option].key, text) for option, text in options.items())
    limit: Any = OWN["command-timeout"].value(own.get("command-timeout", 0.0), "option --command-timeout")
    certname = own.get("certname") or environ.get(CERTNAME, "")
    noop_runs = bool(OWN["noop-runs"].value(own.get("noop-runs", False), "option --noop-runs"))
    absent, dry_run = (
        bool(OWN[flag].value(own.get(flag, False), f"option --{flag}")) for flag in ("absent", "dry-run")
    )
    limit = limit if limit > 0 else FOREVER
    return Call(operation, names, arguments, command, certname, limit, noop_runs, absent, dry_run)


def _split(words: Sequence[str], *, takes_command: bool) -> tuple[tuple[str, ...], dict[str, str], list[str]]:
    """The names of the locks, the options and the command. Options may precede or follow the name."""
    name, names, options, rest = "", [], {}, list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("-") and word != "-":
            option, equals, text = word.lstrip("-").partition("=")
            if option == NAME.option:
                names.append(_value(word, option, text if equals else None, rest))
                continue
            if option in options:
                raise UsageError(f"option --{option} is given twice: use it once. {SEE}")
            options[option] = _value(word, option, text if equals else None, rest)
        elif not name and not (names and takes_command):
            name = utf8(word)
        elif takes_command:
            rest.insert(0, word)
            break
        else:
            raise UsageError(f"unexpected argument {word!a}. {SEE}")
    if rest and not takes_command:
        raise UsageError(f"a command goes with exec, but {rest[0]!a} is given. {SEE}")
    if name and names:
        raise UsageError(f"{name!a} and --{NAME.option}: the locks are named twice: use one of the two. {SEE}")
    return ((name,) if name else tuple(names)), options, rest


def _value(word: str, option: str, text: str | None, rest: list[str]) -> str:
    setting = NAME if option == NAME.option else BY_OPTION.get(option)
    if setting is None:
        raise UsageError(f"unknown option {word!a}{did_you_mean(option, BY_OPTION, '--{}') or '.'} {SEE}")
    if text is None and setting.flag:
        return "true"
    if text is None and not rest:
        raise UsageError(f"option --{option} needs a value. {SEE}")
    return setting.as_utf8(rest.pop(0) if text is None else text)


def wants_help(words: Sequence[str]) -> bool:
    return bool(words) and words[0] in ("-h", "--help", "-help", "help")
