"""The text of `distlock --help`, generated from the table of settings so that the two always agree."""

from __future__ import annotations

import textwrap

from distlock_core.settings.options import SETTINGS, Setting

WIDTH = 79  # columns

_INTRO = """\
distlock - run a command while holding a lock that the whole cluster honours

Usage:
  distlock --lock-name=NAME [OPTIONS] -- COMMAND [ARGUMENTS]
      run a command under the lock
  distlock --lock-name=NAME --lock [OPTIONS]
      acquire the lock, and leave it held
  distlock --lock-name=NAME --lock --while-pid=PID [OPTIONS]
      acquire it, and keep it while a process lives
  distlock --lock-name=NAME --unlock [OPTIONS]
      release it, whoever holds it
  distlock --lock-name=NAME --break [--reason=TEXT] [--yes] [OPTIONS]
      show another's hold, ask, end exactly that hold, and note who and why
  distlock --lock-name=NAME --show [OPTIONS]
      show the holder, since when, why, and the waiters
  distlock --lock-name=NAME --explain [OPTIONS]
      would it be acquired now, and if not, why: every condition; reads only
  distlock --lock-name=NAME --wait [--until=free|idle|thawed] [OPTIONS]
      wait until it is free, and take nothing; idle: nobody waits either
  distlock --lock-name=NAME --get [OPTIONS]
      print the value that it carries
  distlock --lock-name=NAME --update --value=TEXT [OPTIONS]
      change the value (or --reason) of a held lock
  distlock --lock-name=NAME --verify [OPTIONS]
      exit 0 only if --token (or DISTLOCK_TOKEN) still holds it
  distlock --freeze [--lock-name=NAME] [--reason=TEXT] [--for=TIME] [OPTIONS]
      let nobody acquire that lock, or any lock; holders go on
  distlock --thaw [--lock-name=NAME] [OPTIONS]
      end that freeze: the waiters go on in their order
  distlock --list [--lock-name=NAME] [OPTIONS]
      list every lock, or that one, or those of a pattern: 'es-*', 'db?'
  distlock --watch [--lock-name=NAME] [OPTIONS]
      print the events of one lock, or of every lock
  distlock --history [--lock-name=NAME] [--since=AGE] [--follow] [OPTIONS]
      print who held what, when, for how long, who waited, and how it ended
  distlock --history --plot=FILE [--lock-name=NAME] [--since=AGE] [OPTIONS]
      draw that as a timeline, as .svg, .png or .html, or with - here
  distlock --metrics[=FILE] [--lock-name=NAME] [OPTIONS]
      print the figures of the locks for Prometheus, or write them into FILE
  distlock --prune --older-than=AGE [--dry-run] [OPTIONS]
      delete those notes on ended holds that are older than AGE
  distlock --policy [--lock-name=NAME] [OPTIONS]
      show the policies: the rules for everybody who acquires a lock; with
      --lock-name: that lock's policy
  distlock --policy --lock-name=NAME [--slots=N] [--cooldown=SECONDS]
           [--window=TIMES] [--expect=SECONDS] [--clear] [--dry-run]
      set that lock's policy; --clear also removes the fields that are not
      named, or the whole policy if none is

Examples:
  distlock --lock-name=percona_prod --reason="Upgrade RPMs" -- yum upgrade
  distlock --lock-name=percona_prod --nowait -- systemctl restart mysqld
  distlock --lock-name=percona_prod --ttl=60 -- ./upgrade.sh
      expires with its holder; the command is killed if the lock is lost
  distlock --lock-name=percona_prod --show
  distlock-etcd
      start an etcd on this machine, to try things out

Options take one or two dashes; each can also be set in the environment or in
the config file. Seconds can have a unit: 90, 1.5, 10m, 2h, 1d.
"""

_OUTRO = """
Exit code: the command's own; 128+n when signal n ended it; 1 not acquired, not
unlocked, or bad usage; 2 the lock was lost; 3 the command could not be started
or killed; 4 the command showed no life.
"""


def _entry(setting: Setting) -> str:
    head = f"--{setting.option}={setting.placeholder}" if setting.placeholder else f"--{setting.option}"
    default = setting.default
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    text = setting.help + ("" if default in (None, "", False) else f" (default {shown})")
    return _option(head, f"{text} [{setting.variable}]")


def _option(head: str, text: str) -> str:
    indent = " " * 30
    lines = textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    if len(head) > 27:
        return "\n".join([f"  {head}", *lines]) + "\n"
    lines[0] = f"  {head:<27} {lines[0].lstrip()}"
    return "\n".join(lines) + "\n"


HELP = (
    _INTRO
    + "".join(_entry(setting) for setting in SETTINGS if "option" in setting.scope)
    + _option(
        "--token=N", "for --verify, --unlock, --break and --update: the token of the lock; with --id, enter that --lock"
    )
    + _option("--force", "for --unlock with --id: also release another owner's lock; for --freeze: replace a freeze")
    + _option("--for=SECONDS", "for --freeze: end it after that time, as 2h; without it, only --thaw ends it")
    + _option("--older-than=AGE", "for --prune: 30d, 12h; younger notes are kept")
    + _option(
        "--dry-run",
        "for -- COMMAND, --lock, --unlock, --break, --freeze, --policy and --prune: only say what would be done",
    )
    + _option("--yes", "for --break: do not ask; needs --reason")
    + _option("--clear", "for --policy: remove the policy, or replace it by what is named")
    + _option(
        "--until=free|idle|thawed", "for --wait: free (default), idle: nobody holds it or waits, thawed: not frozen"
    )
    + _option("--since=AGE", "for --history: 2h, 7d; what ended before is left out")
    + _option("--plot=FILE", "for --history: draw it into an .svg, .png or .html file, or with - in the terminal")
    + _option("--follow", "for --history: go on with what happens from now on")
    + "  --help, --version\n"
    + _OUTRO
)
