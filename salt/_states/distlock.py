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

import atexit
import os
import sys

from salt.exceptions import CommandExecutionError

try:
    from distlock_core.adapters import acquire_release, salt_plans, salt_reports, salt_run_end
    from distlock_core.adapters import policy as lock_policy
    from distlock_core.adapters import salt_settings as minion_settings
    from distlock_core.adapters.freezing import ensure_frozen, ensure_thawed, read_duration
    from distlock_core.adapters.run_holds import hold_around
    from distlock_core.adapters.settings import explicit_owner, in_container, read_flag
    from distlock_core.connection import realm_of
    from distlock_core.errors import ConfigError, DistlockError
    from distlock_core.lock.wait_story import WAITED
    from distlock_core.model.policy_change import difference
    from distlock_core.model.wording import frozen_by, is_frozen_by, is_held_by
    from distlock_core.process.identity import trace_of

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from distlock_core.model.policy_change import PolicyChange
    from distlock_core.model.state import Holder
    from distlock_core.settings.options import Settings

    __salt__: dict[str, Any]
    __opts__: dict[str, Any]
    __context__: dict[str, Any]

__virtualname__ = "distlock"

UNLOCKED, RUN_END = "unlocked", "run_end"
LOST = 2  # the exit code of a command whose lock was lost


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
    until: str = UNLOCKED,
    ttl: int | None = None,
    on_loss: str | None = None,
    slots: int | None = None,
    window: list[str] | str | None = None,
    expect: str | float | None = None,
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
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that this minion holds the lock. A lock that it already holds is left unchanged.

    name
        Name of the lock.

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

    window
        Times outside of which the lock is not acquired, such as ``Mon-Fri 22:00-04:00 Europe/Berlin, !Sat``.

    expect
        Time that the hold is expected to take; after it, it is shown as OVERDUE.

    gate
        A line of shell that exits with 0 if the cluster is healthy. Before that, the lock is not acquired. It is asked
        every ``gate_every`` (5) seconds, must have been green for ``gate_for`` (0) seconds, and may take
        ``gate_timeout`` (600) seconds to answer.

    endpoints, prefix, profile, refresh, kill_after, connect_timeout, release_timeout
        As in the configuration of distlock; usually from minion config or pillar.
    """
    ret = _ret(name)
    try:
        salt_reports.refuse(more, "locked", ARGUMENTS)
        if until not in (UNLOCKED, RUN_END):
            raise ConfigError(f"until: expected {UNLOCKED} or {RUN_END}, found {ascii(until)[:60]}")
        bound = until == RUN_END
        if not bound and (ttl is not None or on_loss is not None):
            raise ConfigError(f"ttl and on_loss apply to a lock that ends with the run: they go with until: {RUN_END}")
        settings = _settings(
            profile,
            lockname=name,
            reason=reason,
            timeout=timeout,
            id=owner,
            ttl=ttl,
            on_loss=on_loss,
            slots=slots,
            window=window,
            expect=expect,
            endpoints=endpoints,
            prefix=prefix,
            refresh=refresh,
            kill_after=kill_after,
            connect_timeout=connect_timeout,
            release_timeout=release_timeout,
            gate=gate,
            gate_every=gate_every,
            gate_for=gate_for,
            gate_timeout=gate_timeout,
        )
        run = _run()
        if bound and run is None:
            raise ConfigError(
                f"until: {RUN_END} binds the lock to the process of this run, but with multiprocessing: false the run "
                f"is a thread of the minion, which lives on: use until: {UNLOCKED} and distlock.unlocked, or "
                "multiprocessing: true"
            )
        if _plans().of(settings) == "locked":
            return _done(ret, True, f"{name} would be held by {settings.id} at this point")
        if _plans().of(settings) == "unlocked":
            taken = acquire_release.Taken(None, True)
        else:
            taken = acquire_release.take(
                settings, run=run, taker=_taker(), bound=bound, children=True, dry_run=__opts__["test"]
            )
    except DistlockError as error:
        return _done(ret, False, salt_reports.said(error))
    if not taken.changed:
        assert taken.holder is not None
        return _done(ret, True, f"already: {is_held_by(taken.holder)}{_lifetime(taken.holder, until)}")
    ret["changes"] = {name: salt_reports.change(taken, explicit_owner(settings))}
    if taken.holder is None:
        _plans().add(settings, "locked")
        first = f"would wait: {salt_reports.said(taken.waits)} Then " if taken.waits else ""
        return _done(ret, None, f"{first}{name} would be locked by {settings.id}{_end(until)}")
    if bound and run == os.getpid() and in_container():
        atexit.register(salt_run_end.release, settings, run, taken.holder)
    how = "taken over from this owner's run that has ended" if taken.before else "locked"
    story = f", {taken.waited}" if taken.waited else ""
    return _done(ret, True, f"{name} is {how} by {settings.id}, token {taken.holder.token}{_end(until)}{story}")


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
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that this minion does not hold the lock. It is no change if nobody holds it. The state fails, and leaves the
    lock alone, if another owner holds it, or another run of this minion. The lock of a command around this run
    (``distlock -- salt-call``) is left to that command.

    name
        Name of the lock.

    owner
        Default: ``salt:`` and the minion's id.

    force : False
        Also break another owner's lock. Look with ``distlock.show`` first.

    cooldown
        Seconds that the lock stays taken afterwards, so that the node can settle before the next one begins.

    gate, gate_every, gate_for
        As for ``distlock.locked``: the lock is released once the cluster is healthy. Until then its state is
        ``settling``.

    gate_timeout : 600
        How long to wait for that, in seconds. After it the state fails, and the lock is kept for a person to look at.

    endpoints, prefix, profile, connect_timeout, release_timeout
        As for ``distlock.locked``.
    """
    ret = _ret(name)
    try:
        salt_reports.refuse(more, "unlocked", ARGUMENTS)
        settings = _settings(
            profile,
            lockname=name,
            id=owner,
            cooldown=cooldown,
            endpoints=endpoints,
            prefix=prefix,
            connect_timeout=connect_timeout,
            release_timeout=release_timeout,
            gate=gate,
            gate_every=gate_every,
            gate_for=gate_for,
            gate_timeout=gate_timeout,
        )
        forced = read_flag(force, "force")
        planned, run = _plans().of(settings), _run()
        if planned == "locked":
            old: str | None = settings.id
        elif planned:
            old = None
        else:
            realm = realm_of(settings)
            around = None if forced else hold_around(settings.lockname, realm)
            if around is not None:
                return _done(ret, True, f"{is_held_by(around)}, by the command around this run, which releases it")
            taker, dry_run = _taker(), __opts__["test"]
            ended = acquire_release.release(settings, run=run, taker=taker, force=forced, dry_run=dry_run, realm=realm)
            old = salt_reports.shown(ended)
    except DistlockError as error:
        return _done(ret, False, salt_reports.said(error))
    if old is None:
        return _done(ret, True, f"{name} is not locked")
    late = salt_reports.listeners(globals().get("__lowstate__") or (), (globals().get("__low__") or {}).get("__id__"))
    if late:
        what = f"`listen` acts after all other states, and so without the lock {name}: {', '.join(late)}."
        ret["warnings"] = [f"{what} Use `watch`, or a lock with until: {RUN_END}"]
    ret["changes"] = {name: {"old": old, "new": None if settings.cooldown is None else f"{old} (cooling)"}}
    if __opts__["test"]:
        _plans().add(settings, "unlocked")
        return _done(ret, None, f"{name}, held by {old}, would be unlocked{_cooling(settings)}")
    return _done(ret, True, f"{name}, which was held by {old}, is unlocked{_cooling(settings)}")


