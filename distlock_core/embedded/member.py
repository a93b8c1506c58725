"""One etcd member: a process that can be stopped, killed, paused and started again on the same data and ports."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import ssl
import subprocess
import time
import urllib.parse
from collections.abc import Mapping, Sequence

from distlock_core.embedded.spawn import spawn

READY_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0  # etcd waits up to 7 s for open streams


class NotStarted(RuntimeError):
    """The member's process ended while starting; the message holds the reason, and the tail of its log."""


class NotReady(TimeoutError):
    """The member runs but did not answer in time; the message holds the tail of its log."""


class Member:
    """One etcd process; made by Cluster. Its data and ports stay the same through stop, kill and restart."""

    def __init__(
        self,
        name: str,
        client_url: str,
        peer_url: str,
        data_dir: str,
        log: str,
        argv: Sequence[str],
        tls: ssl.SSLContext | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.client_url = client_url
        self.peer_url = peer_url
        self.data_dir = data_dir
        self.log = log
        self._argv = list(argv)
        self._tls = tls
        self._env = dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    @property
    def pid(self) -> int | None:
        """The process id, None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def paused(self) -> bool:
        """True if it was paused and not yet resumed."""
        return self._paused

    def start(self) -> None:
        """Start the process without waiting for it to answer (see wait_ready). Does nothing while it runs."""
        if self.pid is not None:
            return
        # Settings of the system's etcd must not affect this one.
        env = {key: value for key, value in os.environ.items() if not key.startswith("ETCD")}
        with open(self.log, "ab") as log:
            self._process = spawn(self._argv, env={**env, **self._env}, output=log)
        self._paused = False

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Stop it as an operator would: SIGTERM, and SIGKILL after `timeout` seconds. It is gone on return."""
        self.terminate()
        self._wait_gone(timeout)

    def terminate(self) -> None:
        """Send SIGTERM without waiting for the end; a paused member is resumed first."""
        if self._process is not None and self.pid is not None:
            self.resume()
            self._process.terminate()

    def kill(self) -> None:
        """Stop it as a power failure would: SIGKILL, even if it is paused. It is gone on return."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._paused = False

    def pause(self) -> None:
        """Pause it with SIGSTOP: connections stay open, nothing is answered. It has stopped on return."""
        self._signal(signal.SIGSTOP)
        self._paused = True
        assert self._process is not None
        try:
            # On a busy machine its threads run on for a moment: until the first of them has taken the signal.
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            pass  # it has ended meanwhile, and another thread has noticed

    def resume(self) -> None:
        """Continue a paused member. Does nothing to one that is not paused."""
        if self._paused:
            self._paused = False
            self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop it and start it again, without waiting for it to answer (see wait_ready)."""
        self.stop()
        self.start()

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Return when it has reported that it is healthy: it knows a leader and serves a linearizable read.

        Raises NotStarted if the process ends first, NotReady after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while True:
            if self.pid is None:
                raise NotStarted(f"etcd {self.name} did not start: {self._reason()}\nIts log ends:\n{self.log_tail()}")
            if self.is_healthy(min(2.0, max(0.1, deadline - time.monotonic()))) and self._answers_itself():
                return
            if time.monotonic() >= deadline:
                raise NotReady(f"etcd {self.name} did not answer in {timeout:g} s\nIts log ends:\n{self.log_tail()}")
            time.sleep(0.05)

    def is_healthy(self, timeout: float = 2.0) -> bool:
        """True if /health answers true within `timeout` seconds, which includes a linearizable read."""
        try:
            status, body = self._http("GET", "/health", timeout=timeout)
            return status == 200 and json.loads(body).get("health") in ("true", True)
        except (OSError, http.client.HTTPException, ValueError):
            return False

    def is_leader(self) -> bool:
        """True if it considers itself the leader. False if it does not answer."""
        if self.pid is None or self._paused:
            return False
        try:
            return self.metric("etcd_server_is_leader") == 1
        except OSError:
            return False

    def metric(self, name: str, timeout: float = 5.0) -> float:
        """The value of a Prometheus metric, such as etcd_server_proposals_committed_total.

        Samples that differ only in labels are added up. Raises KeyError if there is none, OSError if the member does
        not answer.
        """
        try:
            _, body = self._http("GET", "/metrics", timeout=timeout)
        except http.client.HTTPException as e:
            raise OSError(f"{self.client_url}/metrics: {e!r}") from e
        values = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)", body.decode(), re.MULTILINE)
        if not values:
            raise KeyError(name)
        return sum(float(value) for value in values)

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its log, of this and earlier starts."""
        try:
            with open(self.log, "rb") as log:
                log.seek(max(0, os.path.getsize(self.log) - 20_000))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
        except OSError as e:
            return f"(no log: {e})"

    def _answers_itself(self) -> bool:
        # Another etcd may have taken the port between choosing and listening: ours is then about to fail.
        try:
            status, body = self._http("POST", "/v3/cluster/member/list", b"{}")
        except (OSError, http.client.HTTPException):
            return False
        return status != 200 or self.peer_url.encode() in body  # another status: with auth enabled it may be refused

    def _http(self, method: str, path: str, body: bytes | None = None, timeout: float = 2.0) -> tuple[int, bytes]:
        # Not urllib, which would use a proxy from the environment.
        address = urllib.parse.urlsplit(self.client_url).netloc
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(address, timeout=timeout)
        else:
            connection = http.client.HTTPSConnection(address, timeout=timeout, context=self._tls)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _wait_gone(self, timeout: float) -> None:
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()

    def _signal(self, number: int) -> None:
        if self._process is None or self.pid is None:
            raise ProcessLookupError(f"etcd {self.name} does not run")
        self._process.send_signal(number)

    def _reason(self) -> str:
        """The reason that etcd logged for its exit, in one line; its exit code if there is none."""
        plain = []
        for line in reversed(self.log_tail(1000).splitlines()):
            try:
                said = json.loads(line)
            except ValueError:
                plain.append(line)
                continue
            if isinstance(said, dict) and said.get("level") in ("fatal", "panic"):
                return str(said.get("error") or said.get("msg")).splitlines()[0]
        # A bad flag is reported in plain text, followed by the whole help.
        return plain[-1] if plain else f"exit code {None if self._process is None else self._process.poll()}"
