"""Salt for tests: `salt-call` alone, and a real master with real minions, all on loopback and none a daemon."""

from __future__ import annotations

import atexit
import functools
import getpass
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable

import yaml

from distlock_core.embedded.ports import free_ports
from tests.support.paths import ROOT
from tests.support.preloaded.client import Preloaded, exec_new, module
from tests.support.processes import Process

BIN = Path(sys.executable).parent
PROGRAMS = ("salt-call", "salt", "salt-run", "salt-master", "salt-minion")
EXAMPLES = ROOT / "examples" / "salt"
# What `saltutil.sync_all` reports of the modules of this repository.
SYNCED = tuple(
    sorted(f"{kind}.{path.stem}" for path in (ROOT / "salt" / f"_{kind}").glob("*.py"))
    for kind in ("modules", "states", "beacons")
)
CALL_TIMEOUT = 110.0  # seconds after which a call counts as hung, on a busy machine
START_TIMEOUT = 200.0  # seconds for master and minions to answer the first ping, on a busy machine
STOP_TIMEOUT = 20.0
# Slow at the start of a minion, and useless here. To gather its grains takes half of a call.
FAST = {
    "enable_fqdns_grains": False,
    "enable_gpu_grains": False,
    "grains_cache": True,
    "log_level_logfile": "info",
    "log_level": "error",
}
_gathered: dict[str, bytes] = {}  # the caches of minions of this process, by what their grains depend on


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}


