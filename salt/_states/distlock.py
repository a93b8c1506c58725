"""
Hold a lock in etcd v3 while states run, so that only one node of a cluster is changed at a time.

.. code-block:: yaml

    one at a time:
      distlock.locked:
        - name: percona_prod
        - reason: Upgrade RPMs
        - timeout: -1

    percona-server-server:
      pkg.latest:
        - require:
          - distlock: one at a time

    next one, please:
      distlock.unlocked:
        - name: percona_prod
        - require:
          - pkg: percona-server-server

If the upgrade fails, the lock stays, and no other node follows: look, repair, and run the states again. The same
minion continues with its own lock, even after a reboot. ``until: run_end`` releases the lock at the end of the run
instead, however the run ends.

To acquire the lock only if there is something to do, make it a ``prereq`` of that state, and unlock ``onchanges``:

.. code-block:: yaml

    one at a time:
      distlock.locked:
        - name: percona_prod
        - timeout: -1
        - prereq:
          - pkg: percona-server-server

    percona-server-server:
      pkg.latest: []

    next one, please:
      distlock.unlocked:
        - name: percona_prod
        - require:
          - pkg: percona-server-server
        - onchanges:
          - distlock: one at a time

Settings are described in the execution module ``distlock``.

:depends: Python package distlock-core, in the minion's own Python
"""

from __future__ import annotations

import sys

try:
    from distlock_core.adapters import salt_lock_states
    from distlock_core.adapters.salt_state import StateCall
    from distlock_core.cli.salt.bus import Bus

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    __states__: dict[str, Any]

__virtualname__ = "distlock"

WATCHING = ("unlocked", "held", "run", "frozen", "thawed", "policy", "policy_absent")  # states that can `listen`


def __virtual__() -> str | tuple[bool, str]:
    if MISSING:
        return False, (
            f"distlock: the Python package distlock-core is missing in {sys.executable} ({MISSING}). "
            "To install it: salt-pip install distlock_core-VERSION-py3-none-any.whl, the wheel that `make wheel` builds"
        )
    return __virtualname__


def locked(
    name: str,
    reason: str | None = None,
    timeout: float | None = None,
    owner: str | None = None,
    until: str = "unlocked",
    ttl: int | None = None,
    on_loss: str | None = None,
    slots: int | None = None,
    shared: bool | str | None = None,
    window: list[str] | str | None = None,
    expect: str | float | None = None,
    rank: int | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    refresh: float | None = None,
    kill_after: float | None = None,
    connect_timeout: float | None = None,
    release_timeout: float | None = None,
    gate: str | None = None,
    gate_every: float | None = None,
    gate_for: float | None = None,
    gate_timeout: float | None = None,
    lock_names: list[str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that this minion holds the lock. A lock that it already holds is left unchanged.

    name
        Name of the lock.

    lock_names
        Several locks instead, which are acquired together or not at all; ``name`` is then left out. Their
        order makes no difference: minions that name them in opposite orders never wait for each other.

    reason
        Why the lock is taken; shown to everybody who looks or waits.

    timeout : 0
        Longest wait, in seconds; 0 fails at once if another holds the lock, -1 waits forever.

    owner
        Default: ``salt:`` and the minion's id.

    until : unlocked
        ``unlocked``: until ``distlock.unlocked`` or a person releases it, even across reboots. ``run_end``: until this
        state run, and everything that it has started, has ended, however it ended.

    ttl : 60
        With ``run_end``: how many seconds the lock outlives the machine.

    on_loss : continue
        With ``run_end``, what to do if the lock is lost in mid-run: ``continue`` writes a warning to the minion's log,
        ``kill`` also ends the run.

    slots : 1
        Number of simultaneous holders allowed; the same number everywhere.

    shared : False
        Hold the lock together with any number of other shared holders, but with no exclusive one.

    window
        Times outside of which the lock is not acquired, such as ``Mon-Fri 22:00-04:00 Europe/Berlin, !Sat``.

    expect
        Time that the hold is expected to take; after it, it is shown as OVERDUE.

    rank : 50
        Waiters with a lower rank, from 0 to 99, are served first; within a rank in the order of arrival.

    gate
        A line of shell that exits with 0 if the cluster is healthy. Until then the lock is not acquired. It runs every
        ``gate_every`` (5) seconds, must have succeeded for ``gate_for`` (0) seconds, and each run may take
        ``gate_timeout`` (600) seconds.

    endpoints, prefix, profile, refresh, kill_after, connect_timeout, release_timeout
        As in the configuration of distlock; usually from minion config or pillar.
    """
    return StateCall("locked", globals(), locals(), Bus).result(salt_lock_states.locked)


def unlocked(
    name: str,
    owner: str | None = None,
    force: bool = False,
    cooldown: int | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    release_timeout: float | None = None,
    gate: str | None = None,
    gate_every: float | None = None,
    gate_for: float | None = None,
    gate_timeout: float | None = None,
    lock_names: list[str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that this minion does not hold the lock. It is no change if nobody holds it. The state fails, and leaves the
    lock alone, if another owner holds it, or another run of this minion. The lock of a command around this run
    (``distlock -- salt-call``) is left to that command.

    name
        Name of the lock.

    lock_names
        Several locks instead, as for ``distlock.locked``: they are released in one transaction, or none of them if one
        may not be.

    owner
        Default: ``salt:`` and the minion's id.

    force : False
        Release the lock even if another owner holds it. Look with ``distlock.show`` first.

    cooldown
        Seconds that the lock stays taken afterwards, so that the node can settle before the next one begins.

    gate, gate_every, gate_for
        As for ``distlock.locked``: the lock is released once the cluster is healthy. Until then its state is
        ``settling``.

    gate_timeout : 600
        How long to wait for that, in seconds. After it the state fails, and the lock is kept until an operator unlocks
        it.

    endpoints, prefix, profile, connect_timeout, release_timeout
        As for ``distlock.locked``.
    """
    return StateCall("unlocked", globals(), locals(), Bus).result(salt_lock_states.unlocked)


def held(
    name: str,
    owner: str | None = None,
    shared: bool | str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    lock_names: list[str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Fail unless this minion holds the lock now. Use it right before a dangerous step. It changes nothing. The lock of
    another run of the same minion does not count.

    name
        Name of the lock.

    lock_names
        Several locks instead, all of which it must hold.

    owner
        Default: ``salt:`` and the minion's id.

    shared : False
        A shared hold is enough.

    endpoints, prefix, profile, connect_timeout
        As for ``distlock.locked``.
    """
    return StateCall("held", globals(), locals(), Bus).result(salt_lock_states.held)


def mod_watch(name: str, sfun: str | None = None, **words: Any) -> dict[str, Any]:
    """
    Implements ``listen`` on a state of this module, at the end of the run: all but ``locked`` act as usual, and
    ``locked`` fails, because the states that it should guard have already run. ``watch`` is the same as ``require``.
    """
    for word in ("__reqs__", "sfun"):
        words.pop(word, None)
    if sfun in WATCHING:
        done: dict[str, Any] = __states__[f"distlock.{sfun}"](name, **words)
        return done
    comment = (
        f"distlock.{sfun} with `listen` would lock {name} at the end of the run, after the states that need the lock: "
        "let those `require` it"
    )
    return StateCall("mod_watch", globals(), locals(), Bus).done(False, comment)
