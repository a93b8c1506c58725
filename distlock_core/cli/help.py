"""What `distlock --help` prints: written out of the table of settings, so that the two cannot differ."""

from __future__ import annotations

from distlock_core.settings import SETTINGS

_INTRO = """\
distlock - run a command while holding a lock that the whole cluster honours

Usage:
  distlock --lock-name=NAME [OPTIONS] -- COMMAND [ARGUMENTS]   run a command under the lock
  distlock --lock-name=NAME --lock     [OPTIONS]   take the lock, and leave it taken
  distlock --lock-name=NAME --unlock   [OPTIONS]   let it go, whoever holds it
  distlock --lock-name=NAME --show     [OPTIONS]   who holds it, since when, why, who waits
  distlock --lock-name=NAME --verify   [OPTIONS]   exit 0 only if --token (or DISTLOCK_TOKEN) still holds it
  distlock --list                      [OPTIONS]   every lock

Examples:
  distlock --lock-name=percona_prod --reason="Upgrade RPMs" -- yum upgrade
  distlock --lock-name=percona_prod --nowait -- systemctl restart mysqld
  distlock --lock-name=percona_prod --show
  distlock-etcd      start an etcd on this machine, to try things out

Options (one or two dashes; each may also stand in the environment, or in the config file):
"""

_OUTRO = """\
  --token=N                   for --verify and --unlock: the acquisition that is meant
  --force                     for --unlock with --id: another owner's lock too
  --help, --version

Exit code: the command's own; 128+n when signal n ended it; 1 not acquired, not unlocked, or bad usage;
2 the lock was lost; 3 the command could not be started.
"""


def _line(option: str, placeholder: str, variable: str, text: str, default: object) -> str:
    head = f"--{option}={placeholder}" if placeholder else f"--{option}"
    shown = (
        ""
        if default in (None, "", False)
        else f" (default {default:g})"
        if isinstance(default, float)
        else (f" (default {default})")
    )
    return f"  {head:<27} {text}{shown} [{variable}]\n"


HELP = (
    _INTRO
    + "".join(
        _line(setting.option, setting.placeholder, setting.variable, setting.help, setting.default)
        for setting in SETTINGS
        if "option" in setting.scope
    )
    + _OUTRO
)