def held(
    name: str,
    owner: str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Fail unless this minion holds the lock now. Use it right before a dangerous step. It changes nothing. The lock of
    another run of the same minion does not count.

    name
        Name of the lock.

    owner
        Default: ``salt:`` and the minion's id.

    endpoints, prefix, profile, connect_timeout
        As for ``distlock.locked``.
    """
    ret = _ret(name)
    try:
        salt_reports.refuse(more, "held", ARGUMENTS)
        settings = _settings(
            profile, lockname=name, id=owner, endpoints=endpoints, prefix=prefix, connect_timeout=connect_timeout
        )
        planned = _plans().of(settings)
        if planned == "locked":
            return _done(ret, True, f"{name} would be held by {settings.id} at this point")
        if planned == "unlocked":
            return _done(ret, False, f"{name} would be held by nobody at this point, not by {settings.id}")
        return _done(ret, True, is_held_by(acquire_release.check(settings, taker=_taker())))
    except DistlockError as error:
        return _done(ret, False, salt_reports.said(error))


def frozen(
    name: str,
    reason: str | None = None,
    duration: int | str | None = None,
    owner: str | None = None,
    force: bool = False,
    realm: bool = False,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that the lock is frozen: nobody acquires it until it is thawed. Holders go on, and waiters keep their places.
    A present freeze is left as it is, whoever has put it, unless ``force`` is set.

    name
        Name of the lock.

    realm : False
        Freeze the whole realm, that is every lock of it; ``name`` is then any text.

    force : False
        Replace a freeze of another owner or with another reason, and one without a time limit by one with ``duration``,
        or the reverse.

    reason, duration, owner
        As for the function ``distlock.freeze``.

    endpoints, prefix, profile, connect_timeout
        As for ``distlock.locked``.
    """
    ret = _ret(name)
    try:
        salt_reports.refuse(more, "frozen", ARGUMENTS)
        settings = _settings(
            profile, lockname=name, id=owner, endpoints=endpoints, prefix=prefix, connect_timeout=connect_timeout
        )
        lock = None if read_flag(realm, "realm") else settings.lockname
        text = minion_settings.text_of(reason, "reason")
        forced, dry_run = read_flag(force, "force"), __opts__["test"]
        done = ensure_frozen(settings, lock, text, read_duration(duration), force=forced, dry_run=dry_run)
    except DistlockError as error:
        return _done(ret, False, salt_reports.said(error))
    if not done.changed:
        assert done.freeze is not None
        return _done(ret, True, f"already: {is_frozen_by(done.freeze)}")
    ret["changes"] = {name: {"old": done.before and done.before.by, "new": settings.id}}
    if done.freeze is None:
        return _done(ret, None, f"{lock or 'the realm'} would be frozen by {settings.id}")
    return _done(ret, True, is_frozen_by(done.freeze))


def thawed(
    name: str,
    realm: bool = False,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that the lock is not frozen, and end the present freeze, whoever has put it. A thawed lock in a frozen realm
    stays frozen.

    name
        Name of the lock.

    realm : False
        Thaw the whole realm; ``name`` is then any text.

    endpoints, prefix, profile, connect_timeout
        As for ``distlock.locked``.
    """
    ret = _ret(name)
    try:
        salt_reports.refuse(more, "thawed", ARGUMENTS)
        settings = _settings(
            profile, lockname=name, endpoints=endpoints, prefix=prefix, connect_timeout=connect_timeout
        )
        lock = None if read_flag(realm, "realm") else settings.lockname
        ended = ensure_thawed(settings, lock, dry_run=__opts__["test"])
    except DistlockError as error:
        return _done(ret, False, salt_reports.said(error))
    what = lock or "the realm"
    if ended is None:
        return _done(ret, True, f"{what} is not frozen")
    ret["changes"] = {name: {"old": ended.by, "new": None}}
    if __opts__["test"]:
        return _done(ret, None, f"{what}, frozen by {frozen_by(ended)}, would be thawed")
    return _done(ret, True, f"{what}, which was frozen by {frozen_by(ended)}, is thawed")


def run(
    name: str,
    cmd: str | list[str] | None = None,
    reason: str | None = None,
    timeout: float | None = None,
    owner: str | None = None,
    slots: int | None = None,
    window: list[str] | str | None = None,
    expect: str | float | None = None,
    ttl: int | None = None,
    on_loss: str | None = None,
    on_failure: str | None = None,
    cooldown: int | None = None,
    runas: str | None = None,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
    stdin: str | None = None,
    python_shell: bool = False,
    success_retcodes: list[int] | int | None = None,
    output_loglevel: str = "debug",
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    release_timeout: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Run a command under the lock, as ``cmd.run`` does without one. The lock is acquired right before the command and
    released right after it. The command never runs without the lock. ``unless``, ``onlyif`` and ``creates`` are checked
    first: a minion with nothing to do never acquires the lock.

    name
        Name of the lock.

    cmd
        The command, a list of words or a string that is split into words. No shell interprets it without
        ``python_shell``.

    success_retcodes : 0
        Exit codes that count as success.

    reason, timeout, owner, slots, window, expect, ttl, on_loss, on_failure, cooldown, runas, cwd, env, stdin
        As for the function ``distlock.run``; so is ``output_loglevel``.

    endpoints, prefix, profile, connect_timeout, release_timeout
        As for ``distlock.locked``.

    .. code-block:: yaml

        upgrade:
          distlock.run:
            - name: percona_prod
            - cmd: yum --assumeyes upgrade percona-server-server
            - timeout: -1
            - unless: /usr/local/sbin/is-upgraded
    """
    ret = _ret(name)
    try:
        salt_reports.refuse(more, "run", ARGUMENTS)
        if not cmd:
            raise ConfigError("cmd: nothing to run")
        good = salt_reports.exit_codes(success_retcodes)
        if __opts__["test"]:
            settings = _settings(profile, lockname=name, id=owner, timeout=timeout, endpoints=endpoints, prefix=prefix)
            ret["changes"] = {name: {"old": None, "new": settings.id}}
            return _done(ret, None, f"the command would be run under {name}")
        words = {
            "reason": reason,
            "timeout": timeout,
            "owner": owner,
            "slots": slots,
            "window": window,
            "expect": expect,
            "ttl": ttl,
            "on_loss": on_loss,
            "on_failure": on_failure,
            "cooldown": cooldown,
            "runas": runas,
            "cwd": cwd,
            "env": env,
            "stdin": stdin,
            "python_shell": python_shell,
            "output_loglevel": output_loglevel,
            "endpoints": endpoints,
            "prefix": prefix,
            "profile": profile,
            "connect_timeout": connect_timeout,
            "release_timeout": release_timeout,
        }
        given = {word: value for word, value in words.items() if value is not None}
        done = __salt__["distlock.run"](name, cmd, **given)
    except DistlockError as error:
        return _done(ret, False, salt_reports.said(error))
    except CommandExecutionError as error:
        return _done(ret, False, str(error))
    fields = ("pid", "retcode", "stdout", "stderr", *WAITED)
    ret["changes"] = {field: done[field] for field in fields if field in done}
    story = f", {done['story']}" if done.get("story") else ""
    if done["retcode"] in good:
        return _done(ret, True, f"the command was run under {name}{story}")
    why = done["stderr"].splitlines()[-1:] if done["retcode"] == LOST else []
    said = f": {why[0]}" if why else ""
    return _done(ret, False, f"the command, run under {name}{story}, ended with {done['retcode']}{said}")


def policy(
    name: str,
    slots: int | None = None,
    cooldown: str | float | None = None,
    window: list[str] | str | None = None,
    expect: str | float | None = None,
    reason: str | None = None,
    owner: str | None = None,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that the policy of a lock is exactly this: it holds for everybody who acquires the lock, whatever a minion, a
    play or a catalog says. A change applies at once, with more slots or fewer; whoever holds the lock goes on.

    name
        Name of the lock.

    slots
        Number of simultaneous holders allowed.

    cooldown
        Time that the lock stays taken after a success.

    window
        Times outside of which nobody acquires it, such as ``Mon-Fri 22:00-04:00 Europe/Berlin, !Sat``.

    expect
        Time that a hold is expected to take; after it, it is shown as OVERDUE.

    reason, owner
        Shown to everybody who looks.

    endpoints, prefix, profile, connect_timeout
        As for ``distlock.locked``.

    .. code-block:: yaml

        percona_prod:
          distlock.policy:
            - slots: 3
            - cooldown: 2m
            - window: Mon-Fri 22:00-04:00 Europe/Berlin
    """
    ret = _ret(name)
    try:
        salt_reports.refuse(more, "policy", ARGUMENTS)
        settings = _settings(
            profile, lockname=name, id=owner, endpoints=endpoints, prefix=prefix, connect_timeout=connect_timeout
        )
        fields = {"slots": slots, "cooldown": cooldown, "window": window, "expect": expect}
        change = lock_policy.set_exactly(settings, fields, reason, dry_run=__opts__["test"])
    except DistlockError as error:
        return _done(ret, False, salt_reports.said(error))
    return _changed_policy(ret, change)


def policy_absent(
    name: str,
    endpoints: list[str] | str | None = None,
    prefix: str | None = None,
    profile: str | None = None,
    connect_timeout: float | None = None,
    **more: Any,
) -> dict[str, Any]:
    """
    Ensure that a lock has no policy: what each minion, play or catalog says applies.

    name
        Name of the lock.

    endpoints, prefix, profile, connect_timeout
        As for ``distlock.locked``.
    """
    ret = _ret(name)
    try:
        salt_reports.refuse(more, "policy_absent", ARGUMENTS)
        settings = _settings(
            profile, lockname=name, endpoints=endpoints, prefix=prefix, connect_timeout=connect_timeout
        )
        change = lock_policy.remove(settings, dry_run=__opts__["test"])
    except DistlockError as error:
        return _done(ret, False, salt_reports.said(error))
    return _changed_policy(ret, change)


def mod_watch(name: str, sfun: str | None = None, **words: Any) -> dict[str, Any]:
    """
    Implements ``listen`` on a state of this module, at the end of the run: all but ``locked`` act as usual, and
    ``locked`` fails, because the states that it should guard have already run. ``watch`` is the same as ``require``.
    """
    for word in ("__reqs__", "sfun"):
        words.pop(word, None)
    again: dict[str | None, Callable[..., dict[str, Any]]] = {
        "unlocked": unlocked,
        "held": held,
        "run": run,
        "frozen": frozen,
        "thawed": thawed,
        "policy": policy,
        "policy_absent": policy_absent,
    }
    if sfun in again:
        return again[sfun](name, **words)
    return _done(
        _ret(name),
        False,
        f"distlock.{sfun} with `listen` would lock {name} at the end of the run, after the states that need the lock: "
        "let those `require` it",
    )


def _settings(profile: str | None, **arguments: Any) -> Settings:
    return minion_settings.read(__salt__, __opts__, arguments, profile)


def _run() -> int | None:
    """The process that lives exactly as long as this state run; None if the run is a thread of the minion."""
    if __opts__.get("__cli") != "salt-call" and not __opts__.get("multiprocessing", True):
        return None
    # A `parallel: true` state is a child of the run.
    low = globals().get("__low__") or {}
    return os.getppid() if low.get("parallel") else os.getpid()


def _taker() -> dict[str, Any]:
    """Trace of the process for which a lock is taken: this state run, or the minion if the run is a thread of it."""
    return trace_of(_run() or os.getpid())


def _plans() -> salt_plans.Plans:
    return salt_plans.Plans(__context__, globals().get("__instance_id__"), test=__opts__["test"])


# Reports.


def _ret(name: str) -> dict[str, Any]:
    ret: dict[str, Any] = {"name": name, "changes": {}, "result": False, "comment": ""}
    if "watch" in (globals().get("__low__") or {}):
        ret["skip_watch"] = True  # or Salt would call mod_watch after a state without changes, and after a failure
    return ret


def _done(ret: dict[str, Any], result: bool | None, comment: str) -> dict[str, Any]:
    ret["result"], ret["comment"] = result, comment
    return ret


def _end(until: str) -> str:
    return ", until this run ends" if until == RUN_END else ""


def _lifetime(holder: Holder, until: str) -> str:
    stays = until == RUN_END and holder.lifetime == "persistent"
    return "; it stays until it is unlocked, also after this run" if stays else ""


def _changed_policy(ret: dict[str, Any], change: PolicyChange) -> dict[str, Any]:
    """The result of a state about a policy."""
    dry_run = __opts__["test"] and change.changed
    if change.changed:
        old, new = lock_policy.report(change.before), lock_policy.report(change.after)
        ret["changes"] = {ret["name"]: {"old": old, "new": new}}
    return _done(ret, None if dry_run else True, f"{ret['name']}: {difference(change, dry_run=dry_run)}")


def _cooling(settings: Settings) -> str:
    return "" if settings.cooldown is None else f" in {settings.cooldown}s"


# The arguments of each state: an error names the state that a misplaced argument belongs to.
ARGUMENTS = {
    function.__name__: frozenset(function.__code__.co_varnames[: function.__code__.co_argcount])
    for function in (locked, unlocked, held, frozen, thawed, run, policy, policy_absent)
}
