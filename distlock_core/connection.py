"""`connect()`: from endpoints, or from settings, to a realm, and to the lock that the settings name."""

from __future__ import annotations

import os

from distlock_core.etcd.http.reply import MAX_ANSWER
from distlock_core.etcd.transport import dial
from distlock_core.hints import SET_ENDPOINTS, Hint
from distlock_core.lock.realm import Realm
from distlock_core.lock.spec import CONNECT_TIMEOUT, RELEASE_TIMEOUT
from distlock_core.model.checks import check_prefix
from distlock_core.model.keys import DEFAULT_MUTEX, DEFAULT_PREFIX
from distlock_core.process.nesting import held_around
from distlock_core.settings.readers import absolute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from distlock_core.etcd.auth.access import Access
    from distlock_core.lock.lock import Lock
    from distlock_core.lock.spec import Gate
    from distlock_core.settings.options import Settings

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
    raw_prefix: bool = False,
    state_dir: str | None = None,
    max_answer: int = MAX_ANSWER,
    **access: str | None,
) -> Realm:
    """Return the realm of all locks whose keys begin with `prefix`.

    Nothing is sent before the first use. `endpoints` are URLs of members of one etcd cluster, a list or separated by
    commas (default: http://127.0.0.1:2379); they are tried in turn, followed by those that the DNS SRV records of the
    domain `discovery_srv` name. `mutex` is the name of the Go original's mutex. `connect_timeout` (seconds) bounds the
    first contact of every call, `release_timeout` (seconds) a release. `transport` is auto, http or grpc. With
    `raw_prefix` a prefix need not begin and end with one `/`, as in the Go original. `state_dir` is where this machine
    notes its acquisitions under an explicit owner (default: $DISTLOCK_STATE_DIR, or /var/lib/distlock, or for users
    other than root $XDG_STATE_HOME/distlock). `access`: the PEM files `cacert`, `cert` and `key`; `tls_server_name`;
    `user` with `password` or `password_file`. `max_answer` (MiB) is the size limit of an answer from etcd. Raises
    `ConfigError`.
    """
    check_prefix(prefix, raw=raw_prefix)
    hints: Sequence[Hint] = ()
    if endpoints is None and discovery_srv:
        endpoints = ()
    elif endpoints is None:
        endpoints, hints = DEFAULT_ENDPOINTS, (Hint(SET_ENDPOINTS),)
    etcd = dial(
        endpoints,
        _access(access),
        discovery_srv=discovery_srv,
        transport=transport,
        hints=hints,
        max_answer=max_answer,
    )
    return Realm(
        etcd,
        prefix,
        mutex=mutex,
        connect_timeout=connect_timeout,
        release_timeout=release_timeout,
        state_dir=state_dir,
    )


def _access(given: Mapping[str, str | None]) -> Access | None:
    """The credentials and TLS settings, None if none is given: their modules are not loaded then."""
    unknown = set(given) - set(ACCESS)
    if unknown:
        raise TypeError(f"connect() has no argument {min(unknown)!r}")
    if not any(given.values()):
        return None
    from distlock_core.etcd.auth.access import Access

    named = {"server_name" if key == "tls_server_name" else key: value or None for key, value in given.items()}
    return Access(**named)


def realm_of(settings: Settings) -> Realm:
    """Return the realm that the settings name. Nothing is sent before its first use. Raises `ConfigError`."""
    return connect(**connect_arguments(settings))


def connect_arguments(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `connect()` for these settings, for another process too. Raises `ConfigError`."""
    return {
        "endpoints": settings.endpoints or None,
        "prefix": settings.prefix,
        "mutex": settings.internallock,
        "connect_timeout": settings.connect_timeout,
        "release_timeout": settings.release_timeout,
        "discovery_srv": settings.discovery_srv,
        "transport": settings.transport,
        "raw_prefix": settings.raw_prefix,
        "max_answer": settings.max_answer,
        "state_dir": absolute(settings.state_dir, "state_dir") if settings.state_dir else None,
        # A keeper has another working directory.
        **{key: absolute(settings.by_key(key), key) for key in FILES if settings.by_key(key)},
        **{key: settings.by_key(key) for key in ACCESS if key not in FILES and settings.by_key(key)},
    }


def lock_of(
    realm: Realm,
    settings: Settings,
    *,
    step: bool = False,
    inside: Mapping[bytes, int] | None = None,
    details: Mapping[str, Any] | None = None,
    taker: Mapping[str, Any] | None = None,
    token: int | None = None,
    gate: Gate | None = None,
) -> Lock:
    """Return the lock, or the locks, that the settings name, not yet acquired. The caller has to monitor it.

    `inside`: keys and tokens of the locks held around this process (default: from the environment). The other arguments
    are those of `Realm.lock()`. `gate`: by default that of the settings, which is asked before the claim; the caller
    has to `settle()` after the work.
    """
    if settings.gate is not None and gate is None:
        from distlock_core.rollout.gate import gate_of

        gate = gate_of(settings)
    names = settings.lock_names
    return realm.lock(
        names if len(names) > 1 else settings.lockname,
        settings.id,
        settings.reason,
        value=settings.value,
        slots=settings.slots if "slots" in settings.given and not settings.shared else None,
        shared=settings.shared,
        window=settings.window,
        expect=settings.expect,
        cooldown=settings.cooldown,
        ttl=settings.ttl,
        refresh=settings.refresh,
        background=False,
        step=step,
        inside=held_around(os.environ) if inside is None else inside,
        details=details,
        taker=taker,
        token=token,
        gate=gate,
        rank=settings.rank,
        beat=None if step or settings.ttl is not None else settings.beat,
    )
