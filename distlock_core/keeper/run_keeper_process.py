"""The process of a run keeper: waits for the lock, monitors it, and ends its hold as the run has ordered.

Orders come as JSON lines on standard input, and messages to the run go to standard output.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys

from distlock_core.base.deadline import Interrupt, now
from distlock_core.base.text import printable
from distlock_core.errors import Cancelled, DistlockError, LockLost
from distlock_core.keeper import detach
from distlock_core.model.wording import in_queues
from distlock_core.process.nesting import held_around
from distlock_core.process.while_alive import QUIT_AFTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.keeper.run_gate import RunGate
    from distlock_core.lock.acquire import Waiting
    from distlock_core.lock.lock import Lock

RELEASE, KEEP, FREEZE, COOL = "release", "keep", "freeze", "cool"  # orders to end the hold
UNUSED = "unused"  # the order to release a lock under which nothing has been done, without its gate
AFTER_FAILURE = (KEEP, FREEZE)  # the settings of `on_failure` that stop others until a person has looked


def main(orders: dict[str, Any]) -> None:
    """The main function of the run keeper's process."""
    detach.stand_alone()
    log = detach.open_log(orders.get("log_file"))
    run = _Run()
    try:
        gate = None if orders["gate"] is None else _gate(orders["gate"])
        lock = _get(orders, run, gate)
    except Cancelled:
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - reported to the run; the attempt has left nothing behind
        _say(**_message_of(error))
        sys.exit(1)
    run.holds = True
    name, owner = printable(lock.name), printable(lock.owner)
    # The fencing token of several locks is that of the transaction that has acquired them.
    _say(hold=[lock.name, lock.owner, max(lock.tokens.values()), lock.since, lock.names])
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
        log(f"{name}: asked to quit while its run is alive; the lock expires with its lease", True)
        return
    how, detail = order or orders["at_end"]
    unsettled: DistlockError | None = None
    try:
        if gate is not None and how in (RELEASE, COOL):
            unsettled = gate.settle(lock, run.quit, lambda story: _say(settling=story))
        if gate is not None and unsettled is not None:
            how, detail = FREEZE if gate.freezes else KEEP, gate.why(lock)
        _end_hold(lock, how, detail)
    except Exception as error:  # noqa: BLE001 - any error is reported and logged
        _say(**_message_of(error))
        log(f"{name}: the run of {owner} is over, and its lock may not be released: {error}", True)
        return
    if unsettled is not None:
        log(f"{name}: the work of {owner} is over: {unsettled}", True)
        _say(**_message_of(unsettled))
        return
    _say(done=how)
    if order is None:
        log(f"{name}: the run of {owner} has ended; end of the lock: {how}", False)


class _Run:
    """A cancel that is set when the run has sent an order, when it is gone, or when this process is asked to quit."""

    def __init__(self) -> None:
        self.quit = Interrupt()
        self.holds = False  # with a lock held, SIGTERM does not end this process before the run has ended
        self._was_asked = False
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
        if self.holds and not self._was_asked:
            self._was_asked = True
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


class _WaitReport:
    """Reports the holders that it waits for and its position, at the start and at each change."""

    def __init__(self) -> None:
        self._shown: object = None
        self._since = now()

    def __call__(self, waiting: Waiting) -> None:
        places = waiting.places or ((waiting.state, waiting.position),)
        states = [(tuple(holder.token for holder in one.holders), one.freezes, at) for one, at in places]
        change = (states, bool(waiting.away), bool(waiting.gate))
        if change != self._shown:
            self._shown = change
            more = "".join(f"; {words}" for words in (waiting.gate, waiting.away) if words)
            _say(waiting=f"{in_queues(places, waiting.closed)}{more}")


def _get(orders: dict[str, Any], run: _Run, gate: RunGate | None) -> Lock:
    from distlock_core.connection import connect

    realm = connect(**orders["connection"])
    # The record has this process's pid and start time: it lives as long as the run's last process.
    realm.load_all()
    spec = {**orders["spec"]}
    details = {**spec.pop("details", {}), "keeper": os.getpid()}
    inside = held_around(orders["around"])
    question = None if gate is None else gate.question
    lock = realm.lock(**spec, inside=inside, details=details, background=False, gate=question)
    if gate is not None:
        lock.prepare()  # the thread that renews the lease while the lock settles
    return lock.acquire(orders["timeout"], run, _WaitReport())


def _gate(orders: dict[str, Any]) -> RunGate:
    from distlock_core.keeper.run_gate import RunGate

    return RunGate(**orders)


def _end_hold(lock: Lock, how: str, detail: Any) -> None:
    if how == KEEP:
        lock.keep(str(detail))
    elif how == FREEZE:
        lock.freeze(str(detail))
    elif how == COOL:
        from distlock_core.lock.lock import cooldown_of  # loaded since the lock was made

        seconds = cooldown_of(lock) or detail  # the policy's comes first
        if seconds is None:
            lock.release()
        else:
            lock.cool(int(seconds))
    else:
        lock.release()


def _message_of(error: Exception) -> dict[str, Any]:
    """An error as a message for the run, which words its hints."""
    if not isinstance(error, DistlockError):
        return {"kind": "error", "message": str(error) or type(error).__name__}
    return {"kind": error.kind, "message": error.message, "hints": [hint.fields() for hint in error.hints]}


def _say(**words: object) -> None:
    try:
        os.write(1, json.dumps(words).encode() + b"\n")
    except OSError:
        pass  # the run is gone
