"""The text of `distlock --help`, generated from the table of settings so that the two always agree."""

from __future__ import annotations

import textwrap

from distlock_core.settings.options import OF_ONE_CALL, SETTINGS, Setting

WIDTH = 79  # columns

# Each use of the command: the operation, its line, and what it does.
USES = (
    ("run", "--lock-name=NAME [OPTIONS] -- COMMAND [ARGUMENTS]", "run a command under the lock"),
    ("lock", "--lock-name=NAME --lock [OPTIONS]", "acquire the lock, and leave it held"),
    ("lock", "--lock-name=NAME --lock --while-pid=PID [OPTIONS]", "acquire it, and keep it while a process lives"),
    ("unlock", "--lock-name=NAME --unlock [OPTIONS]", "release it, whoever holds it"),
    (
        "break",
        "--lock-name=NAME --break [--reason=TEXT] [--yes] [OPTIONS]",
        "show another's hold, ask, end exactly that hold, and note who and why",
    ),
    ("show", "--lock-name=NAME --show [OPTIONS]", "show the holder, since when, why, and the waiters"),
    (
        "explain",
        "--lock-name=NAME --explain [OPTIONS]",
        "would it be acquired now, and if not, why: every condition; reads only",
    ),
    (
        "wait",
        "--lock-name=NAME --wait [--until=free|idle|thawed] [OPTIONS]",
        "wait until it is free, without acquiring it; idle: no holder, no waiter",
    ),
    ("get", "--lock-name=NAME --get [OPTIONS]", "print the value that it carries"),
    (
        "update",
        "--lock-name=NAME --update --value=TEXT [OPTIONS]",
        "change the value (or --reason) of a held lock",
    ),
    ("verify", "--lock-name=NAME --verify [OPTIONS]", "exit 0 only if --token (or DISTLOCK_TOKEN) still holds it"),
    (
        "freeze",
        "--freeze [--lock-name=NAME] [--reason=TEXT] [--for=TIME] [OPTIONS]",
        "let nobody acquire that lock, or any lock; holders go on",
    ),
    ("thaw", "--thaw [--lock-name=NAME] [OPTIONS]", "end that freeze: the waiters go on in their order"),
    (
        "list",
        "--list [--lock-name=NAME] [OPTIONS]",
        "list every lock, or that one, or those of a pattern: 'es-*', 'db?'",
    ),
    ("watch", "--watch [--lock-name=NAME] [OPTIONS]", "print the events of one lock, or of every lock"),
    (
        "history",
        "--history [--lock-name=NAME] [--since=AGE] [--follow] [OPTIONS]",
        "print who held what, when, for how long, who waited, and how it ended",
    ),
    (
        "history",
        "--history --plot=FILE [--lock-name=NAME] [--since=AGE] [OPTIONS]",
        "draw that as a timeline, as .svg, .png or .html, or with - here",
    ),
    (
        "metrics",
        "--metrics[=FILE] [--lock-name=NAME] [OPTIONS]",
        "print the figures of the locks for Prometheus, or write them into FILE",
    ),
    (
        "doctor",
        "--doctor [--lock-name=NAME] [OPTIONS]",
        "examine etcd, certificates, rights, clocks, settings and locks; exit 0: ok, 1: a warning, 2: bad",
    ),
    (
        "prune",
        "--prune --older-than=AGE [--dry-run] [OPTIONS]",
        "delete those notes on ended holds that are older than AGE",
    ),
    (
        "policy",
        "--policy [--lock-name=NAME] [OPTIONS]",
        "show the policies: the rules for everybody who acquires a lock; with --lock-name: that lock's policy",
    ),
    (
        "policy",
        (
            "--policy --lock-name=NAME [--slots=N] [--cooldown=SECONDS] [--window=TIMES] [--expect=SECONDS] "
            "[--clear] [--dry-run]"
        ),
        "set that lock's policy; --clear also removes the fields that are not named, or the whole policy if none is",
    ),
)

EXAMPLES = """\
  distlock --lock-name=percona_prod --reason="Upgrade RPMs" -- yum upgrade
  distlock --lock-name=percona_prod --nowait -- systemctl restart mysqld
  distlock --lock-name=percona_prod --ttl=60 -- ./upgrade.sh
      expires with its holder; the command is killed if the lock is lost
  distlock --lock-name=percona_prod --show
  distlock-etcd
      start an etcd on this machine, to try things out
"""

HOW_OPTIONS_ARE_GIVEN = (
    "Options take one or two dashes; each can also be set in the environment or in the config file. Seconds can have a "
    "unit: 90, 1.5, 10m, 2h, 1h30m."
)

EXIT_CODE = (
    "the command's own; 128+n when signal n ended it; 1 not acquired, not unlocked, or bad usage; 2 the lock was lost; "
    "3 the command could not be started or killed; 4 the command showed no life."
)

# Of the options in `OF_ONE_CALL`.
OF_ONE_CALL_HELP = {
    "token": "for --verify, --unlock, --break and --update: the token of the lock; with --id, enter that --lock",
    "force": "for --unlock with --id: also release another owner's lock; for --freeze: replace a freeze",
    "for": "for --freeze: end it after that time, as 2h; without it, only --thaw ends it",
    "older-than": "for --prune: 30d, 12h; younger notes are kept",
    "dry-run": "for -- COMMAND, --lock, --unlock, --break, --freeze, --policy and --prune: only say what would be done",
    "yes": "for --break: do not ask; needs --reason",
    "clear": "for --policy: remove the policy, or replace it by what is named",
    "until": "for --wait: free (default), idle: nobody holds it or waits, thawed: not frozen",
    "since": "for --history: 2h, 7d; what ended before is left out",
    "plot": "for --history: draw it into an .svg, .png or .html file, or with - in the terminal",
    "follow": "for --history: go on with what happens from now on",
}


def described(setting: Setting) -> str:
    """What a setting is, its default and its variable."""
    default = setting.default
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    text = setting.help + ("" if default in (None, "", False) else f" (default {shown})")
    return f"{text} [{setting.variable}]"


def _entry(setting: Setting, text: str) -> str:
    head = f"--{setting.option}={setting.placeholder}" if setting.placeholder else f"--{setting.option}"
    indent = " " * 30
    lines = _wrapped(text, indent, indent)
    if len(head) > 27:
        return f"  {head}\n{lines}\n"
    return f"  {head:<27} {lines.lstrip()}\n"


def _use(line: str, text: str) -> str:
    indent = " " * 6
    return f"{_wrapped(f'distlock {line}', '  ', ' ' * 11)}\n{_wrapped(text, indent, indent)}\n"


def _wrapped(text: str, first: str = "", others: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


HELP = (
    "distlock - run a command while holding a lock that the whole cluster honours\n\nUsage:\n"
    + "".join(_use(line, text) for _operation, line, text in USES)
    + f"\nExamples:\n{EXAMPLES}\n"
    + f"{_wrapped(HOW_OPTIONS_ARE_GIVEN)}\n"
    + "".join(_entry(setting, described(setting)) for setting in SETTINGS if "option" in setting.scope)
    + "".join(_entry(OF_ONE_CALL[option], text) for option, text in OF_ONE_CALL_HELP.items())
    + "  --help, --version\n\n"
    + f"{_wrapped(f'Exit code: {EXIT_CODE}')}\n"
)
