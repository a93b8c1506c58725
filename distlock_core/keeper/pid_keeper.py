"""The keeper: renews a lock's lease while another process lives, and releases the lock when that process ends.

`start()` is called by the process that has acquired the lock, `main()` runs in the keeper.
"""

from __future__ import annotations

import json
import os
import sys

from distlock_core.base.deadline import Patience
from distlock_core.base.text import printable
from distlock_core.errors import DistlockError, LockLost
from distlock_core.keeper.detach import FAMILY, READY, open_log, spawn, stand_alone
from distlock_core.process.fate import is_gone
from distlock_core.process.while_alive import WhileAlive, WhileChildrenAlive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from distlock_core.keeper.hooks import KeeperHooks
    from distlock_core.lock.lock import Lock
    from distlock_core.lock.realm import Realm

RELEASE, FREEZE = "release", "freeze"  # values of `on_failure`, beside `keep`
SUCCEEDED = "succeeded"  # the detail of a record whose lock is to be released
ENDED_EARLY = "the run has ended without saying that it has succeeded"


def start(lock: Lock, connection: Mapping[str, Any], plan: Mapping[str, Any]) -> int:
    """Start a keeper for a held lock, and return its pid. The lock then belongs to the keeper.

    `connection` are the arguments of `connect()`. The plan has `pid` and its `start` time, `ttl`, `refresh`, `on_loss`,
    `kill_after`, `log_file`, `family` (the read end of a pipe, as in `WhileAlive`), `children` (True to also wait for
    the process's descendants), `waited` (the record's fields about the wait for the lock), `on_failure`: with `keep`
    or `freeze` a process counts as failed unless the record says `succeeded`, and the hooks `on_lost` and `on_released`
    with their `hook_timeout`. Raises `DistlockError` if the
    keeper does not start: the lock then still belongs to the caller.
    """
    from distlock_core.keeper.handover import hand_over

    orders = {"connection": dict(connection), "lock": hand_over(lock), **plan}
    pid, ours_out, ours_in = spawn(__name__, f"distlock keeper of {lock.name}", orders, plan.get("family"))
    os.close(ours_out)
    try:
        answer = _answer(ours_in)
    except (OSError, ValueError):
        answer = {}
    finally:
        os.close(ours_in)
    if answer.get("keeper") != pid:
        raise DistlockError(f"the keeper did not start: {answer.get('error') or 'it gave no answer'}")
    return pid


def noted(plan: Mapping[str, Any], keeper: int) -> dict[str, Any]:
    """The keeper's fields of the record: its pid, and the wait for the lock if there was one."""
    waited = plan.get("waited")
    return {"keeper": keeper} if waited is None else {"keeper": keeper, "waited": waited}


def main(plan: dict[str, Any]) -> None:
    """The main function of the keeper's process."""
    stand_alone(leave_open=2 if plan.get("family") is None else FAMILY)
    log = open_log(plan["log_file"])
    try:
        realm, lock, until, hooks = _begin(plan, log)
        null = os.open(os.devnull, os.O_RDWR)
    except Exception as error:  # noqa: BLE001 - reported to the caller, who keeps the lock
        print(json.dumps({"error": str(error) or type(error).__name__}), flush=True)
        sys.exit(1)
    # From here on nothing may be loaded, opened or started for the first time: the lock depends on this process alone.
    print(json.dumps({"keeper": os.getpid()}), flush=True)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    lock.session.run(until)
    _end(plan, realm, lock, until, log, hooks)


def _begin(
    plan: dict[str, Any], log: Callable[[str, bool], None]
) -> tuple[Realm, Lock, WhileAlive, KeeperHooks | None]:
    from distlock_core.connection import connect
    from distlock_core.keeper.handover import take_over
    from distlock_core.lock.lock import hold_of

    if plan.get("children"):
        until: WhileAlive = WhileChildrenAlive(plan["pid"], plan["start"])
    else:
        until = WhileAlive(plan["pid"], plan["start"], None if plan.get("family") is None else FAMILY)
    if until.ended:
        raise DistlockError(f"process {plan['pid']} has ended")
    realm = connect(**plan["connection"])
    realm.load_all()
    # Needed at the end, when nothing may be loadable any more.
    from distlock_core.command import kill  # noqa: F401
    from distlock_core.lock import freeze, status  # noqa: F401
    from distlock_core.process import table  # noqa: F401

    lock = take_over(realm, plan["lock"], plan["refresh"])
    hold_of(lock).note(noted(plan, os.getpid()))
    if plan["on_loss"] == "kill":
        lock.session.kill_after = plan["kill_after"]
    hooks = None
    if plan.get("on_lost") or plan.get("on_released"):
        from distlock_core.keeper.hooks import KeeperHooks

        hooks = KeeperHooks(plan, lock, log)
    return realm, lock, until, hooks