def start_salt(command: list[str], env: dict[str, str] | None = None) -> Process:
    """Start a command of Salt, without settings of distlock from outside."""
    return _preloaded().start(
        command,
        clean_environment() if env is None else env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_salt(
    command: list[str], env: dict[str, str] | None = None, timeout: float = CALL_TIMEOUT
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    with start_salt(command, env) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


@functools.cache
def _preloaded() -> Preloaded:
    """Salt's programs, of which a call takes a third of the time without their imports.

    A minion forks its jobs, so they need not import these either.
    """
    preloaded = Preloaded(module("salt_programs"), [BIN / name for name in PROGRAMS], clean_environment())
    atexit.register(preloaded.stop)
    return preloaded


def age(pid: int) -> float:
    """Seconds since a process was started."""
    with open(f"/proc/{pid}/stat", "rb") as stat, open("/proc/uptime", encoding="ascii") as uptime:
        ticks = int(stat.read().rpartition(b")")[2].split()[19])
        return float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")


def synced(report: dict[str, list[str]]) -> tuple[list[str], ...]:
    """The modules, states and beacons that `saltutil.sync_all` has brought."""
    return sorted(report["modules"]), sorted(report["states"]), sorted(report["beacons"])


class State(dict[str, Any]):
    """The result of one state."""

    @property
    def result(self) -> bool | None:
        return self["result"]  # type: ignore[no-any-return]  # Salt's own document

    @property
    def comment(self) -> str:
        return str(self["comment"])

    @property
    def changes(self) -> dict[str, Any]:
        return dict(self["changes"])


def states(returned: dict[str, Any]) -> dict[str, State]:
    """The states of a run by their ids."""
    assert isinstance(returned, dict), returned
    return {state["__id__"]: State(state) for state in returned.values()}


class Minion:
    """A minion without a master: `salt-call --local` with a separate root_dir."""

    def __init__(self, folder: Path, minion_id: str, config: dict[str, Any]) -> None:
        self.folder = folder
        self.id = minion_id
        self.bin = BIN
        self.env: dict[str, str] = {}
        self.sls = folder / "sls"
        self.sls.mkdir(parents=True)
        self._grains = folder / "var/cache/salt/minion/grains.cache.p"
        self._grains_of = json.dumps([minion_id, config.get("grains")])
        (folder / "minion").write_text(
            yaml.safe_dump(
                {
                    "root_dir": str(folder),
                    "id": minion_id,
                    "file_client": "local",
                    "user": getpass.getuser(),
                    "file_roots": {"base": [str(self.sls), str(EXAMPLES)]},
                    **FAST,
                    **config,
                }
            )
        )

    @property
    def log(self) -> str:
        return (self.folder / "var/log/salt/minion").read_text()

    def command(self, *arguments: str) -> list[str]:
        call = str(self.bin / "salt-call")
        return [call, "--local", "--config-dir", str(self.folder), "--out=json", "--retcode-passthrough", *arguments]

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        self._recall_grains()
        done = run_salt(self.command(*arguments), {**clean_environment(), **self.env, **(env or {})})
        if self.bin == BIN and self._grains.exists():
            _gathered.setdefault(self._grains_of, self._grains.read_bytes())
        return done

    def start(self, *arguments: str) -> Process:
        """The same in the background, in a new session. The caller ends it."""
        self._recall_grains()
        return start_salt(self.command(*arguments), {**clean_environment(), **self.env})

    def call(self, *arguments: str, env: dict[str, str] | None = None) -> Any:
        """The return value of a function. Fails if it cannot be parsed."""
        done = self.run(*arguments, env=env)
        assert done.stdout.lstrip().startswith("{"), (done.stdout, done.stderr)
        return json.loads(done.stdout)["local"]

    def refused(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        """The one line of a function that fails."""
        done = self.run(*arguments, env=env)
        said = done.stdout + done.stderr
        assert done.returncode != 0, said
        assert "Traceback" not in said
        (line,) = [line for line in said.splitlines() if line.startswith("Error running")]
        return line

    def single(self, *arguments: str) -> State:
        """One state."""
        (state,) = states(self.call("state.single", *arguments)).values()
        assert "Traceback" not in state.comment
        return state

    def apply(self, sls: str, *arguments: str, text: str | None = None) -> dict[str, State]:
        """The states of an SLS file, which is written first if there is a text."""
        if text is not None:
            (self.sls / f"{sls}.sls").write_text(text)
        return states(self.call("state.apply", sls, *arguments))

    def _recall_grains(self) -> None:
        """Leave it the grains of an earlier minion of this name: they are those of this machine."""
        if self.bin == BIN and self._grains_of in _gathered and not self._grains.exists():
            self._grains.parent.mkdir(parents=True, exist_ok=True)
            self._grains.write_bytes(_gathered[self._grains_of])

    def steps(self, **steps: tuple[str, dict[str, Any]]) -> dict[str, State]:
        """States run in this order, in one run: id, function and arguments of each. None requires another."""
        text = {
            step: {state: [{word: value} for word, value in words.items()]} for step, (state, words) in steps.items()
        }
        done = self.apply("steps", text=yaml.safe_dump(text, sort_keys=False))
        assert list(done) == list(steps)
        assert "Traceback" not in str(done)
        return done


class MasterAlone:
    """A master's config and folders, without a running master or minion."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        (folder / "var/cache/salt/master/proc").mkdir(parents=True)  # a master makes it when it starts
        document = {"root_dir": str(folder), "user": getpass.getuser(), "interface": "127.0.0.1", **FAST, **config}
        (folder / "master").write_text(yaml.safe_dump(document))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One call of `salt-run`."""
        command = [str(BIN / "salt-run"), "--config-dir", str(self.folder), "--out=json", *arguments]
        return run_salt(command)

    def calls(self, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
        """What runners return, called in this order by Salt's own loader in one process; of an error its text."""
        done = subprocess.run(
            [sys.executable, "-c", CALLS, str(self.folder)],
            input=json.dumps(calls),
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=CALL_TIMEOUT,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]


CALLS = """
import json, sys, salt.config, salt.loader
runners = salt.loader.runner(salt.config.master_config(sys.argv[1] + "/master"))
for function, arguments in json.load(sys.stdin):
    try:
        print(json.dumps(runners[function](**arguments)))
    except salt.exceptions.CommandExecutionError as error:
        print(json.dumps(str(error)))
"""


class Fleet:
    """A real master and real minions. Ended with `stop()`."""

    def __init__(self, minions: dict[str, dict[str, Any]], master: dict[str, Any]) -> None:
        """The config of each minion by its name, and that of the master, besides what makes them a fleet."""
        # Not below pytest's folder: the path of a Unix socket ends at 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="distlock-salt-"))
        self.sls = self.folder / "sls"
        self.sls.mkdir()
        self.names = list(minions)
        self._processes: list[Process] = []
        publish, answers = free_ports(2)
        shared = {"user": getpass.getuser(), **FAST}
        self._write(
            "master",
            {
                **shared,
                "interface": "127.0.0.1",
                "publish_port": publish,
                "ret_port": answers,
                "auto_accept": True,
                "worker_threads": 3,
                "timeout": 20,
                "file_roots": {"base": [str(EXAMPLES), str(ROOT / "salt"), str(self.sls)]},
                **master,
            },
        )
        for name, config in minions.items():
            to_master = {"id": name, "master": "127.0.0.1", "master_port": answers, "publish_port": publish}
            self._write(name, {**shared, **to_master, **config}, "minion")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def salt(self, target: str, *arguments: str, timeout: float = CALL_TIMEOUT) -> dict[str, Any]:
        """The return value of each minion, by id."""
        done = run_salt(self.command(target, *arguments), timeout=timeout)
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        try:
            answer: dict[str, Any] = json.loads(done.stdout or "{}")
        except ValueError:
            raise AssertionError((done.stdout, done.stderr)) from None
        return answer

    def command(self, target: str, *arguments: str, tool: str = "salt") -> list[str]:
        options = ["--static"] if tool == "salt" else []
        words = [target, *arguments] if target else [*arguments]
        return [str(BIN / tool), "--config-dir", str(self.folder / "master"), "--out=json", *options, *words]

    def orchestrate(self, *arguments: str, timeout: float = CALL_TIMEOUT) -> dict[str, State]:
        done = run_salt(self.command("", "state.orchestrate", *arguments, tool="salt-run"), timeout=timeout)
        assert done.stdout.lstrip().startswith("{"), (done.stdout, done.stderr)
        (returned,) = json.loads(done.stdout)["data"].values()
        return states(returned)

    def call(self, name: str, *arguments: str) -> Any:
        """The return value of a function, by `salt-call` beside a running minion."""
        command = [str(BIN / "salt-call"), "--config-dir", str(self.folder / name), "--out=json", *arguments]
        done = run_salt(command)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)["local"]

    def runner(self, *arguments: str) -> Any:
        """The return value of a runner, by `salt-run`."""
        done = run_salt(self.command("", *arguments, tool="salt-run"))
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    def listen(self) -> EventReader:
        """Read the events about locks from the master's bus, from now on. The caller ends it."""
        return EventReader(self.folder / "master" / "master")

    def log(self, name: str) -> str:
        return (self.folder / name / "var/log/salt/minion").read_text()

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT
        for process in self._processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            try:
                os.killpg(process.pid, signal.SIGKILL)  # also what is left of its group
            except ProcessLookupError:
                pass
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, config: dict[str, Any], file: str = "master") -> None:
        folder = self.folder / name
        folder.mkdir()
        (folder / file).write_text(yaml.safe_dump({"root_dir": str(folder), **config}))

    def _start(self) -> None:
        self._spawn("salt-master", "master", _preloaded().start)
        for name in self.names[:-1]:
            self._spawn("salt-minion", name, _preloaded().start)
        self._spawn("salt-minion", self.names[-1], exec_new)  # a sample of those that nothing is spared
        deadline = time.monotonic() + START_TIMEOUT
        while not self._all_answer():
            assert time.monotonic() < deadline, "the minions do not answer"

    def _all_answer(self) -> bool:
        try:
            # A minion that does not answer yet is asked again soon.
            answers = self.salt("*", "test.ping", "--timeout=5")
        except (AssertionError, subprocess.TimeoutExpired):
            return False  # the master has not made its keys yet, or is too busy
        return all(answers.get(name) is True for name in self.names)

    def _spawn(self, tool: str, name: str, start: Callable[..., Process]) -> None:
        with (self.folder / f"{name}.out").open("wb") as out:
            command = [str(BIN / tool), "--config-dir", str(self.folder / name)]
            self._processes.append(start(command, clean_environment(), stdout=out, stderr=out))


LISTEN = """
import json, sys, salt.config, salt.utils.event
opts = salt.config.master_config(sys.argv[1])
with salt.utils.event.get_event("master", opts=opts, listen=True) as bus:
    while not bus.connect_pub():
        pass
    print("ready", flush=True)
    while True:
        event = bus.get_event(wait=5, full=True, auto_reconnect=True)
        if event and "distlock/" in event["tag"]:
            data = event["data"]
            print(json.dumps([event["tag"], data.get("data", data)]), flush=True)
"""


class EventReader:
    """Reads events from a master's bus: `seen` has the data of each by its tag."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-c", LISTEN, str(config)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, env=clean_environment(), text=True
        )
        self.seen: dict[str, dict[str, Any]] = {}
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._ready.wait(CALL_TIMEOUT), "the bus does not answer"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "ready\n":
                self._ready.set()
            else:
                tag, data = json.loads(line)
                self.seen[tag] = data

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join(STOP_TIMEOUT)
