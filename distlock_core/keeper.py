"""The keeper: renews a lock's lease for as long as another process lives, and lets go when that ends.

`start()` is called by whoever has acquired the lock; the keeper is a process of its own, in a session of its own, with
no inherited descriptors. What it is to do comes over its standard input: nothing of it is seen in a process list.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
import time

from distlock_core.errors import DistlockError, LockLost
from distlock_core.patience import Interrupt, Patience
from distlock_core.whoami import start_time
from distlock_core.wording import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from distlock_core.lock import Lock
    from distlock_core.processes import Process

READY = 15.0  # seconds that a keeper may take to begin
LOOK = 0.5  # seconds between two looks at what a process has started
BOOT = (
    "import json,sys;plan=json.loads(sys.stdin.readline());sys.path[:]=plan['path'];"
    "from distlock_core.keeper import main;main(plan)"
)


def start(lock: Lock, connection: Mapping[str, Any], plan: Mapping[str, Any]) -> int:
    """Start a keeper for a lock that is held, and return its pid; the lock is the keeper's from then on.

    `connection` are the arguments of `connect()`. The plan: `pid` and its `start` time, `ttl`, `refresh`, `on_loss`,
    `kill_after`, `log_file`, and `children`: whether it also waits for what the process has left running. Raises
    `DistlockError` when it does not begin; the lock is the caller's then.
    """
    # The package's own folder too: an import hook may have found it, which is not there at the keeper's start.
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    orders = {"path": [*sys.path, home], "connection": dict(connection), "lock": lock.hand_over(), **plan}
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    actions = [
        (os.POSIX_SPAWN_DUP2, theirs_in, 0),
        (os.POSIX_SPAWN_DUP2, theirs_out, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    command = [sys.executable, "-I", "-S", "-c", BOOT, f"distlock keeper of {lock.name}"]
    every = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
    try:
        pid = os.posix_spawn(
            sys.executable, command, os.environ, file_actions=actions, setsid=True, setsigmask=(), setsigdef=every
        )
    except OSError as error:
        os.close(ours_in)
        os.close(ours_out)
        raise DistlockError(f"the keeper cannot be started: {error.strerror}") from error
    finally:
        os.close(theirs_in)
        os.close(theirs_out)
    try:
        with open(ours_out, "wb") as orders_pipe:
            orders_pipe.write(json.dumps(orders).encode() + b"\n")
        answer = _answer(ours_in)
    except (OSError, ValueError):
        answer = {}
    finally:
        os.close(ours_in)
    if answer.get("keeper") != pid:
        raise DistlockError(f"the keeper did not begin: {answer.get('error') or 'it gave no answer'}")
    return pid


def main(plan: dict[str, Any]) -> None:
    """What the keeper's process does, from its first to its last moment."""
    for name in os.listdir("/proc/self/fd"):  # not every number up to the limit: that may be a thousand million
        if int(name) > 2:
            _close(int(name))
    os.chdir("/")
    log = _log(plan)
    try:
        lock, until = _begin(plan)
    except (DistlockError, OSError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        sys.exit(1)
    print(json.dumps({"keeper": os.getpid()}), flush=True)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    lock.session.run(until)
    _end(plan, lock, until, log)


class WhileAlive:
    """A cancel that is set when a process has ended, or this one is told to quit."""

    def __init__(self, pid: int, started: int, told: Interrupt | None = None) -> None:
        """`told`: what the caller is told to quit by, instead of SIGTERM."""
        if told is None:
            told = Interrupt()
            signal.signal(signal.SIGTERM, lambda number, _: self.quit.set(number))
        self.quit = told
        self._pid, self._started = pid, started
        self._process: int | None = None
        self._alarm: Any = None  # what SIGALRM did before
        # An epoll descriptor can itself be polled.
        self._any = select.epoll()
        self._any.register(self.quit.fileno(), select.EPOLLIN)
        self._expect()

    @property
    def ended(self) -> bool:
        # The start time too: the process may have ended, and its pid been given away, before the pidfd was opened.
        return start_time(self._pid) != self._started

    def is_set(self) -> bool:
        return self.quit.is_set() or self.ended

    def fileno(self) -> int:
        return self._any.fileno()

    def close(self) -> None:
        """Look no more."""
        self._any.close()
        if self._process is not None:
            os.close(self._process)
        if self._alarm is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._alarm)

    def _expect(self) -> None:
        try:
            self._process = os.pidfd_open(self._pid)  # readable when the process has ended
            self._any.register(self._process, select.EPOLLIN)
        except (AttributeError, OSError) as error:
            if getattr(error, "errno", None) in (errno.EINVAL, errno.ENOENT):  # by kernel version
                raise DistlockError(f"{self._pid} is a thread, and no process") from error
            self._look_every(1.0)  # kernels before 5.3 have no pidfd

    def _look_every(self, seconds: float) -> None:
        def look(*_: object) -> None:
            if self.ended:
                self.quit.set()

        self._alarm = signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, seconds, seconds)


