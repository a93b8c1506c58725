"""Real etcd for every test, the installed command, and the history of the realm when a test fails."""

from __future__ import annotations

import compileall
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from typing import Any, Callable

import pytest

import distlock_core
from distlock_core.testing import Cluster, EtcdctlError, Proxy, Tls
from tests.support.etcd_view import Etcd
from tests.support.needs import need as need_tool
from tests.support.needs import summary
from tests.support.processes import Process

pytest_plugins = ["tests.support.realm_fixtures"]

COMMAND_TIMEOUT = 100.0  # seconds after which a command counts as hung, on a busy machine
HISTORY_LIMIT = 20_000
ON_ONE_WORKER = ("test_fleet.py", "test_transports.py")
# Their tests are at work all the time, most others wait for much of theirs.
BUSY = ("ansible_collection", "puppet", "puppet_module", "puppet_runs", "salt_modules")
# Some of theirs last half a minute, whatever the machine: at the end, others would be idle meanwhile.
LONG = ("test_docs.py", "test_examples.py", "test_races.py", "test_soak.py")
CELL = re.compile(r"\b3\.\d-(?:plain|tls|auth)\b")  # of the contract: one etcd each


@pytest.fixture(scope="session")
def need() -> Callable[..., str]:
    """need("etcd 3.4") -> its path, or the test is skipped (fails under CI=true)."""
    return need_tool


@pytest.fixture(scope="session")
def start_etcd() -> Iterator[Callable[..., Cluster]]:
    """start_etcd(members=1, version=None, **options) -> Cluster, small timeouts, no fsync; ended with the session."""
    started: list[Cluster] = []

    def start(members: int = 1, version: str | None = None, **options: Any) -> Cluster:
        etcd = need_tool("etcd" if version is None else f"etcd {version}")
        # A lease's TTL floor is 1 s with these.
        fast = {"heartbeat_ms": 100, "election_ms": 600, "fsync": False}
        started.append(Cluster.start(members, etcd=etcd, **{**fast, **options}))
        return started[-1]

    yield start
    for cluster in started:
        cluster.stop()


@pytest.fixture(scope="session")
def etcd(start_etcd: Callable[..., Cluster]) -> Cluster:
    """One member, shared by the tests of an xdist worker: leave it running, and stay under `realm_prefix`."""
    return start_etcd()


@pytest.fixture(scope="session")
def etcd34(start_etcd: Callable[..., Cluster]) -> Cluster:
    """As `etcd`, but 3.4."""
    return start_etcd(version="3.4")


@pytest.fixture(scope="session")
def etcd35(start_etcd: Callable[..., Cluster]) -> Cluster:
    """As `etcd`, but 3.5."""
    return start_etcd(version="3.5")


@pytest.fixture(params=["3.4", "3.5"])
def each_etcd(request: pytest.FixtureRequest) -> Cluster:
    """The test runs twice: on `etcd34` and on `etcd35`."""
    cluster: Cluster = request.getfixturevalue("etcd" + request.param.replace(".", ""))
    return cluster


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """An authority, a server's certificate for 127.0.0.1 and localhost, and a client's without a common name."""
    need_tool("openssl")
    return Tls.make(str(tmp_path_factory.mktemp("certificates")))


@pytest.fixture(scope="session")
def etcd_cell(start_etcd: Callable[..., Cluster], request: pytest.FixtureRequest) -> Callable[[str, str], Cluster]:
    """etcd_cell("3.4" or "3.5", "plain", "tls" or "auth" (TLS with auth on)) -> Cluster, one of each for a worker.

    `cluster.settings` are what a client says to it that may do everything.
    """
    cells: dict[tuple[str, str], Cluster] = {}

    def cell(version: str, security: str) -> Cluster:
        if security == "plain":
            plain: Cluster = request.getfixturevalue("etcd" + version.replace(".", ""))
            return plain
        if (version, security) not in cells:
            # A login takes 60 ms of etcd otherwise, and tests log in all the time.
            cheap = ["--bcrypt-cost=4"]
            cluster = start_etcd(version=version, tls=request.getfixturevalue("tls"), extra_args=cheap)
            if security == "auth":
                cluster.enable_auth()
            cells[version, security] = cluster
        return cells[version, security]

    return cell


@pytest.fixture
def user_of_realm(etcd_cell: Callable[[str, str], Cluster], realm_prefix: str) -> Callable[[str], dict[str, Any]]:
    """user_of_realm(password) -> the settings of one who may do what is below the realm's prefix, and no more."""

    def add(password: str) -> dict[str, Any]:
        cluster = etcd_cell("3.5", "auth")
        access = cluster.add_user(f"user-{realm_prefix[3:9]}", password, [("readwrite", realm_prefix)])
        return {**access, "endpoints": cluster.endpoints, "prefix": realm_prefix}

    return add


@pytest.fixture
def cluster3(start_etcd: Callable[..., Cluster]) -> Iterator[Cluster]:
    """Three members of the test's own, to stop, kill and pause."""
    with start_etcd(3) as cluster:
        yield cluster


@pytest.fixture
def proxy(etcd: Cluster) -> Iterator[Proxy]:
    """A Proxy in front of `etcd`."""
    with Proxy(etcd.endpoints[0]) as proxy:
        yield proxy


@pytest.fixture
def realm_prefix() -> str:
    """A prefix that no other test has."""
    return f"/t-{secrets.token_hex(6)}/"


@pytest.fixture
def in_etcd(etcd: Cluster, realm_prefix: str) -> Etcd:
    """What is in the test's own realm, past the code under test."""
    return Etcd(etcd, realm_prefix)


