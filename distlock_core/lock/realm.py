"""Realm: all locks under one prefix of one etcd: create, list, show, unlock."""

from __future__ import annotations

from distlock_core.base.deadline import Patience
from distlock_core.errors import ConfigError
from distlock_core.lock.lease import TICKET_TTL
from distlock_core.lock.lock import Lock
from distlock_core.lock.spec import CONNECT_TIMEOUT, RELEASE_TIMEOUT, LockSpec
from distlock_core.model.checks import check_name, check_names, check_owner, check_prefix, check_rank, check_text
from distlock_core.model.keys import DEFAULT_MUTEX, DEFAULT_PREFIX, DEFAULT_RANK, Keys
from distlock_core.model.state import Holder, LockState
from distlock_core.model.ttl import check_beat
from distlock_core.process.identity import hostname

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins  # the method `list` hides the type inside the class
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Any

    from distlock_core.base.deadline import Cancel
    from distlock_core.doctor.finding import Examination
    from distlock_core.etcd.client import Etcd
    from distlock_core.events.watch import Watching
    from distlock_core.history.history import History
    from distlock_core.lock.explain import Explanation
    from distlock_core.lock.freeze import FreezeKey
    from distlock_core.lock.loss_reasons import Loss
    from distlock_core.lock.prune import Pruned
    from distlock_core.lock.realm_parts import RealmParts
    from distlock_core.lock.spec import Gate
    from distlock_core.lock.wait_until import Obstacle, Reached
    from distlock_core.model.freeze import Freeze
    from distlock_core.model.metrics import Metrics
    from distlock_core.model.policy import Policy
    from distlock_core.model.policy_change import PolicyChange
    from distlock_core.model.windows import Windows