class WhileChildrenAlive(WhileAlive):
    """As `WhileAlive`, but a process has not ended before what it had started and left running has ended too.

    Nobody tells that, so it looks every `LOOK` seconds: of what was started just before a SIGKILL it may not know.
    What the process has got rid of itself (a daemon) is not waited for.
    """

    def __init__(self, pid: int, started: int) -> None:
        self._left: set[Process] = set()
        super().__init__(pid, started)

    @property
    def ended(self) -> bool:
        from distlock_core.processes import children

        if not super().ended:
            self._left = children(self._pid)
            return False
        self._left = {(pid, started) for pid, started in self._left if start_time(pid) == started}
        return not self._left

    def _expect(self) -> None:
        self._look_every(LOOK)


def _begin(plan: dict[str, Any]) -> tuple[Lock, WhileAlive]:
    from distlock_core.lock import Lock
    from distlock_core.realm import connect

    until = (WhileChildrenAlive if plan.get("children") else WhileAlive)(plan["pid"], plan["start"])
    if until.ended:
        raise DistlockError(f"process {plan['pid']} has ended")
    realm = connect(**plan["connection"])
    lock = Lock.taken_over(realm, plan["lock"], plan["refresh"])
    lock.note({"keeper": os.getpid()})
    if plan["on_loss"] == "kill":
        lock.session.margin = plan["kill_after"]
    return lock, until


def _end(plan: dict[str, Any], lock: Lock, until: WhileAlive, log: Callable[[str, bool], None]) -> None:
    name, pid, loss = printable(lock.name), plan["pid"], lock.session.loss
    if loss is not None:
        kill = plan["on_loss"] == "kill"
        if loss.orderly:
            log(f"{name}: {loss.why}; the keeper ends", False)
        else:
            what = "it is ended" if kill else "it RUNS ON WITHOUT ITS LOCK"
            log(f"{name}: the lock of process {pid} was lost: {loss.why}; {what}", True)
            if kill and not until.ended:
                _kill(pid, plan["kill_after"], lock.session.deadline, log)
        if lock.session.lease is not None:
            lock.session.lease.give_up()
    elif not until.ended:
        log(f"{name}: told to quit while process {pid} lives; the lock ends in {plan['ttl']}s", True)
    else:
        _release(lock, pid, log)


def _release(lock: Lock, pid: int, log: Callable[[str, bool], None]) -> None:
    name = printable(lock.name)
    try:
        lock.release()
        log(f"{name}: process {pid} has ended; released", False)
    except LockLost:
        log(f"{name}: process {pid} has ended; its lock was not its own any more", False)
    except DistlockError as error:
        log(f"{name}: process {pid} has ended, and its lock runs out by itself: {error}", True)


def _kill(pid: int, kill_after: float, deadline: float, log: Callable[[str, bool], None]) -> None:
    """End the tree of a process: asked first, and dead before the deadline, after which another may hold the lock."""
    from distlock_core.processes import Tree

    tree = Tree(pid, subreaper=False)
    living = tree.living()
    tree.send(signal.SIGTERM, living)
    tree.send(signal.SIGCONT, living)
    patience = Patience.lasting(kill_after).until(deadline - min(0.5, kill_after / 5))
    while tree.living() and not patience.over():
        patience.pause(0.05)
    patience = Patience.lasting(5.0)
    while tree.living() and not patience.over():
        tree.send(signal.SIGKILL, tree.living())
        patience.pause(0.02)
    left = tree.living()
    if left:
        log(f"cannot kill {', '.join(str(pid) for pid, _ in left)}", True)


def _answer(descriptor: int) -> dict[str, Any]:
    text = b""
    patience = Patience.lasting(READY)
    while b"\n" not in text and patience.wait(descriptor):
        data = os.read(descriptor, 65536)
        if not data:
            break
        text += data
    answer = json.loads(text) if b"\n" in text else {}
    return answer if isinstance(answer, dict) else {}


def _log(plan: dict[str, Any]) -> Callable[[str, bool], None]:
    """Where trouble goes: the log file, or syslog."""
    path = plan["log_file"]
    if path:

        def to_file(line: str, loud: bool) -> None:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            try:
                with open(path, "a", encoding="utf-8") as file:
                    file.write(f"{stamp} distlock-keeper[{os.getpid()}] {'WARNING' if loud else 'INFO'} {line}\n")
            except OSError:
                _to_syslog(line, loud)  # a full disk must not keep it from what is to be done

        return to_file
    return _to_syslog


def _to_syslog(line: str, loud: bool) -> None:
    import syslog

    syslog.openlog("distlock-keeper", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_WARNING if loud else syslog.LOG_INFO, line)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass  # the one that the list itself was read from
