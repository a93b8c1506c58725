"""Clients: each starts one `distlock` after the other, with options that are drawn from its own random numbers."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from distlock_core.model.keys import DEFAULT_RANK
from tests.support.faults import work
from tests.support.faults.history import History

TTL, KILL_AFTER = 4, 1  # seconds
PATIENCE = 120  # seconds that a client waits for its locks: longer than any fault
ONE, TWO, MIXED = "one", "two", "mixed"  # locks: of one slot; of two; one that is acquired shared, too
SLOTS = {ONE: 1, TWO: 2, MIXED: 1}


class Client:
    """One client in a thread of its own. Its process can be killed and stopped from outside."""

    def __init__(
        self,
        name: str,
        seed: int,
        endpoints: Sequence[str],
        prefix: str,
        folder: Path,
        history: History,
        *,
        http_only: bool,
    ) -> None:
        self.name = name
        self._chance = random.Random(f"{seed} {name}")
        self._endpoints = ",".join(endpoints)
        self._prefix = prefix
        self._folder = folder
        self._http_only = http_only
        self._history = history
        self._enough = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._is_paused = False
        self.attempt = 0
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Begin no further attempt."""
        self._enough.set()

    def join(self, timeout: float) -> bool:
        """Wait for the end of the last attempt; return whether it came in time."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def end(self) -> None:
        """End its process, whatever it does."""
        self.stop()
        with self._lock:
            if self._process is not None:
                os.killpg(self._process.pid, signal.SIGCONT)
                os.killpg(self._process.pid, signal.SIGKILL)
        self._thread.join()

    def kill(self) -> bool:
        """Kill its supervisor, which leaves a persistent hold behind. Return whether there is one."""
        return self._signal(signal.SIGKILL, "killed")

    def pause(self) -> bool:
        """Stop its supervisor. Return whether there is one."""
        self._is_paused = self._signal(signal.SIGSTOP, "paused")
        return self._is_paused

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._signal(signal.SIGCONT, "resumed")

    def _signal(self, number: int, what: str) -> bool:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                return False
            # Written before: what it excuses may show at once.
            self._history.write("nemesis", what, client=self.name, attempt=self.attempt)
            os.kill(self._process.pid, number)
            return True

    def _run(self) -> None:
        while not self._enough.wait(self._chance.uniform(0, 0.3)):
            self.attempt += 1
            options, locks, facts = self._drawn()
            argv = [str(Path(sys.executable).with_name("distlock")), *options, "--"]
            argv += [sys.executable, "-I", "-S", work.__file__, str(self._history.path), self.name, str(self.attempt)]
            argv += [f"{self._chance.choice([0, 0.05, 0.2, 1]):g}", *locks]
            self._history.write(self.name, "asked", attempt=self.attempt, locks=locks, **facts)
            code, said = self._start(argv)
            self._history.write(self.name, "answered", attempt=self.attempt, code=code, said=said)

    def _start(self, argv: Sequence[str]) -> tuple[int, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DISTLOCK_")}
        environment |= {
            "DISTLOCK_ENDPOINTS": self._endpoints,
            "DISTLOCK_PREFIX": self._prefix,
            "DISTLOCK_STATE_DIR": str(self._folder),
        }
        with (self._folder / f"{self.name}.log").open("w+") as log:
            with self._lock:
                process = self._process = subprocess.Popen(
                    argv,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    text=True,
                    start_new_session=True,
                )
            code = process.wait()
            with self._lock:
                self._process = None
            log.seek(0)
            return code, log.read()[-300:]

    def _drawn(self) -> tuple[list[str], list[str], dict[str, object]]:
        """The options of one attempt, its locks, and what the checker has to know about it."""
        chance = self._chance
        locks = chance.choice([[ONE], [ONE], [TWO], [MIXED], [MIXED], [ONE, MIXED]])
        options = [f"--lock-name={lock}" for lock in locks] + [f"--id={self.name}-{self.attempt}", "--quiet"]
        shared = locks == [MIXED] and chance.random() < 0.6
        leased = chance.random() < 0.5
        nowait = chance.random() < 0.1
        if locks == [TWO]:
            options.append(f"--slots={SLOTS[TWO]}")
        if shared:
            options.append("--shared")
        if leased:
            options += [f"--ttl={TTL}", f"--kill-after={KILL_AFTER}"]
        rank = chance.choice([10, 90]) if chance.random() < 0.2 else DEFAULT_RANK
        options.append(f"--rank={rank}")
        if chance.random() < 0.15 and not self._http_only:
            options.append("--transport=grpc")
        options.append("--nowait" if nowait else f"--timeout={PATIENCE}")
        return options, locks, {"shared": shared, "leased": leased, "nowait": nowait, "rank": rank}