class Realm:
    """All locks under one prefix, which no lock name can escape. Made by `connect()`."""

    def __init__(
        self,
        etcd: Etcd,
        prefix: str = DEFAULT_PREFIX,
        *,
        mutex: str = DEFAULT_MUTEX,
        connect_timeout: float = CONNECT_TIMEOUT,
        release_timeout: float = RELEASE_TIMEOUT,
        state_dir: str | None = None,
    ) -> None:
        self.prefix = check_prefix(prefix, raw=True)  # `connect()` checks the spelling
        self._etcd = etcd
        self._mutex = mutex
        self._connect_timeout = connect_timeout
        self._release_timeout = release_timeout
        self._state_dir = state_dir

    def lock(
        self,
        name: str | Sequence[str],
        owner: str | None = None,
        reason: str = "",
        *,
        value: str | None = None,
        timeout: float | None = None,
        slots: int | None = None,
        shared: bool = False,
        window: str | None = None,
        expect: int | None = None,
        ttl: int | None = None,
        refresh: float | None = None,
        on_lost: Callable[[Loss], None] | None = None,
        background: bool = True,
        step: bool = False,
        inside: Mapping[bytes, int] | None = None,
        details: Mapping[str, Any] | None = None,
        taker: Mapping[str, Any] | None = None,
        token: int | None = None,
        ticket_ttl: int = TICKET_TTL,
        cooldown: int | None = None,
        gate: Gate | None = None,
        rank: int = DEFAULT_RANK,
        beat: int | None = None,
    ) -> Lock:
        """Return a lock, not yet acquired. Raises `ConfigError`.

        Several names, in a list, are several locks that are acquired together or not at all, at most 14. While it is
        held it publishes its `value` (an address, a state), for `get()` and `watch()`. `owner` is shown to others
        (default: the host name); if it is given, the same owner can re-enter a lock that it holds as a `step`, or that
        its dead run has left. `slots` is the number of simultaneous holders allowed (default: 1). With `shared`
        it is held together with any number of other shared holders, but with no exclusive one. `window` has the
        times outside of which the lock is not acquired, `expect` the seconds that the hold is expected to take. With a
        `cooldown` (seconds) a `with` block that ends without an exception leaves the lock taken for that time. The
        lock's policy, if it has one, comes before these four. `timeout` (seconds) is that of `with`. With a `ttl`
        (seconds) the lock is leased: while it is held, a thread renews it every `refresh` seconds (default: a third of
        the ttl), unless `background` is False, and calls `on_lost` once if it is lost. `inside` has the keys and tokens
        held by the commands around this one, `details` additional fields of the record. `taker` is the trace
        (`trace_of()`) of the process that a step is taken for (default: this process); that process and its descendants
        can re-enter the step, others only with its `token`, or once that process is provably gone. A `gate` is asked by
        the first in the queue before it claims the lock, and by `release()`, which raises `NotSettled` and keeps the
        lock if it is not green in time. Waiters with a lower `rank` (0 to 99) are served first, those with the same one
        in the order of arrival. With a `beat` (seconds) a thread gives a sign of life at that interval while a lock
        without a ttl is held, from which others see whether this process is alive (`Holder.alive`); it lets nobody in.
        """
        if beat is not None and (step or ttl is not None):
            what = "a step, which no process looks after" if step else "a ttl, whose lease says the same"
            raise ConfigError(f"beat: a lock gives signs of life only without {what}", about=("beat",))
        if shared and slots is not None:
            raise ConfigError("slots and shared contradict each other: the number of shared holders has no limit")
        spec = LockSpec(
            self._locks(name),
            hostname() if owner is None else check_owner(owner),
            owner is not None,
            check_text(reason, "reason"),
            "lock" if step else "run",
            1 if slots is None else slots,
            inside or {},
            ttl,
            refresh,
            details or {},
            None if value is None else check_text(value, "value"),
            ticket_ttl=ticket_ttl,
            taker=taker,
            named=token,
            state_dir=self._state_dir,
            windows=None if window is None else _windows(window),
            expect=expect,
            cooldown=cooldown,
            given={"slots": slots, "window": window, "expect": expect, "cooldown": cooldown},
            gate=gate,
            rank=check_rank(rank),
            shared=shared,
            beat=None if beat is None else check_beat(beat),
        )
        return Lock(
            self._etcd,
            spec,
            timeout=timeout,
            connect_timeout=self._connect_timeout,
            release_timeout=self._release_timeout,
            on_lost=on_lost,
            background=background,
        )

    def list(self, *, brief: bool = False, cancel: Cancel | None = None) -> builtins.list[LockState]:
        """Return every lock that is held or waited for, by name. Raises `EtcdUnavailable`, `AccessDenied`.

        `brief` takes half the time, and less with leased locks, each of which costs a request otherwise: `last` and
        `ttl_left` are then None.
        """
        from distlock_core.lock.listing import list_states

        return list_states(self._etcd, self.prefix, self._mutex, lambda: self._patience(cancel), brief=brief)

    def show(self, name: str, *, cancel: Cancel | None = None) -> LockState:
        """Return one lock: its holders, its queue in order, and how its last hold ended."""
        return self.show_all([name], cancel=cancel)[0]

    def show_all(self, names: Sequence[str], *, cancel: Cancel | None = None) -> builtins.list[LockState]:
        """Return the same for several locks, in the order of `names`, from one read."""
        from distlock_core.lock.listing import read_states

        return read_states(self._etcd, self._locks(names), lambda: self._patience(cancel))

    def get(self, name: str, *, cancel: Cancel | None = None) -> str | None:
        """Return the value of a lock, None if its holder gave it none.

        With several slots it is the value of the lowest; `show()` returns all. Raises `LockNotFound` if the lock is not
        held, `EtcdUnavailable`, `AccessDenied`.
        """
        from distlock_core.lock.listing import read_value

        return read_value(self._etcd, self._keys(name), self._patience(cancel))

    def update(
        self,
        name: str,
        value: str | None = None,
        *,
        reason: str | None = None,
        owner: str | None = None,
        token: int | None = None,
        cancel: Cancel | None = None,
    ) -> Holder:
        """Change the value of a hold, or its reason, without releasing it; return the changed hold.

        The hold is that of `owner` (default: this host), or of any owner if its `token` is given. None leaves value and
        reason unchanged, "" empties them. Raises `LockNotFound`, `NotHolder`, `ConfigError`, `EtcdUnavailable`,
        `AccessDenied`, and `OutcomeUnknown` if it is unknown whether the hold was changed.
        """
        from distlock_core.lock.update import update_by_name

        keys, timeout = self._keys(name), self._connect_timeout
        return update_by_name(self._etcd, keys, owner, token, value, reason, timeout, cancel)

    def unlock(
        self,
        name: str,
        owner: str | None = None,
        *,
        token: int | None = None,
        force: bool = False,
        cooldown: int | None = None,
        taker: Mapping[str, Any] | None = None,
        cancel: Cancel | None = None,
    ) -> Holder:
        """Delete the current hold of a lock, whoever holds it, and return that hold.

        If `owner` is given, another owner's hold is refused unless `force` is set; if `token` is given, any hold with
        another token is refused. Only the hold just read is deleted, never a newer one. With a `cooldown` the lock
        stays taken for that many seconds, for an owner's own hold as its policy has it. Raises `LockNotFound`,
        `NotHolder`, `EtcdUnavailable`, `AccessDenied`.
        """
        (holder,) = self.unlock_all(
            [name], owner, token=token, force=force, cooldown=cooldown, taker=taker, cancel=cancel
        )
        return holder

    def unlock_all(
        self,
        names: Sequence[str],
        owner: str | None = None,
        *,
        token: int | None = None,
        force: bool = False,
        cooldown: int | None = None,
        taker: Mapping[str, Any] | None = None,
        cancel: Cancel | None = None,
    ) -> builtins.list[Holder]:
        """Delete the current holds of several locks in one transaction, and return them. Arguments as for `unlock()`.

        If one of them is not locked, or may not be unlocked, this raises the error of `unlock()` and deletes none.
        """
        from distlock_core.lock.unlock import holds_to_unlock

        if owner is not None:
            check_owner(owner)
        states = self.show_all(names, cancel=cancel)
        holders = holds_to_unlock(states, owner, token, taker, self._state_dir, force=force)
        return self.end_all(holders, owner, cooldown=cooldown, cancel=cancel)

    def end(
        self, holder: Holder, owner: str | None = None, *, cooldown: int | None = None, cancel: Cancel | None = None
    ) -> Holder:
        """Delete this hold, which the caller has already checked, and return it. Raises as `unlock()`."""
        return self.end_all([holder], owner, cooldown=cooldown, cancel=cancel)[0]

    def end_all(
        self,
        holders: Sequence[Holder],
        owner: str | None = None,
        *,
        cooldown: int | None = None,
        cancel: Cancel | None = None,
    ) -> builtins.list[Holder]:
        """Delete these holds in one transaction, as `end()`. If one has ended meanwhile, the others are deleted."""
        from distlock_core.lock.status import gone
        from distlock_core.lock.unlock import end_holds

        by = hostname() if owner is None else check_owner(owner)
        patience = Patience.lasting(self._release_timeout, cancel)
        holds = [(self._keys(holder.lock), holder) for holder in holders]
        done = end_holds(self._etcd, holds, by, cooldown, patience, self._state_dir)
        for holder, is_ended in zip(holders, done):
            if not is_ended:
                raise gone(self.show(holder.lock))
        return [*holders]

    def break_hold(
        self, holder: Holder, reason: str, owner: str | None = None, *, cancel: Cancel | None = None
    ) -> Holder:
        """End another owner's hold exactly as `show()` or `to_unlock()` has returned it, and return it.

        `reason` and `owner` (default: the host name) are left in the lock's `last`. If the record has changed since, if
        only its reason or its state, the hold is left alone: look again. Its process is not ended, and learns of it as
        of any loss. Raises `LockNotFound`, `NotHolder`, `ConfigError`, `EtcdUnavailable`, `AccessDenied`.
        """
        from distlock_core.lock.break_hold import break_hold, changed

        by = hostname() if owner is None else check_owner(owner)
        keys, patience = self._keys(holder.lock), Patience.lasting(self._release_timeout, cancel)
        if not break_hold(self._etcd, keys, holder, by, reason, patience, self._state_dir):
            raise changed(self.show(holder.lock), holder)
        return holder

    def to_unlock(
        self,
        name: str,
        owner: str | None = None,
        *,
        token: int | None = None,
        force: bool = False,
        taker: Mapping[str, Any] | None = None,
        cancel: Cancel | None = None,
    ) -> Holder:
        """Return the hold that `unlock()` would end now, for a dry run. Writes nothing. Raises as `unlock()`."""
        from distlock_core.lock.unlock import hold_to_unlock

        return hold_to_unlock(self.show(name, cancel=cancel), owner, token, taker, self._state_dir, force=force)

    def verify(self, name: str, token: int, *, cancel: Cancel | None = None) -> bool:
        """True if the acquisition with this token holds the lock, by a linearizable read."""
        return any(holder.token == token for holder in self.show(name, cancel=cancel).holders)

    def freeze(
        self,
        name: str | None = None,
        *,
        reason: str = "",
        seconds: int | None = None,
        owner: str | None = None,
        force: bool = False,
        cancel: Cancel | None = None,
    ) -> Freeze:
        """Keep everybody from acquiring a lock, or without a name any lock of the realm, and return the freeze.

        Holders go on, and can be re-entered; waiters keep their place. It lasts until `thaw()`, or for `seconds`
        seconds. `owner` (default: the host name) is shown to others. A present freeze is left as it is, which raises
        `Frozen`, unless `force` replaces it. Raises `ConfigError`, `EtcdUnavailable`, `AccessDenied`, and
        `OutcomeUnknown` if it is unknown whether it is frozen; it is safe to call it again.
        """
        return self._freeze_key(name).freeze(owner, reason, seconds, self._patience(cancel), force=force)

    def thaw(self, name: str | None = None, *, cancel: Cancel | None = None) -> Freeze:
        """End the freeze of a lock, or without a name that of the realm, whoever has put it, and return it.

        Each freeze is ended by itself: a thawed lock in a frozen realm stays frozen. Only the freeze just read is
        ended, never a newer one. Raises `NotFrozen`, `EtcdUnavailable`, `AccessDenied`, `OutcomeUnknown`.
        """
        return self._freeze_key(name).remove(self._patience(cancel))

    def frozen(self, name: str | None = None, *, cancel: Cancel | None = None) -> Freeze | None:
        """Return the freeze of a lock itself, or without a name that of the realm; None if there is none.

        `show()` returns both for a lock. Raises `EtcdUnavailable`, `AccessDenied`.
        """
        return self._freeze_key(name).find(self._patience(cancel))

    def explain(
        self,
        name: str,
        owner: str | None = None,
        *,
        slots: int | None = None,
        window: str | None = None,
        rank: int = DEFAULT_RANK,
        shared: bool = False,
        inside: Mapping[bytes, int] | None = None,
        cancel: Cancel | None = None,
    ) -> Explanation:
        """Explain whether a lock would be acquired now, and if not, why: every condition of the claim, with its value.

        The arguments are those of `lock()`. It reads only, and what it has read may change at any moment. A gate is not
        asked. Raises `ConfigError`, `EtcdUnavailable`, `AccessDenied`.
        """
        from distlock_core.lock.explain import explain
        from distlock_core.lock.lock import spec_of

        spec = spec_of(self.lock(name, owner, slots=slots, window=window, rank=rank, shared=shared, inside=inside))
        return explain(self._etcd, spec, lambda: self._patience(cancel))

    def wait(
        self,
        name: str | Sequence[str],
        until: str = "free",
        *,
        timeout: float | None = None,
        slots: int | None = None,
        shared: bool = False,
        window: str | None = None,
        rank: int = DEFAULT_RANK,
        inside: Mapping[bytes, int] | None = None,
        cancel: Cancel | None = None,
        progress: Callable[[Obstacle], None] | None = None,
    ) -> Reached:
        """Wait until a lock is free, and take nothing: no lock, no place in the queue. Return what was seen.

        `until` is free: `lock()` with these arguments would acquire it at once, so that of several slots one is enough;
        idle: nobody holds it and nobody waits for it, in any slot; or thawed: neither the lock nor the realm is frozen.
        Of several names, all are at the same moment. Without `slots` the number of slots is that of the policy, else of
        the present holders. The condition may be over by the return: others wait too, and whoever acquires the lock
        comes first. `timeout` (seconds) 0 only looks; None and negative numbers wait forever. `progress` is called with
        each `Obstacle`. Nothing is written to etcd. Raises `LockBusy`, `Frozen` (with a timeout of 0, and `LockBusy`
        for a lock held around this process), `AcquireTimeout`, `LimitConflict`, `ConfigError`, `EtcdUnavailable`,
        `AccessDenied`.
        """
        from distlock_core.base.deadline import Wait
        from distlock_core.lock.lock import spec_of
        from distlock_core.lock.wait_until import WaitUntil

        spec = spec_of(self.lock(name, slots=slots, window=window, rank=rank, shared=shared, inside=inside))
        wait = Wait.of(timeout)
        return WaitUntil(self._etcd, spec, until, wait, self._connect_timeout, cancel, progress).run()

    def doctor(self, names: str | Sequence[str] = (), *, cancel: Cancel | None = None) -> Examination:
        """Examine etcd, this client's certificates and rights, and the realm's locks, and return all findings.

        With `names` only the locks that are named, and what this user needs for them. It works while etcd is away, and
        changes nothing in etcd. Each endpoint gets the connect timeout, all at once. Raises `ConfigError`.
        """
        from distlock_core.lock.examine import examine

        return examine(parts_of(self), names, None, (), cancel)

    def prune(self, older_than: float, *, dry_run: bool = False, cancel: Cancel | None = None) -> Pruned:
        """Delete the notes on how the last hold of a lock ended that are older than `older_than` seconds.

        Locks and waiters are not affected. A `dry_run` deletes nothing. Returns the names whose notes it has deleted
        (or would delete), and the number of notes kept. Raises `ConfigError`, `EtcdUnavailable`, `AccessDenied`, and
        `OutcomeUnknown` if it is unknown whether all were deleted; it is safe to call it again.
        """
        from distlock_core.lock.prune import Prune

        prune = Prune(self._etcd, self.prefix, self._connect_timeout, self._release_timeout, cancel)
        return prune.run(older_than, hostname(), dry_run=dry_run)

    def policy(self, name: str, *, cancel: Cancel | None = None) -> Policy | None:
        """Return the policy of a lock, None if it has none. Raises `EtcdUnavailable`, `AccessDenied`."""
        from distlock_core.lock.policies import read_policy

        return read_policy(self._etcd, self._keys(name), self._patience(cancel))

    def policies(self, *, cancel: Cancel | None = None) -> builtins.list[Policy]:
        """Return the policies of all locks that have one, by name. Raises as `policy()`."""
        from distlock_core.lock.policies import read_policies

        return read_policies(self._etcd, self.prefix, self._patience(cancel))

    def set_policy(
        self,
        name: str,
        *,
        slots: int | None = None,
        cooldown: int | None = None,
        window: str | None = None,
        expect: int | None = None,
        reason: str | None = None,
        owner: str | None = None,
        replace: bool = False,
        dry_run: bool = False,
        cancel: Cancel | None = None,
    ) -> PolicyChange:
        """Set the policy of a lock, for everybody who acquires it from now on. Return what it was, and what it is.

        Fields that are None stay as they are; with `replace` they are removed. `owner` (default: the host name) and
        `reason` are shown to others. A `dry_run` changes nothing. Raises `ConfigError`, `EtcdUnavailable`,
        `AccessDenied`, and `OutcomeUnknown` if it is unknown whether it was changed; it is safe to call it again.
        """
        from distlock_core.lock.policies import set_policy

        fields = {"slots": slots, "cooldown": cooldown, "window": window, "expect": expect}
        keys, patience = self._keys(name), self._patience(cancel)
        return set_policy(self._etcd, keys, fields, owner, reason, patience, replace=replace, dry_run=dry_run)

    def clear_policy(self, name: str, *, dry_run: bool = False, cancel: Cancel | None = None) -> PolicyChange:
        """Remove the policy of a lock: each caller's own settings apply from now on. Raises as `set_policy()`."""
        from distlock_core.lock.policies import change_policy

        keys, patience = self._keys(name), self._patience(cancel)
        return change_policy(self._etcd, keys, hostname(), {}, None, patience, replace=True, dry_run=dry_run)

    def watch(self, name: str | None = None, *, freezes: bool = False) -> Watching:
        """Return an iterator over the events of a lock, or of every lock of the realm: `acquired`, `changed`, ...

        See `Watching` and `LockEvent`. It begins with the holds that exist at the first call. With `freezes` it also
        reports `frozen` and `thawed`: of the lock, or without a name of every lock and of the realm. Raises
        `ConfigError`.
        """
        from distlock_core.lock.watching import watch_lock, watch_realm

        if name is None:
            return watch_realm(self._etcd, self.prefix, self._mutex, self._connect_timeout, freezes=freezes)
        return watch_lock(self._etcd, self._keys(name), self._connect_timeout, freezes=freezes)

    def history(
        self, name: str | Sequence[str] | None = None, *, since: float | None = None, follow: bool = False
    ) -> History:
        """Return an iterator over the past of a lock, of several, or without a name of the whole realm.

        It is read from etcd's own revisions, and reaches back until where etcd has compacted them; see `History` and
        its entries. Nothing is written for it. `since` is a Unix time: what ended before is left out. With `follow` it
        goes on after the present, without an end, and each hold, wait and freeze comes when it begins and again when it
        ends. Raises `ConfigError`.
        """
        from distlock_core.lock.past import history_of

        names = () if name is None else [keys.name for keys in self._locks(name)]
        return history_of(
            self._etcd, self.prefix, self._mutex, names, self._connect_timeout, since=since, follow=follow
        )

    def metrics(self, names: Sequence[str] = (), *, cancel: Cancel | None = None) -> Metrics:
        """Return the figures of all locks for Prometheus: `.text` is its text format.

        With `names`, those of these locks: a name may be a pattern such as `es-*`. Raises `ConfigError`,
        `EtcdUnavailable`, `AccessDenied`.
        """
        from distlock_core.lock.figures import read_metrics

        checked = check_names(names, self._mutex) if names else ()
        return read_metrics(self._etcd, self.prefix, self._mutex, checked, lambda: self._patience(cancel))

    def load_all(self) -> None:
        """Import the modules that monitor and end a hold now, so that no import can fail while a lock is held."""
        from distlock_core.lock import freeze, session  # noqa: F401

        self._etcd.load_all()

    def close(self) -> None:
        """Close idle connections. The realm can be used again."""
        self._etcd.close()

    def __enter__(self) -> Realm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _keys(self, name: str) -> Keys:
        return Keys(self.prefix, check_name(name, self._mutex), self._mutex)

    def _freeze_key(self, name: str | None) -> FreezeKey:
        from distlock_core.lock.freeze import FreezeKey
        from distlock_core.model.keys import freeze_key

        key = freeze_key(self.prefix) if name is None else self._keys(name).lock_freeze
        return FreezeKey(self._etcd, key, name)

    def _locks(self, names: str | Sequence[str]) -> tuple[Keys, ...]:
        """The keys of one lock, or of several. Raises `ConfigError` for none, and for a name given twice."""
        if isinstance(names, str):
            return (self._keys(names),)
        if not names:
            raise ConfigError("no lock is named: the list of names is empty")
        return tuple(Keys(self.prefix, name, self._mutex) for name in check_names(names, self._mutex))

    def _patience(self, cancel: Cancel | None) -> Patience:
        return Patience.lasting(self._connect_timeout, cancel)


def _windows(text: str) -> Windows:
    from distlock_core.model.window_syntax import parse_windows

    try:
        return parse_windows(text)
    except ConfigError as error:
        raise ConfigError(f"window: expected {error.message}, found {ascii(text)[:60]}") from None


# For code that looks after a hold of another process, or has settings. Not part of the library's public interface.


def parts_of(realm: Realm) -> RealmParts:
    """What this realm is made of."""
    from distlock_core.lock.realm_parts import RealmParts

    times = (realm._connect_timeout, realm._release_timeout)
    return RealmParts(realm._etcd, realm.prefix, realm._mutex, *times, realm._state_dir)
