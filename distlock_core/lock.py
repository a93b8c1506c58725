"""Lock: acquire, verify, release."""

from __future__ import annotations

from collections.abc import Callable

from distlock_core.acquisition import NESTED, STEP, Acquisition, Held, Waiting, Wish
from distlock_core.errors import Frozen, LockBusy, LockLost, NotHolder
from distlock_core.etcd.api import Get, KeyValue
from distlock_core.model import Record
from distlock_core.patience import Patience
from distlock_core.release import Ending, let_go, put_back
from distlock_core.wording import look_at, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from distlock_core.etcd.api import Etcd
    from distlock_core.line import Line
    from distlock_core.patience import Cancel

CONNECT_TIMEOUT = 5.0  # seconds for the first contact with etcd
RELEASE_TIMEOUT = 30.0  # seconds that a release is tried while etcd is away


class Lock:
    """One lock, as one program wants or holds it. Made by `Realm.lock()`; for one thread at a time.

    A lock is persistent: it stays until it is released, whatever becomes of its holder. As a context manager it
    waits as long as `timeout` says, yields itself held, or raises: its block never runs without the lock.
    """

    def __init__(
        self,
        etcd: Etcd,
        wish: Wish,
        *,
        timeout: float | None = None,
        connect_timeout: float = CONNECT_TIMEOUT,
        release_timeout: float = RELEASE_TIMEOUT,
    ) -> None:
        self._etcd = etcd
        self._wish = wish
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._release_timeout = release_timeout
        self._held: Held | None = None
        self._line: Line | None = None

    def acquire(
        self,
        timeout: float | None = None,
        cancel: Cancel | None = None,
        progress: Callable[[Waiting], None] | None = None,
    ) -> Lock:
        """Return this lock, held.

        `timeout` in seconds covers connecting and waiting: 0 does not wait for others, a negative one waits for ever.
        Default: the one given to `Realm.lock()`, else for ever. `cancel` (an `Interrupt` or a `threading.Event`)
        ends the call when it is set. `progress` is called at each change while waiting.

        Raises `LockBusy` or `Frozen` (with timeout 0), `AcquireTimeout`, `LimitConflict`, `EtcdUnavailable`,
        `AccessDenied`, `Cancelled`, and `OutcomeUnknown` when nobody can tell whether etcd will apply the claim.
        Whoever waits is served in order of arrival. A lock that this object holds already is verified only, and
        raises `LockLost` when it is not mine any more.
        """
        if self._held is not None:
            if not self.verify():
                raise self._lost()
            return self
        if timeout is None:
            timeout = -1.0 if self._timeout is None else self._timeout
        acquisition = Acquisition(self._etcd, self._wish, timeout, self._connect_timeout, cancel, progress)
        self._held = acquisition.run()
        if self._wish.kind == "lock":
            acquisition.line.leave()
        else:
            # The ticket is gone with the claim; its lease can wait until the command is done.
            self._line = acquisition.line
        return self

    def try_acquire(self) -> Lock | None:
        """Return this lock, held, or None when it is not free now. Raises as `acquire` does, but for `LockBusy`."""
        try:
            return self.acquire(timeout=0)
        except (LockBusy, Frozen):
            return None

    def verify(self) -> bool:
        """True if the lock is still mine, by a linearizable read. Raises `EtcdUnavailable`, `AccessDenied`."""
        if self._held is None:
            return False
        patience = Patience.lasting(self._connect_timeout)
        found = self._etcd.read([Get(self._held.kv.key)], patience).ranges()[0].kvs
        return bool(found) and self._is_mine(found[0])

    def release(self, cancel: Cancel | None = None) -> None:
        """Let go. A lock that was entered again is left held, as it was found.

        Raises `NotHolder` when this object does not hold it, `LockLost` when it was mine and is not any more (a newer
        holder's lock is never touched), `EtcdUnavailable` after `release_timeout` seconds: then it may remain.
        """
        held = self._held
        if held is None:
            raise NotHolder(f"{printable(self.name)} is not held by this object. {look_at(self.name)}")
        try:
            if held.entry != NESTED:
                self._let_go(held, cancel)
            self._held = None
        finally:
            if self._line is not None:
                self._line.leave()
                self._line = None

    def _let_go(self, held: Held, cancel: Cancel | None) -> None:
        patience = Patience.lasting(self._release_timeout, cancel)
        if held.entry == STEP:
            done = put_back(self._etcd, held.kv, held.before, patience)
        else:
            ending = Ending("released", self._wish.owner)
            done = let_go(self._etcd, self._wish.keys, held.kv, self._is_mine, ending, patience)
        self._held = None
        if not done:
            raise self._lost()

    @property
    def name(self) -> str:
        return self._wish.keys.name

    @property
    def owner(self) -> str:
        return self._wish.owner

    @property
    def held(self) -> bool:
        """True from acquire to release, as far as this object knows; `verify()` asks etcd."""
        return self._held is not None

    @property
    def token(self) -> int:
        """The fencing token: grows with every acquisition, so a resource can refuse an older holder's.

        Raises `NotHolder`.
        """
        return self._hold().token

    @property
    def key(self) -> str:
        """The key in etcd that is held. Raises `NotHolder`."""
        return self._hold().kv.key.decode()

    @property
    def since(self) -> int:
        """Unix time from which it is held. Raises `NotHolder`."""
        return Record.parse(self._hold().kv.value).since or 0

    def __enter__(self) -> Lock:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _hold(self) -> Held:
        if self._held is None:
            raise NotHolder(f"{printable(self.name)} is not held by this object. {look_at(self.name)}")
        return self._held

    def _is_mine(self, kv: KeyValue) -> bool:
        held = self._held
        return held is not None and kv.create_revision == held.token and Record.parse(kv.value).run == held.run

    def _lost(self) -> LockLost:
        return LockLost(f"{printable(self.name)} was lost: it is not mine any more. {look_at(self.name)}")