def _end(
    plan: dict[str, Any],
    realm: Realm,
    lock: Lock,
    until: WhileAlive,
    log: Callable[[str, bool], None],
    hooks: KeeperHooks | None,
) -> None:
    name, pid, loss = printable(lock.name), plan["pid"], lock.session.loss
    running: list[Callable[[], None]] = []  # waits for the end of the hook
    if loss is not None:
        kill = plan["on_loss"] == "kill"
        if loss.orderly:
            log(f"{name}: {loss.why}; the keeper ends", False)
        else:
            what = "it is ended" if kill else "it RUNS ON WITHOUT ITS LOCK"
            log(f"{name}: the lock of process {pid} was lost: {loss.why}; {what}", True)
            why = loss.why

            def tell() -> None:
                if hooks is not None:
                    running.append(hooks.start("lost", DISTLOCK_LOSS=why))

            if kill:
                _end_process(pid, plan["start"], plan["kill_after"], lock.session.deadline, log, tell)
            else:
                tell()
        if lock.session.lease is not None:
            lock.session.lease.give_up()
        for finish in running:
            finish()
    elif not _has_ended(until):
        log(f"{name}: asked to quit while process {pid} is alive; the lock expires in {plan['ttl']}s", True)
    else:
        outcome = _release(plan, realm, lock, log)
        if hooks is not None and outcome:
            hooks.start("released", DISTLOCK_OUTCOME=outcome)()


def _release(plan: dict[str, Any], realm: Realm, lock: Lock, log: Callable[[str, bool], None]) -> str:
    """Release the lock as the plan says. Return how, for the hook, "" if it is not released."""
    name, pid, how = printable(lock.name), plan["pid"], plan.get("on_failure", RELEASE)
    try:
        if how == RELEASE or _has_succeeded(realm, lock):
            lock.release()
            log(f"{name}: process {pid} has ended; released", False)
            return "released"
        elif how == FREEZE:
            lock.freeze(ENDED_EARLY)
            log(f"{name}: {ENDED_EARLY}: process {pid}; frozen", True)
            return "frozen"
        else:
            lock.keep(ENDED_EARLY)
            log(f"{name}: {ENDED_EARLY}: process {pid}; left taken", True)
    except LockLost:
        log(f"{name}: process {pid} has ended; its lock had been lost before", False)
    except DistlockError as error:
        log(f"{name}: process {pid} has ended, and its lock runs out by itself: {error}", True)
    return ""


def _has_succeeded(realm: Realm, lock: Lock) -> bool:
    """True if the record says so. While etcd is away nobody knows, and the lock is not released."""
    try:
        states = realm.show_all(lock.names)
    except DistlockError:
        return False
    tokens = lock.tokens
    held = [one for state in states for one in state.holders if one.token == tokens[state.name]]
    return len(held) == len(tokens) and all(one.record.details.get(SUCCEEDED) is True for one in held)


def _has_ended(until: WhileAlive) -> bool:
    try:
        return until.ended
    except OSError:
        return False  # it cannot be examined


def _end_process(
    pid: int,
    start: int,
    kill_after: float,
    deadline: float,
    log: Callable[[str, bool], None],
    begun: Callable[[], None],
) -> None:
    """End the process with all that it has started. `begun` is called once SIGTERM is sent, or if it is gone."""
    from distlock_core.command.kill import end_tree

    if is_gone(pid, start):
        begun()
        return
    left = end_tree(pid, kill_after, deadline, begun)
    if left:
        log(f"cannot kill {', '.join(map(str, left))}", True)


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