@pytest.fixture(scope="session", autouse=True)
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the library in this process, and the commands, note what they acquire: not in the machine's own folder."""
    folder = str(tmp_path_factory.mktemp("state"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTLOCK_STATE_DIR", folder)
        yield folder


@pytest.fixture
def distlock_env(etcd: Cluster, realm_prefix: str, state_dir: str) -> dict[str, str]:
    """The environment of a distlock command: `etcd`, `realm_prefix`, `state_dir`, and nothing else of DISTLOCK_*."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("DISTLOCK_")}
    ours = {"DISTLOCK_ENDPOINTS": etcd.endpoints[0], "DISTLOCK_PREFIX": realm_prefix, "DISTLOCK_STATE_DIR": state_dir}
    return {**env, **ours}


@pytest.fixture
def run_distlock(distlock_env: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """run_distlock(*args, env={}, input=None, timeout=100, command="distlock") runs the installed command to its end.

    `env` is added to `distlock_env`; a value of None takes a variable out.
    """

    def run(
        *args: str,
        env: dict[str, str | None] | None = None,
        input: str | None = None,  # noqa: A002
        timeout: float = COMMAND_TIMEOUT,
        command: str = "distlock",
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [_installed(command), *args],
            env=_merged(distlock_env, env),
            input=input or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def spawn_distlock(distlock_env: dict[str, str]) -> Iterator[Callable[..., Process]]:
    """As run_distlock, but returns a Popen with pipes; it and its process group are surely ended after the test."""
    processes: list[Process] = []

    def spawn(
        *args: str, env: dict[str, str | None] | None = None, command: str = "distlock", **options: Any
    ) -> Process:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = Process(
            [_installed(command), *args],
            env=_merged(distlock_env, env),
            text=True,
            start_new_session=True,
            **{**pipes, **options},
        )
        processes.append(process)
        return process

    yield spawn
    for process in processes:
        _end(process)


def pytest_sessionstart(session: pytest.Session) -> None:
    """With PYTHONDONTWRITEBYTECODE, thousands of commands would compile by themselves what has changed."""
    if not hasattr(session.config, "workerinput"):
        compileall.compile_dir(os.path.dirname(distlock_core.__file__), quiet=2)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two workers for each core: most of a test's time is waiting for leases, timeouts and other processes."""
    return 2 * len(os.sched_getaffinity(0))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What shares a costly fixture runs on one worker, everything else wherever there is room.

    By path: the suffix that xdist's own groups put behind a test's id is not seen under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            cell = CELL.search(nodeid)
            if cell is not None:
                return f"contract of {cell.group()}"
            return path if path.endswith(ON_ONE_WORKER) else nodeid

    return Scheduling(config, log) if config.getvalue("dist") == "load" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several workers, those that are busy all the time and those that wait take turns, so no core is idle."""
    if not hasattr(config, "workerinput"):
        return
    long = [item for item in items if item.path.name in LONG]
    busy = [item for item in items if item.path.parent.name in BUSY]
    taken = {*long, *busy}
    others = [item for item in items if item not in taken]
    places = [(0.0, item) for item in long]
    # The last tenth is the others': they are short.
    places += [(0.9 * (number + 1) / len(busy), item) for number, item in enumerate(busy)]
    places += [((number + 1) / len(others), item) for number, item in enumerate(others)]
    items[:] = [item for _, item in sorted(places, key=lambda place: place[0])]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test tells the whole story: what was in its realm, and how it came there."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    prefix = arguments.get("realm_prefix")
    if call.when == "call" and report.failed and prefix is not None:
        for name in ("etcd", "etcd34", "etcd35", "each_etcd", "cluster3"):
            if isinstance(arguments.get(name), Cluster):
                report.sections.append((f"realm {prefix} in {name}", _history(arguments[name], prefix)))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """In place of a line for each skipped test: what is missing here, and how to install it."""
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", ())]
    if reasons:
        terminalreporter.section("not tested", yellow=True)
        for line in summary(reasons):
            terminalreporter.write_line(line)


def _history(cluster: Cluster, prefix: str) -> str:
    try:
        now = cluster.etcdctl("get", "--prefix", prefix)
    except (EtcdctlError, OSError, RuntimeError, subprocess.TimeoutExpired, pytest.fail.Exception) as e:
        # The last one comes from pytest-timeout, and would end the whole session here.
        return f"(not to be had: {e})"
    return f"now:\n{now}\nhistory:\n{_watched(cluster, prefix)}"[:HISTORY_LIMIT]


def _watched(cluster: Cluster, prefix: str) -> str:
    # A watch has no end: it is read until nothing more has come for a moment, which only a failed test pays for.
    try:
        cluster.etcdctl("watch", "--prefix", prefix, "--rev=1", timeout=2)
    except subprocess.TimeoutExpired as e:
        said = e.stdout or b""
        return said.decode(errors="replace") if isinstance(said, bytes) else said
    except (EtcdctlError, OSError) as e:
        return str(e)
    return ""


def _installed(command: str) -> str:
    path = os.path.join(os.path.dirname(sys.executable), command)
    return path if os.access(path, os.X_OK) else need_tool(command, install="make .venv/.ready")


def _merged(base: dict[str, str], more: dict[str, str | None] | None) -> dict[str, str]:
    merged = {**base, **(more or {})}
    return {key: value for key, value in merged.items() if value is not None}


def _end(process: Process) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # also what it left behind in its group
    except ProcessLookupError:
        pass
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
