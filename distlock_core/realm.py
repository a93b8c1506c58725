"""Realm: every lock under one prefix of one etcd: make, list, show, unlock."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from distlock_core.errors import DistlockError, LockNotFound, NotHolder
from distlock_core.etcd.api import Get, KeyValue, LeaseGone
from distlock_core.etcd.transport import dial
from distlock_core.hold import Wish
from distlock_core.lease import GIVE_UP
from distlock_core.lock import CONNECT_TIMEOUT, RELEASE_TIMEOUT, Lock
from distlock_core.model import (
    DEFAULT_MUTEX,
    DEFAULT_PREFIX,
    RESERVED,
    Ended,
    Holder,
    Keys,
    LockState,
    Record,
    Waiter,
    check_name,
    check_owner,
    check_prefix,
    check_text,
    ends,
    freeze_key,
)
from distlock_core.patience import Patience
from distlock_core.release import Ending, cool_down, let_go
from distlock_core.settings import check_ttl
from distlock_core.whoami import hostname
from distlock_core.wording import look_at, printable, taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins  # the method `list` hides the type inside the class
    from types import TracebackType
    from typing import Any

    from distlock_core.etcd.access import Access
    from distlock_core.etcd.api import Etcd
    from distlock_core.patience import Cancel
    from distlock_core.session import Loss
    from distlock_core.watching import Watching

DEFAULT_ENDPOINTS = ("http://127.0.0.1:2379",)
FILES = ("cacert", "cert", "key", "password_file")
ACCESS = (*FILES, "tls_server_name", "user", "password")


def connect(
    endpoints: Sequence[str] | str | None = None,
    prefix: str = DEFAULT_PREFIX,
    *,
    mutex: str = DEFAULT_MUTEX,
    connect_timeout: float = CONNECT_TIMEOUT,
    release_timeout: float = RELEASE_TIMEOUT,
    discovery_srv: str = "",
    transport: str = "auto",
    hint: str = "",
    **access: str | None,
) -> Realm:
    """Return the realm of all locks whose keys begin with `prefix`.

    Nothing is sent before the first use. `endpoints` are URLs of members of one etcd cluster, a list or separated by
    commas; they are tried in turn, and with them those that the DNS SRV records of the domain `discovery_srv` name
    (default: http://127.0.0.1:2379). `mutex` names the Go original's own mutex. `connect_timeout` (seconds) bounds
    the first contact of every call, `release_timeout` a release. `transport` is auto, http or grpc. `access`: the
    PEM files `cacert`, `cert` and `key`, `tls_server_name`; `user` with `password` or `password_file`. `hint` is
    added when no etcd answers. Raises `ConfigError`.
    """
    if endpoints is None:
        endpoints = () if discovery_srv else DEFAULT_ENDPOINTS
    etcd = dial(endpoints, _access(access), discovery_srv=discovery_srv, transport=transport, hint=hint)
    return Realm(etcd, prefix, mutex=mutex, connect_timeout=connect_timeout, release_timeout=release_timeout)


def _access(given: Mapping[str, str | None]) -> Access | None:
    """None where nothing of it is set: what it takes is not loaded then."""
    unknown = set(given) - set(ACCESS)
    if unknown:
        raise TypeError(f"connect() has no argument {min(unknown)!r}")
    if not any(given.values()):
        return None
    from distlock_core.etcd.access import Access

    named = {"server_name" if key == "tls_server_name" else key: value or None for key, value in given.items()}
    return Access(**named)


def connection(settings: Mapping[str, Any], hint: str = "") -> dict[str, Any]:
    """Return the arguments of `connect()` that these settings stand for; the hint is for where no endpoint is set."""
    return {
        "endpoints": settings["endpoints"] or None,
        "prefix": settings["prefix"],
        "mutex": settings["internallock"],
        "connect_timeout": settings["connect_timeout"],
        "release_timeout": settings["release_timeout"],
        "discovery_srv": settings["discovery_srv"],
        "transport": settings["transport"],
        "hint": "" if settings["endpoints"] or settings["discovery_srv"] else hint,
        # A keeper has another working directory.
        **{key: os.path.abspath(settings[key]) for key in FILES if settings[key]},
        **{key: settings[key] for key in ACCESS if key not in FILES and settings[key]},
    }


class Realm:
    """Every lock under one prefix. Names cannot leave it. Made by `connect()`."""

    def __init__(
        self,
        etcd: Etcd,
        prefix: str = DEFAULT_PREFIX,
        *,
        mutex: str = DEFAULT_MUTEX,
        connect_timeout: float = CONNECT_TIMEOUT,
        release_timeout: float = RELEASE_TIMEOUT,
    ) -> None:
        self.prefix = check_prefix(prefix)
        self._etcd = etcd
        self._mutex = mutex
        self._connect_timeout = connect_timeout
        self._release_timeout = release_timeout

    def lock(
        self,
        name: str,
        owner: str | None = None,
        reason: str = "",
        *,
        value: str | None = None,
        timeout: float | None = None,
        slots: int = 1,
        ttl: int | None = None,
        refresh: float | None = None,
        on_lost: Callable[[Loss], None] | None = None,
        background: bool = True,
        step: bool = False,
        inside: Mapping[bytes, int] | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Lock:
        """Return a lock, not yet acquired. Raises `ConfigError`.

        While it is held it carries its `value` (an address, a state), for others to `get()` and to `watch()`.
        `owner` is shown to others (default: the host's name); given explicitly, the same owner may enter again a
        lock that it holds as a `step`, or that its dead run has left. `slots`: at most so many hold it at once.
        `timeout` (seconds) is that of `with`. With a `ttl` (seconds) the lock is leased: a thread renews it every
        `refresh` seconds (default: a third of the ttl) while it is held, unless `background` is False, and tells
        `on_lost` once when it is lost. `inside`: keys and tokens that the commands around this one hold; `details`:
        what else the record is to say.
        """
        wish = Wish(
            self._keys(name),
            hostname() if owner is None else check_owner(owner),
            owner is not None,
            check_text(reason, "reason"),
            "lock" if step else "run",
            slots,
            inside or {},
            ttl,
            refresh,
            details or {},
            None if value is None else check_text(value, "value"),
        )
        if ttl is not None:
            check_ttl(ttl, refresh)
        return Lock(
            self._etcd,
            wish,
            timeout=timeout,
            connect_timeout=self._connect_timeout,
            release_timeout=self._release_timeout,
            on_lost=on_lost,
            background=background,
        )

    def list(self, *, cancel: Cancel | None = None) -> builtins.list[LockState]:
        """Return every lock that is held or waited for, by name. Raises `EtcdUnavailable`, `AccessDenied`."""
        found = self._read([Get(*ends(self.prefix.encode()))], cancel)[0]
        names = sorted({name for kv in found for name in (self._name_of(kv.key),) if name is not None})
        states = [self._state(self._keys_of(name), found) for name in names]
        return [self._with_ttl_left(state, cancel) for state in states if state.holders or state.waiting]

    def show(self, name: str, *, cancel: Cancel | None = None) -> LockState:
        """Return one lock: who holds it, the line in order, how its last hold ended."""
        keys = self._keys(name)
        gets = [Get(keys.lock), Get(*ends(keys.slots)), Get(*ends(keys.queue)), Get(keys.last), Get(keys.freeze)]
        return self._with_ttl_left(self._state(keys, [kv for kvs in self._read(gets, cancel) for kv in kvs]), cancel)

    def get(self, name: str, *, cancel: Cancel | None = None) -> str | None:
        """Return the value that a lock carries, None where its holder gave it none.

        Of several slots, that of the lowest; `show()` has all of them. Raises `LockNotFound` when nobody holds it,
        `EtcdUnavailable`, `AccessDenied`.
        """
        keys = self._keys(name)
        lock, slots = self._read([Get(keys.lock), Get(*ends(keys.slots))], cancel)
        holders = self._state(keys, [*lock, *slots]).holders
        if not holders:
            raise LockNotFound(f"{printable(name)} is not locked")
        return holders[0].value

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
        """Change the value of a hold, or its reason, without letting go; return the hold as it is then.

        The hold is that of the `owner` (default: this host), or the one with this `token`, whoever has it. None leaves
        value and reason as they are, "" empties them. Raises `LockNotFound`, `NotHolder`, `ConfigError`,
        `EtcdUnavailable`, `AccessDenied`, and `OutcomeUnknown` when nobody can tell whether it was changed.
        """
        from distlock_core.amend import amend, describing

        for text, what in ((value, "value"), (reason, "reason")):
            if text is not None:
                check_text(text, what)
        if token is None:
            owner = hostname() if owner is None else check_owner(owner)
        keys = self._keys(name)
        state = self.show(name, cancel=cancel)
        holder = self._one_of(state, owner, token, "To change it all the same, name it with --token")
        if holder.since is None:
            raise NotHolder(f"{taken(state)}: what is stored there is no record of distlock's: left alone", state=state)
        kv = KeyValue(holder.key, holder.stored, holder.token, holder.mod_revision, holder.lease)

        def is_shown(found: KeyValue) -> bool:
            return found.create_revision == holder.token and Record.parse(found.value).owner == holder.owner

        patience = Patience.lasting(self._connect_timeout, cancel)
        try:
            done = amend(self._etcd, kv, is_shown, describing(value, reason), patience)
        except LeaseGone:
            done = None
        if done is None:
            raise self._gone(name)
        return Holder.parse(keys, done)

    def unlock(
        self,
        name: str,
        owner: str | None = None,
        *,
        token: int | None = None,
        force: bool = False,
        cooldown: int | None = None,
        cancel: Cancel | None = None,
    ) -> Holder:
        """Delete the lock that is there now, whoever holds it, and return its holder.

        With an `owner`, another's lock is refused, unless by `force`; with a `token`, a newer one is. It deletes what
        it has just read and nothing newer; with a `cooldown` (seconds) the lock stays taken for so long. Raises
        `LockNotFound`, `NotHolder`, `EtcdUnavailable`, `AccessDenied`.
        """
        by = hostname() if owner is None else check_owner(owner)
        holder = self.to_unlock(name, owner, token=token, force=force, cancel=cancel)
        how = "released" if holder.owner == by else "broken"
        kv = KeyValue(holder.key, holder.stored, holder.token, holder.mod_revision, holder.lease)
        patience = Patience.lasting(self._release_timeout, cancel)

        def is_shown(found: KeyValue) -> bool:
            return found.create_revision == holder.token

        keys = self._keys(name)
        if cooldown is None:
            done = let_go(self._etcd, keys, kv, is_shown, Ending(how, by), patience)
        else:
            done = cool_down(self._etcd, keys, kv, is_shown, cooldown, by, patience)
        if not done:
            raise self._gone(name)
        if holder.lease and holder.is_unattended:
            self._drop_lease(holder.lease)
        return holder

    def to_unlock(
        self,
        name: str,
        owner: str | None = None,
        *,
        token: int | None = None,
        force: bool = False,
        cancel: Cancel | None = None,
    ) -> Holder:
        """Return the hold that `unlock()` would end now, and write nothing: for a dry run. Raises as `unlock()`."""
        hint = "To break it: --unlock --force"
        return self._one_of(self.show(name, cancel=cancel), None if force else owner, token, hint)

    def verify(self, name: str, token: int, *, cancel: Cancel | None = None) -> bool:
        """True if the acquisition with this token holds the lock, by a linearizable read."""
        return any(holder.token == token for holder in self.show(name, cancel=cancel).holders)

    def watch(self, name: str | None = None) -> Watching:
        """Return an iterator over what happens to a lock, or to every lock of the realm: `acquired`, `changed`, ...

        See `Watching` and `LockEvent`. It begins with what is held when it is first asked. Raises `ConfigError`.
        """
        from distlock_core.following import Follower
        from distlock_core.watching import Watching

        if name is None:
            return Watching(Follower(self._etcd, ends(self.prefix.encode()), self._held_by, self._connect_timeout))
        keys = self._keys(name)
        # It has other names too, like NAME-b: those are left out.
        span = keys.lock, keys.lock + b"0"
        held_by = keys.is_held_by
        return Watching(Follower(self._etcd, span, lambda key: keys if held_by(key) else None, self._connect_timeout))

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
        return self._keys_of(check_name(name, self._mutex))

    def _keys_of(self, name: str) -> Keys:
        return Keys(self.prefix, name, self._mutex)

    def _read(self, gets: Sequence[Get], cancel: Cancel | None = None) -> builtins.list[tuple[KeyValue, ...]]:
        outcome = self._etcd.read(gets, Patience.lasting(self._connect_timeout, cancel))
        return [found.kvs for found in outcome.ranges()]

    def _one_of(self, state: LockState, owner: str | None, token: int | None, hint: str = "") -> Holder:
        """The one hold that fits what is meant."""
        if not state.holders:
            raise LockNotFound(f"{printable(state.name)} is not locked", state=state)
        fitting = [
            holder
            for holder in state.holders
            if (owner is None or holder.owner == owner) and (token is None or holder.token == token)
        ]
        if not fitting:
            if token is not None:
                tokens = " and ".join(str(holder.token) for holder in state.holders)
                why = f"with token {tokens}, not {token}: left alone"
            else:
                why = f"not by {printable(owner or '')}: left alone" + (f". {hint}" if hint else "")
            raise NotHolder(f"{taken(state)}, {why}. {look_at(state.name)}", state=state)
        if len(fitting) > 1:
            tokens = ", ".join(str(holder.token) for holder in fitting)
            raise NotHolder(f"{taken(state)}: say which one with --token ({tokens})", state=state)
        return fitting[0]

    def _gone(self, name: str) -> LockNotFound | NotHolder:
        """The hold that was seen is not there any more."""
        state = self.show(name)
        if not state.holders:
            return LockNotFound(f"{printable(name)} was unlocked by somebody else meanwhile", state=state)
        return NotHolder(f"{taken(state)}, and was not when I looked: left alone", state=state)

    def _drop_lease(self, lease: int) -> None:
        """Leave no lease behind that nobody else would end before its time."""
        try:
            self._etcd.revoke(lease, Patience.lasting(GIVE_UP))
        except DistlockError:
            pass  # then it runs out

    def _held_by(self, key: bytes) -> Keys | None:
        """The lock that is held by a key, None for any other key."""
        name = self._name_of(key)
        keys = None if name is None else self._keys_of(name)
        return keys if keys is not None and keys.is_held_by(key) else None

    def _name_of(self, key: bytes) -> str | None:
        """The lock that a key belongs to, None for what is not a lock's."""
        try:
            name, separator, rest = key.decode()[len(self.prefix) :].partition("/")
        except UnicodeDecodeError:
            return None
        if not name or name.startswith(RESERVED) or name == self._mutex:
            return None
        return name if not separator or rest.startswith(("slot/", "queue/")) else None

    def _with_ttl_left(self, state: LockState, cancel: Cancel | None = None) -> LockState:
        patience = Patience.lasting(self._connect_timeout, cancel)
        holders = tuple(
            holder._replace(ttl_left=self._etcd.time_to_live(holder.lease, patience)) if holder.lease else holder
            for holder in state.holders
        )
        return state._replace(holders=holders)

    def _state(self, keys: Keys, found: Sequence[KeyValue]) -> LockState:
        holders = [Holder.parse(keys, kv) for kv in found if kv.key == keys.lock or kv.key.startswith(keys.slots)]
        line = sorted((kv for kv in found if kv.key.startswith(keys.queue)), key=lambda kv: kv.create_revision)
        by_key = {kv.key: kv for kv in found}
        last, freeze = by_key.get(keys.last), by_key.get(freeze_key(self.prefix))
        return LockState(
            keys.name,
            tuple(sorted(holders, key=lambda holder: holder.slot)),
            len(line),
            tuple(Waiter.parse(kv) for kv in line),
            Ended.parse(last.value) if last else None,
            Record.parse(freeze.value) if freeze else None,
        )
