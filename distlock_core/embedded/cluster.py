"""A real etcd cluster on loopback, of one member or several, that leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence

from distlock_core.embedded.binary import BinaryNotFound, etcd_version, find_etcd, find_etcdctl
from distlock_core.embedded.member import READY_TIMEOUT, Member, NotStarted
from distlock_core.embedded.ports import free_ports
from distlock_core.embedded.secured import Auth, Grant, Tls, add_user

_TRIES = 5
_PORTS_FILE = "distlock-ports.json"


class EtcdctlError(RuntimeError):
    """etcdctl has failed; the message is its stderr."""


class Cluster:
    """Started etcd members. Use Cluster.start(), and stop() or a `with` block at the end."""

    def __init__(
        self, members: Sequence[Member], *, etcd: str, scratch: str, keeps_data: bool, tls: Tls | None = None
    ) -> None:
        self.members = list(members)
        self.etcd = etcd
        self.tls = tls
        self.auth: Auth | None = None
        self._scratch = scratch
        self._keeps_data = keeps_data

    @classmethod
    def start(
        cls,
        members: int = 1,
        *,
        etcd: str | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        extra_args: Sequence[str] = (),
        heartbeat_ms: int = 100,
        election_ms: int = 1000,
        fsync: bool = True,
        port: int | None = None,
        timeout: float = READY_TIMEOUT,
        tls: Tls | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Cluster:
        """Start `members` members and return when all of them answer.

        `etcd` is the path of the binary (default: find_etcd()). `port` is the client port of the first member. Data in
        `data_dir` is kept: the same folder later continues with the same data and ports, since a cluster identifies its
        members by their ports. Without it, stop() removes everything. `election_ms` must be at least five times
        `heartbeat_ms`; a lease's TTL has a minimum of 1.5 election timeouts, rounded up to whole seconds. `fsync=False`
        is faster and only for tests; etcd before 3.5 ignores it. With `tls`, clients connect with TLS. `env` is
        added to the environment of the members.

        Raises BinaryNotFound, NotStarted or NotReady (with the tail of the log), OSError.
        """
        etcd = etcd or find_etcd()
        options = [f"--heartbeat-interval={heartbeat_ms}", f"--election-timeout={election_ms}", "--logger=zap"]
        if not fsync and _at_least(etcd, (3, 5)):
            options.append("--unsafe-no-fsync")
        options += [*(tls.flags if tls else ()), *extra_args]
        for attempt in range(1, _TRIES + 1):
            cluster = cls._prepare(members, etcd, data_dir, options, port, tls, env or {})
            try:
                cluster._start_all(timeout)
                return cluster
            except NotStarted as e:
                cluster._discard()
                # Another process took one of the ports meanwhile. Only ports chosen by us can be chosen again.
                if "address already in use" not in str(e) or data_dir or port or attempt == _TRIES:
                    raise
            except BaseException:
                cluster._discard()
                raise
        raise AssertionError("unreachable")

    @staticmethod
    def has_ports(data_dir: str | os.PathLike[str]) -> bool:
        """True if a cluster has been started on this folder before, so that its ports are fixed."""
        return os.path.exists(os.path.join(data_dir, _PORTS_FILE))

    @property
    def endpoints(self) -> list[str]:
        """The client URLs of all members, running or not."""
        return [member.client_url for member in self.members]

    @property
    def settings(self) -> dict[str, str]:
        """Arguments of `connect()`, besides the endpoints, of a client that may do everything."""
        tls = self.tls.settings if self.tls else {}
        return {**tls, **(self.auth._asdict() if self.auth else {})}

    def enable_auth(self) -> None:
        """Enable authentication. From then on `settings` and etcdctl() use the user root."""
        self.auth = Auth.enable(self)

    def add_user(self, user: str, password: str, grants: Sequence[Grant]) -> dict[str, str]:
        """Add a user with a role of the same name, and return the settings of a client with this user.

        `grants` are pairs of a right (read, write or readwrite) and a prefix.
        """
        add_user(self, user, password, grants)
        return {**(self.tls.settings if self.tls else {}), "user": user, "password": password}

    def leader(self, timeout: float = READY_TIMEOUT) -> Member:
        """The present leader; waits for an election. Raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            leaders = [member for member in self.members if member.is_leader()]
            # There are two while one that was paused or cut off does not know of its successor yet.
            if len(leaders) == 1:
                return leaders[0]
            if time.monotonic() >= deadline:
                raise TimeoutError(f"no single leader in {timeout:g} s: {[member.name for member in leaders]}")
            time.sleep(0.05)

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Return when every member is healthy. Raises NotStarted or NotReady."""
        deadline = time.monotonic() + timeout
        for member in self.members:
            member.wait_ready(max(0.1, deadline - time.monotonic()))

    def etcdctl(self, *args: str, input: str | None = None, timeout: float = 30.0) -> str:  # noqa: A002
        """Run etcdctl with the v3 API against all endpoints and return its stdout.

        Raises EtcdctlError with its stderr, subprocess.TimeoutExpired after `timeout` seconds.
        """
        env = {key: value for key, value in os.environ.items() if not key.startswith("ETCDCTL_")}
        env["ETCDCTL_API"] = "3"
        if self.tls is not None:
            client = self.tls.client
            env.update(ETCDCTL_CACERT=self.tls.authority.cacert, ETCDCTL_CERT=client.cert, ETCDCTL_KEY=client.key)
        if self.auth is not None:
            env["ETCDCTL_USER"] = f"{self.auth.user}:{self.auth.password}"
        done = subprocess.run(
            [
                self._etcdctl_path(),
                f"--endpoints={','.join(self.endpoints)}",
                f"--command-timeout={timeout:g}s",
                f"--dial-timeout={timeout:g}s",  # which the login has to keep too
                *args,
            ],
            env=env,
            input=input or "",
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise EtcdctlError(f"etcdctl {' '.join(args)} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def stop(self) -> None:
        """End all members and remove everything that start() made, but not a `data_dir` of the caller."""
        if self._keeps_data:
            for member in self.members:
                # All at once: a leader that waits for another member to take over would wait in vain.
                member.terminate()
            for member in self.members:
                member.stop()
        self._discard()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @classmethod
    def _prepare(
        cls,
        count: int,
        etcd: str,
        data_dir: str | os.PathLike[str] | None,
        options: Sequence[str],
        port: int | None,
        tls: Tls | None,
        env: Mapping[str, str],
    ) -> Cluster:
        scratch = tempfile.mkdtemp(prefix="distlock-etcd-")
        home = os.path.abspath(data_dir or scratch)
        try:
            os.makedirs(home, exist_ok=True)
            ports = _ports(count, port, home)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        names = [f"n{number}" for number in range(1, count + 1)]
        scheme = "https" if tls else "http"
        urls = [(f"{scheme}://127.0.0.1:{client}", f"http://127.0.0.1:{peer}") for client, peer in ports]
        initial = ",".join(f"{name}={peer}" for name, (_, peer) in zip(names, urls))
        members = []
        for name, (client_url, peer_url) in zip(names, urls):
            folder = os.path.join(home, name)
            argv = [
                etcd,
                f"--name={name}",
                f"--data-dir={folder}",
                f"--listen-client-urls={client_url}",
                f"--advertise-client-urls={client_url}",
                f"--listen-peer-urls={peer_url}",
                f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster={initial}",
                f"--initial-cluster-token={os.path.basename(home)}",
                *options,
            ]
            log = os.path.join(scratch, f"{name}.log")
            members.append(Member(name, client_url, peer_url, folder, log, argv, tls.context() if tls else None, env))
        return cls(members, etcd=etcd, scratch=scratch, keeps_data=data_dir is not None, tls=tls)

    def _start_all(self, timeout: float) -> None:
        for member in self.members:
            member.start()
        self.wait_ready(timeout)

    def _discard(self) -> None:
        for member in self.members:
            member.kill()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _etcdctl_path(self) -> str:
        # Preferably the one of the same release.
        beside = os.path.join(os.path.dirname(self.etcd), "etcdctl")
        return beside if os.access(beside, os.X_OK) else find_etcdctl()


def _at_least(etcd: str, wanted: tuple[int, int]) -> bool:
    major, minor = etcd_version(etcd).split(".")[:2]
    return (int(major), int(minor)) >= wanted


def _ports(count: int, port: int | None, home: str) -> list[tuple[int, int]]:
    """The client and peer port of each member: the previous ones, if `home` has been used before."""
    file = os.path.join(home, _PORTS_FILE)
    try:
        with open(file, encoding="utf-8") as f:
            ports = [(int(client), int(peer)) for client, peer in json.load(f)]
    except FileNotFoundError:
        free = free_ports(2 * count)
        ports = list(zip(free[:count], free[count:]))
    except (ValueError, TypeError) as e:
        raise OSError(f"{file} is damaged: {e}") from e
    if len(ports) != count:
        raise OSError(f"{home} belongs to a cluster of {len(ports)}, not {count}")
    if port is not None:
        # The client port may change between starts: members identify each other by the peer port.
        ports[0] = (port, ports[0][1])
    with open(file, "w", encoding="utf-8") as f:
        json.dump(ports, f)
    return ports


__all__ = ["BinaryNotFound", "Cluster", "EtcdctlError"]
