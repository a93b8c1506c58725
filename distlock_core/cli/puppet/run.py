"""The run of Puppet around this process: its pid, command line, certname and noop setting."""

from __future__ import annotations

import os
import subprocess

from distlock_core.base.value import Value
from distlock_core.errors import ConfigError
from distlock_core.process.table import parent_of

DEEPEST = 64  # most processes between a run and its command
ASK_TIMEOUT = 60.0  # seconds for `puppet config print`, which takes about one
# Options about the places of the configuration. They are passed on to `puppet config print`.
PLACES = ("confdir", "config", "vardir", "codedir", "environment")
NAMES = ("certname", "fqdn")  # --fqdn is the agent's older word for it


class Run(Value):
    """A run of Puppet: its process and its command line."""

    pid: int
    words: tuple[str, ...] = ()  # after the word `puppet`; its parent's for a run that an agent has forked
    puppet: tuple[str, ...] = ("puppet",)  # the command that starts the same Puppet

    @property
    def section(self) -> str:
        """The section of puppet.conf that the run reads besides [main]."""
        return "user" if self.words[:1] == ("apply",) else "agent"

    @property
    def certname(self) -> str:
        """The certname in its command line, "" if there is none."""
        return next((name for word in NAMES for name in [self._option(word)] if name), "")

    @property
    def noop(self) -> bool | None:
        """The noop option in its command line, None if its configuration decides."""
        said = [word for word in self.words if word in ("--noop", "--no-noop")]
        return said[-1] == "--noop" if said else None

    def ask(self) -> tuple[str, bool]:
        """Ask `puppet config print` for certname and noop. Takes a second or more. Raises `ConfigError`."""
        places = [f"--{word}={value}" for word in PLACES for value in [self._option(word)] if value]
        command = [*self.puppet, "config", "print", "certname", "noop", "--section", self.section, *places]
        try:
            done = subprocess.run(
                command,
                env=_with_home(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=ASK_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            why = f"no answer within {ASK_TIMEOUT:g}s"
            raise _no_answer(error.strerror or "" if isinstance(error, OSError) else why) from None
        found = dict(line.split(" = ", 1) for line in done.stdout.splitlines() if " = " in line)
        if done.returncode != 0 or not found.get("certname") or found.get("noop") not in ("true", "false"):
            said = (done.stderr or done.stdout).strip().splitlines()
            raise _no_answer(said[-1] if said else f"exit code {done.returncode}")
        return found["certname"], found["noop"] == "true"

    def _option(self, name: str) -> str:
        """The value of `--name value` or `--name=value`; the last one counts, as in Puppet."""
        value = ""
        for place, word in enumerate(self.words):
            option, equals, text = word.partition("=")
            if option == f"--{name}":
                value = text if equals else self.words[place + 1] if place + 1 < len(self.words) else ""
        return value


def find() -> Run | None:
    """Return the innermost run of Puppet among this process's ancestors, None if there is none."""
    pid = os.getppid()
    for _ in range(DEEPEST):
        if pid <= 0:
            return None
        run = _read(pid)
        if run is not None:
            return run
        pid = parent_of(pid) or 0
    return None


def _read(pid: int) -> Run | None:
    words = _words(pid)
    if not words or not _is_ruby(pid):
        return None
    if words[0].startswith("puppet agent"):
        # A run forked by an agent shows a title instead of its command line, which is the agent's.
        above = _read(parent_of(pid) or 0)
        return Run(pid) if above is None else above._replace(pid=pid)
    for place, word in enumerate(words[:4]):  # ruby -W0 /usr/bin/puppet apply ...
        if os.path.basename(word) == "puppet":
            ruby = os.path.realpath(f"/proc/{pid}/exe")
            script = [ruby, *words[1 : place + 1]] if place and os.path.isabs(word) else [word]
            return Run(pid, tuple(words[place + 1 :]), tuple(script))
    return None


def _words(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsdecode(file.read()).rstrip("\0").split("\0")
    except OSError:
        return []


def _is_ruby(pid: int) -> bool:
    try:
        return "ruby" in os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        pass
    # Another user's process (`exec { user => ... }`): only its short name is visible.
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().startswith(("puppet", "ruby"))
    except OSError:
        return False


def _with_home() -> dict[str, str]:
    """This environment with HOME, which Puppet removes for its commands, but needs as non-root to find puppet.conf."""
    import pwd

    environ = dict(os.environ)
    if not environ.get("HOME"):
        try:
            environ["HOME"] = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            pass  # a user without a passwd entry: Puppet reports that
    return environ


def _no_answer(why: str) -> ConfigError:
    return ConfigError(
        f"`puppet config print` does not tell this node's certname: {why}. Give it: --certname=NAME, DISTLOCK_CERTNAME"
    )
