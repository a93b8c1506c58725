"""etcdlocker: the command line of Node's etcd-lock, over etcd v3.

The lock is named by its raw key in etcd, it is leased, and the command is ended when it is lost. The original uses
etcd's v2 API, whose keys are invisible to v3: the two do not exclude each other.
"""

from __future__ import annotations

import getopt
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from distlock_core.base.nearest import did_you_mean
from distlock_core.cli.command_line import Request, advise_with
from distlock_core.cli.option_rules import UsageError
from distlock_core.cli.outcome import FAILED, fail, out
from distlock_core.errors import ConfigError, DistlockError
from distlock_core.model.checks import check_key, check_owner
from distlock_core.model.keys import Keys
from distlock_core.model.ttl import check_ttl, kill_after_of
from distlock_core.process.identity import hostname
from distlock_core.settings.options import Settings
from distlock_core.settings.readers import read_bool, read_span, read_whole_seconds, utf8

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, TypeVar

    from distlock_core.cli.run import NewLock

    Number = TypeVar("Number", int, float)

WORDS = {"same_owner": "Start the inner command without etcdlocker"}  # an id enters nothing
SHORT = "e:i:k:nr:t:vh"
LONG = {"etcd=": "e", "id=": "i", "key=": "k", "node": "n", "refresh=": "r", "ttl=": "t", "verbose": "v", "help": "h"}
VARIABLES = {
    "e": "ETCD_LOCK_HOST",
    "i": "ETCD_LOCK_ID",
    "k": "ETCD_LOCK_KEY",
    "t": "ETCD_LOCK_TTL",
    "r": "ETCD_LOCK_REFRESH",
    "n": "ETCD_CHILD_IS_NODE",
}

HELP = """\
etcdlocker [options] [--] COMMAND [ARGUMENTS]

Acquires a distributed lock, runs a command, and releases the lock when the
command ends. Options of the command itself need the -- before it:
  etcdlocker -k /my/lock -t 60 -- ls -lah

  -e, --etcd HOST:PORT   etcd, or several separated by commas
                         [ETCD_LOCK_HOST; localhost:2379]
  -i, --id ID            name of the holder, displayed to others
                         [ETCD_LOCK_ID; the host name]
  -k, --key KEY          the lock's key in etcd [ETCD_LOCK_KEY]
  -t, --ttl SECONDS      the lock expires this long after its holder is gone
                         [ETCD_LOCK_TTL]
  -r, --refresh SECONDS  interval between renewals
                         [ETCD_LOCK_REFRESH; half of the ttl]
  -n, --node             COMMAND is a Node.js module: it gets {"ping": n} at
                         every refresh, and must answer {"pong": n} within the
                         ttl, or it is ended [ETCD_CHILD_IS_NODE]
  -v, --verbose          report on stderr what is done
  -h, --help

Exit code: the command's own; 128+n when signal n ended it; 1 the lock was not
acquired, or bad usage; 2 the lock was lost; 3 the command could not be started
or killed; 4 no answer to a ping.
"""


def main() -> NoReturn:
    """The console script."""
    from distlock_core.cli.program import as_a_program

    as_a_program(lambda: run(sys.argv[1:], os.environ))


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Carry out the arguments, and return the exit code."""
    try:
        options, command = _parse(arguments)
        if "h" in options:
            return out(HELP.rstrip())
        request, new_lock = _prepare(options, command, environ)
    except DistlockError as error:
        fail(error, json=False, to_stderr=True)
        return FAILED
    from distlock_core.cli.run import run as run_command

    return run_command(request, new_lock)


def _parse(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    try:
        # As in the original, options may also follow the command, unless a -- precedes it.
        found, command = getopt.gnu_getopt(list(arguments), SHORT, list(LONG))
    except getopt.GetoptError as error:
        known = [name.rstrip("=") for name in LONG]
        meant = did_you_mean(error.opt, known, "--{}") if len(error.opt) > 1 else ""
        raise UsageError(f"{error}{meant or '.'} See: etcdlocker --help") from None
    names = {f"--{name.rstrip('=')}": short for name, short in LONG.items()}
    options: dict[str, str] = {}
    for name, value in found:
        short, text = names.get(name, name.lstrip("-")), utf8(value)
        # The original takes the last one, which may mean another lock: only equal repetitions are accepted.
        if options.setdefault(short, text) != text:
            raise UsageError(f"option {name} is given twice, with {options[short]!a} and {text!a}: use it once")
    return options, command


def _prepare(options: dict[str, str], command: list[str], environ: Mapping[str, str]) -> tuple[Request, NewLock]:
    from distlock_core.etcd.transport import dial
    from distlock_core.lock.lock import Lock
    from distlock_core.lock.spec import LockSpec
    from distlock_core.process.nesting import held_around

    values = {short: utf8(environ[name]) for short, name in VARIABLES.items() if environ.get(name)}
    values.update(options)
    node = "n" in options or ("n" in values and read_node(values["n"]))
    for short, what in (("k", "key (-k, ETCD_LOCK_KEY)"), ("t", "ttl (-t, ETCD_LOCK_TTL)")):
        if not values.get(short):
            raise UsageError(f"no {what} is given. See: etcdlocker --help")
    if not command:
        raise UsageError("no command is given. See: etcdlocker --help")
    ttl = _number(values["t"], read_whole_seconds, "ttl")
    refresh = _number(values["r"], read_span, "refresh") if values.get("r") else ttl / 2
    check_ttl(ttl, refresh, kill_after_of(ttl))
    settings = Settings(ttl=ttl, refresh=refresh, node=node, verbose="v" in options, quiet="v" not in options)
    owner = check_owner(values.get("i") or hostname())
    keys = Keys.raw(check_key(values["k"]))
    # The owner is only for display: two runs with one id exclude each other.
    spec = LockSpec((keys,), owner, False, "", "run", 1, held_around(environ), ttl, refresh)
    advise_with({}, values.get("e", ""), WORDS)
    etcd = dial(values.get("e") or "localhost:2379")
    return Request("run", settings, command), lambda details: Lock(
        etcd, spec._replace(details=details), background=False
    )


def read_node(text: str) -> bool:
    """Read ETCD_CHILD_IS_NODE. The original takes any text for yes; here a plain no is a no."""
    try:
        return read_bool(text)
    except ConfigError:
        return True


def _number(text: str, read: Callable[[object], Number], name: str) -> Number:
    try:
        return read(text)
    except ConfigError as expected:
        raise UsageError(f"{name}: expected {expected}, found {text!a}") from None
