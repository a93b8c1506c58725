"""Run keeper: waits for a lock and keeps it for a run of many processes, which continues meanwhile.

The run has one end of a pipe, which all its children inherit; the keeper has the other. So the keeper notices the end
of the run when the last of its processes is gone, whatever the cause. Only that, an `end_hold()` before it, or a loss
ends its hold.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys

from distlock_core.base.deadline import Interrupt, now
from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.errors import Cancelled, DistlockError, LockLost
from distlock_core.hints import from_fields
from distlock_core.keeper import detach
from distlock_core.model.wording import in_queue
from distlock_core.process.alive import QUIT_AFTER
from distlock_core.process.nesting import HELD, TOKEN, held_around

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.lock.acquire import Waiting
    from distlock_core.lock.lock import Lock

RELEASE, KEEP, COOL = "release", "keep", "cool"


class KeeperHold(Value):
    """The hold of a run keeper."""

    lock: str
    owner: str
    token: int
    since: int


class RunKeeper:
    """A run keeper, as seen by the run. `update()` processes the keeper's messages; it never blocks.

    `waiting` names the holders that it waits for. `hold` is its hold, None before and afterwards. `trouble` is why
    there is none: refused, lost, or not certainly released. `over` is True when no more messages will come.
    """

    def __init__(self, name: str, orders: Mapping[str, Any]) -> None:
        """Start it. Orders: `connection`, `spec` (arguments of `Realm.lock()`), `timeout`, `kill_after`, `at_end`.

        The lock is leased. A hold without a renewal counts as lost `kill_after` seconds before the lease can expire.
        `at_end` (the arguments of `end_hold()`) is used when the run ends without calling `end_hold()`. Raises
        `DistlockError`.
        """
        self.name = name
        self.waiting = ""
        self.hold: KeeperHold | None = None
        self.trouble: DistlockError | None = None
        self.over = False
        self._heard = b""
        self._is_ending = False
        around = {word: os.environ[word] for word in (TOKEN, HELD) if word in os.environ}
        orders = {**orders, "around": around}  # passed explicitly: the keeper itself is not nested in them
        self.pid, self._orders, self._words = detach.spawn(__name__, f"distlock keeper for {name}", orders)
        os.set_blocking(self._words, False)

    def fileno(self) -> int:
        """A descriptor that is readable when `update()` has a message to process. Only while not `over`."""
        return self._words

    def update(self) -> None:
        while not self.over:
            try:
                data = os.read(self._words, 65536)
            except BlockingIOError:
                return
            *lines, self._heard = (self._heard + data).split(b"\n")
            for line in lines:
                if not self.over:
                    self._take_in(json.loads(line))
            if not data and not self.over:
                self._ended_in_silence()

    def wait(self, seconds: float) -> None:
        """Wait for a message, at most `seconds`, and `update()`."""
        if not self.over:
            wait_for([self], seconds)
            self.update()

    def end_hold(self, how: str, detail: str | int | None = None) -> None:
        """Ask it to release the lock, to keep it until a person unlocks it (with a reason), or to cool (seconds).

        Returns at once: `over` is set when that is done, and `trouble` if it failed.
        """
        if not self.over and not self._is_ending:
            self._is_ending = True
            try:
                os.write(self._orders, json.dumps([how, detail]).encode() + b"\n")
            except OSError:
                pass  # it has ended: the next update shows it

    def _take_in(self, said: dict[str, Any]) -> None:
        if "waiting" in said:
            self.waiting = said["waiting"]
        elif "hold" in said:
            self.waiting = ""
            self.hold = KeeperHold(*said["hold"])
        else:
            if said.get("message"):
                kind = LockLost if said["kind"] == LockLost.kind else DistlockError
                self.trouble = kind(said["message"])
                self.trouble.kind = said["kind"]
                self.trouble.hints = from_fields(said.get("hints", ()))
            self._end()

    def _ended_in_silence(self) -> None:
        name = printable(self.name)
        if self.hold is None and not self._is_ending:
            self.trouble = DistlockError(f"{name}: the process that was to get the lock has ended")
        elif self.hold is not None and self._is_ending:
            self.trouble = DistlockError(f"{name}: the process that was to let it go has ended; the lock may remain")
        elif self.hold is not None:
            self.trouble = LockLost(f"{name} was lost: the process that kept it has ended")
        self._end()

    def _end(self) -> None:
        self.over = True
        self.hold = None
        os.close(self._orders)
        os.close(self._words)


def wait_for(run_keepers: list[RunKeeper], seconds: float) -> None:
    """Wait for a message from one of them, at most `seconds`."""
    poll = select.poll()
    for run_keeper in run_keepers:
        if not run_keeper.over:
            poll.register(run_keeper, select.POLLIN)
    poll.poll(int(seconds * 1000))


def main(orders: dict[str, Any]) -> None:
    """The main function of the run keeper's process."""
    detach.stand_alone()
    log = detach.open_log(orders.get("log_file"))
    run = _Run()
    try:
        lock = _get(orders, run)
    except Cancelled:
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - reported to the run; the attempt has left nothing behind
        _say(**_told(error))
        sys.exit(1)
    run.holds = True
    name, owner = printable(lock.name), printable(lock.owner)
    _say(hold=[lock.name, lock.owner, lock.token, lock.since])
    lock.session.kill_after = orders["kill_after"]
    lock.session.run(run)
    loss = lock.session.loss
    if loss is not None:
        # Reported first: it may take long until etcd answers again.
        _say(kind=LockLost.kind, message=f"{name} was lost: {loss.why}")
        log(f"{name}: the lock of {owner} was lost: {loss.why}", True)
        if lock.session.lease is not None:
            lock.session.lease.give_up()
        return
    order = run.order()
    if order is None and run.quit.is_set():
        log(f"{name}: told to quit while its run lives; the lock ends by itself", True)
        return
    how, detail = order or orders["at_end"]
    try:
        _end_hold(lock, how, detail)
    except Exception as error:  # noqa: BLE001 - any error is reported and logged
        _say(**_told(error))
        log(f"{name}: the run of {owner} is over, and its lock may not be released: {error}", True)
        return
    _say(done=how)
    if order is None:
        log(f"{name}: the run of {owner} has ended; what became of the lock: {how}", False)


