"""Nodes for real runs of Puppet, each with its name, confdir and vardir."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest

from tests.support.once import once
from tests.support.paths import ROOT
from tests.support.preloaded.client import Preloaded, exec_new
from tests.support.processes import Process

BIN = Path(sys.executable).parent
DISTLOCK_PUPPET = BIN / "distlock-puppet"
HERE = Path(__file__).resolve().parent
MODULE = ROOT / "puppet"
LONGEST_COMMAND_LINE = 32768  # bytes, of a run in the tests
RUN_TIMEOUT = 200.0  # seconds; one takes three on an idle machine, an agent's first against a new server forty

# What --detailed-exitcodes says.
UNCHANGED, CHANGED, FAILED, CHANGED_AND_FAILED = 0, 2, 4, 6


def compiled_ruby(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a Ruby that compiles its libraries once for all the runs of this test session."""
    folder = once(tmp_path_factory, "compiled-ruby", lambda _: None)
    return {"RUBYOPT": f"-r{HERE / 'compiled.rb'}", "COMPILED_RUBY": str(folder)}


def quoted(*words: object) -> str:
    """A list of strings in a manifest's syntax."""
    escaped = [str(word).replace("\\", "\\\\").replace("'", "\\'") for word in words]
    return "[" + ", ".join(f"'{word}'" for word in escaped) + "]"


def preloaded_puppet(ruby_env: dict[str, str]) -> Preloaded:
    """`puppet`, of which a run in the tests' environment takes a third of the time without what it loads first."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}
    server = ["ruby", str(HERE / "preloaded/puppet.rb"), " " * LONGEST_COMMAND_LINE]
    return Preloaded(server, ["puppet"], {**env, **ruby_env, "PATH": f"{BIN}:{env['PATH']}"})


class PuppetRun:
    """A run that has been started."""

    def __init__(self, command: list[str], env: dict[str, str], output: Path, start: Callable[..., Process]) -> None:
        self._output = output
        with output.open("w") as stream:
            self.process = start(command, env, stdout=stream, stderr=subprocess.STDOUT)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        # Facter complains of what a container does not let it read.
        return "\n".join(line for line in self._output.read_text().splitlines() if "Facter" not in line)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(RUN_TIMEOUT)

    def end(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


class PuppetNode:
    """A node with its own name. `conf` are further lines of puppet.conf, by setting.

    `puppet apply` is called with that name, so that distlock-puppet need not ask Puppet for it, unless `asked` is set.
    """

    def __init__(
        self,
        folder: Path,
        certname: str,
        env: dict[str, str],
        *,
        start: Callable[..., Process] = exec_new,
        asked: bool = False,
        **conf: str,
    ) -> None:
        self.certname = certname
        self._start_process = start
        self._name = [] if asked else ["--certname", certname]
        self.owner = f"puppet:{certname}"
        self._folder = folder / certname
        self._env = env
        self._runs: list[PuppetRun] = []
        self.confdir, self._vardir = self._folder / "conf", self._folder / "var"
        self.confdir.mkdir(parents=True)
        # Made-up facts, since gathering the real ones takes half of a run.
        facts = self._vardir / "yaml/facts"
        facts.mkdir(parents=True)
        (facts / f"{certname}.yaml").write_text(
            f"--- !ruby/object:Puppet::Node::Facts\nname: {certname}\nvalues: {{}}\n"
        )
        lines = "".join(f"{key} = {value}\n" for key, value in conf.items())
        (self.confdir / "puppet.conf").write_text(f"[main]\ncertname = {certname}\n{lines}")

    def start(self, manifest: str, *options: str) -> PuppetRun:
        """Start `puppet apply`. Without options it gets --no-noop, so that Puppet need not be asked for it."""
        options = options or ("--no-noop",)
        places = ["--confdir", str(self.confdir), "--vardir", str(self._vardir), "--facts_terminus", "yaml"]
        # Only our module: scanning those of the machine takes a second.
        modules = self._folder / "modules"
        if not modules.exists():
            modules.mkdir()
            (modules / "distlock").symlink_to(MODULE)
        places += ["--modulepath", str(modules), *self._name]
        command = ["puppet", "apply", "--color=false", "--detailed-exitcodes", *places]
        return self._start([*command, *options, "-e", manifest])

    def apply(self, manifest: str, *options: str) -> tuple[int, str]:
        """Run `puppet apply` to its end. Return the exit code and the output."""
        run = self.start(manifest, *options)
        code = run.wait()
        return code, run.said

    def start_agent(self, *options: str) -> PuppetRun:
        """Start `puppet agent`; its server is set in `conf`."""
        places = ["--confdir", str(self.confdir), "--vardir", str(self._vardir)]
        return self._start(["puppet", "agent", "--color=false", *places, *options])

    def run_agent(self, *options: str) -> tuple[int, str]:
        """Run `puppet agent --test` to its end. Return the exit code and the output."""
        run = self.start_agent("--test", *options)
        code = run.wait()
        return code, run.said

    def end(self) -> None:
        for run in self._runs:
            run.end()

    def _start(self, command: list[str]) -> PuppetRun:
        output = self._folder / f"run-{len(self._runs)}"
        # An agent shows a title in place of its command line, and forks its runs.
        start = self._start_process if command[1] == "apply" else exec_new
        self._runs.append(PuppetRun(command, self._env, output, start))
        return self._runs[-1]


class Guarded:
    """Work for one node at a time: it fails if two do it at once. The gate keeps a node inside."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.gate = folder / "gate"
        self.script = folder / "guarded"
        self.script.write_text(
            f"#!/bin/sh\nmkdir {folder}/busy || exit 99\necho $1 >> {folder}/began\n"
            f"echo $$ > {folder}/pid.new && mv {folder}/pid.new {folder}/pid\n"
            f"while ! test -e {self.gate}; do sleep 0.05; done\nrmdir {folder}/busy\necho $1 >> {folder}/ended\n"
        )
        self.script.chmod(0o755)

    @property
    def began(self) -> list[str]:
        return self._lines("began")

    @property
    def ended(self) -> list[str]:
        return self._lines("ended")

    @property
    def pid(self) -> int | None:
        """The process that is or was inside."""
        lines = self._lines("pid")
        return int(lines[0]) if lines else None

    def _lines(self, name: str) -> list[str]:
        path = self._folder / name
        return path.read_text().split() if path.exists() else []


def holder_named(said: str) -> str:
    """The holder of the lock, from the output of a run that did not get it."""
    found = re.search(r"percona_prod is held by (puppet:\S+) since", said)
    assert found, said
    return found[1]