class _Run:
    """A cancel that is set when the run has sent an order, when it is gone, or when this process is asked to quit."""

    def __init__(self) -> None:
        self.quit = Interrupt()
        self.holds = False  # with a lock held, SIGTERM does not end this process before the run has ended
        self._told = False
        signal.signal(signal.SIGTERM, lambda number, _: self._terminate(number))
        signal.signal(signal.SIGALRM, lambda *_: self.quit.set(signal.SIGTERM))
        # An epoll descriptor can itself be polled.
        self._any = select.epoll()
        self._any.register(self.quit.fileno(), select.EPOLLIN)
        self._any.register(0, select.EPOLLIN)

    def is_set(self) -> bool:
        return bool(self._any.poll(0))

    def fileno(self) -> int:
        return self._any.fileno()

    def _terminate(self, number: int) -> None:
        # A service manager signals all processes at once: the run may be ending too.
        if self.holds and not self._told:
            self._told = True
            signal.setitimer(signal.ITIMER_REAL, QUIT_AFTER)
        else:
            self.quit.set(number)

    def order(self) -> tuple[str, Any] | None:
        """The order from the run, None if the run is gone or has sent none."""
        text = b""
        while select.select([0], [], [], 0)[0] and not text.endswith(b"\n"):
            data = os.read(0, 65536)
            if not data:
                return None
            text += data
        if not text:
            return None
        how, detail = json.loads(text)
        return how, detail


class _Told:
    """Reports the holders that it waits for and its position, at the start and at each change."""

    def __init__(self) -> None:
        self._shown: object = None
        self._since = now()

    def __call__(self, waiting: Waiting) -> None:
        holders = tuple(holder.token for holder in waiting.state.holders)
        change = (holders, waiting.state.frozen is None, bool(waiting.away), waiting.position)
        if change != self._shown:
            self._shown = change
            away = f"; {waiting.away}" if waiting.away else ""
            _say(waiting=f"{in_queue(waiting.state, waiting.position)}{away}")


def _get(orders: dict[str, Any], run: _Run) -> Lock:
    from distlock_core.connection import connect

    realm = connect(**orders["connection"])
    # The record has this process's pid and start time: it lives as long as the run's last process.
    realm.load_all()
    spec = {**orders["spec"]}
    details = {**spec.pop("details", {}), "keeper": os.getpid()}
    inside = held_around(orders["around"])
    lock = realm.lock(**spec, inside=inside, details=details, background=False)
    return lock.acquire(orders["timeout"], run, _Told())


def _end_hold(lock: Lock, how: str, detail: Any) -> None:
    if how == KEEP:
        lock.keep(str(detail))
    elif how == COOL:
        lock.cool(int(detail))
    else:
        lock.release()


def _told(error: Exception) -> dict[str, Any]:
    """An error as a message for the run, which words its hints."""
    if not isinstance(error, DistlockError):
        return {"kind": "error", "message": str(error) or type(error).__name__}
    return {"kind": error.kind, "message": error.message, "hints": [hint.fields() for hint in error.hints]}


def _say(**words: object) -> None:
    try:
        os.write(1, json.dumps(words).encode() + b"\n")
    except OSError:
        pass  # the run is gone
