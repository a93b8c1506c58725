"""LockManager: contends for a lock in the background, and knows at any moment whether it holds it."""

from __future__ import annotations

import atexit
import os
import threading
import time

from distlock_core.base.deadline import FIRST_RETRY, FOREVER, Backoff, Interrupt, Patience, now
from distlock_core.base.text import printable
from distlock_core.base.threads import start_thread
from distlock_core.base.value import Value
from distlock_core.errors import Cancelled, ConfigError, DistlockError, LockLost, NotHolder
from distlock_core.events.notices import ACQUIRED, REMOVED, UNKNOWN, Listeners, Notice, log, warn
from distlock_core.events.ownership import Readers
from distlock_core.lock.lease import TICKET_TTL
from distlock_core.lock.lock import hold_of
from distlock_core.model.checks import check_text
from distlock_core.model.keys import DEFAULT_RANK
from distlock_core.model.wording import listed
from distlock_core.process.identity import hostname

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from distlock_core.events.ownership import Ownership
    from distlock_core.lock.lock import Lock
    from distlock_core.lock.realm import Realm
    from distlock_core.lock.session import Session
    from distlock_core.rollout.gate import Gate
    from distlock_core.rollout.hook_thread import HookThreads
    from distlock_core.rollout.hooks import Hooks

TTL = 10  # seconds, by default
AT_ONCE = 2.0  # seconds that a shutdown tries to release the lock while etcd is away; after that the lease expires
LONGEST_GOODBYE = 10.0  # further seconds that the thread may take to clean up


class LockManager:
    """Contends for a lock from its construction until `shutdown()`: of several managers, one holds the lock.

    With a list of names it contends for several locks, which are acquired together or not at all. While it waits it
    holds none of them, and `have_lock()` is True while it holds all of them.

    A thread waits for the lock, renews it, and waits in the queue again when it is lost: the manager recovers by itself
    from anything that happens to holders and to etcd. `have_lock()` may be called from any thread, and is never True in
    two managers at once, unless both are `shared`. It is pessimistic: False from the first renewal that fails until
    etcd has confirmed that the lock is still held. With `ride_out` it stays True until the deadline, the moment at
    which another could have it.

    Every method may be called from any thread, from a listener and from a signal handler. A manager belongs to the
    process that made it: in a forked child `have_lock()` is False, `shutdown()` does nothing, and `update()` and
    `add_listener()` raise `NotHolder`. At the interpreter's exit the lock is released.
    """

    def __init__(
        self,
        realm: Realm,
        name: str | Sequence[str],
        ttl: int = TTL,
        *,
        refresh: float | None = None,
        value: str | None = None,
        reason: str = "",
        owner: str | None = None,
        ride_out: bool = False,
        listener: Callable[[Notice], object] | None = None,
        gate: Gate | None = None,
        rank: int = DEFAULT_RANK,
        shared: bool = False,
        hooks: Hooks | None = None,
    ) -> None:
        """Contend for the lock `name` in `realm`, or for several locks, named in a list.

        `ttl`: seconds after which the lock is free when its holder is gone. It is renewed every `refresh` seconds
        (default: ttl/3). `value`, `reason` and `owner` (default: the host's name and a random id) are shown to others
        while the lock is held. `listener`: see `add_listener()`. `gate`: asked before the lock is acquired, not at its
        release. Of the managers that wait, those with a lower `rank` (0 to 99) take over first. `shared`: beside any
        number of other shared holders, but beside no exclusive one. `hooks`: lines of shell that are run when the lock
        is acquired, lost or released, and that neither renewals nor releases wait for. Raises `ConfigError`.
        An etcd that is away is no error: the manager waits for it.
        """
        self.id = os.urandom(4).hex()
        self._names = name if isinstance(name, str) else tuple(name)
        self.owner = f"{hostname()}:{self.id}" if owner is None else owner
        self._realm = realm
        self._ttl, self._refresh = ttl, refresh
        self._ride_out = ride_out
        self._value, self._reason = value, reason
        self._gate, self._rank, self._shared = gate, rank, shared
        self.names = self._new_lock().names  # raises here if an argument is wrong
        self.name = name if isinstance(name, str) else listed(self.names)
        self._pid = os.getpid()
        self._hold: _Hold | None = None
        self._trouble: str | None = None
        self._said = Notice(REMOVED, self.name, 0)
        self._listeners = Listeners()
        self._readers = Readers()
        self._using = threading.Lock()  # a Lock is for one thread at a time
        self._closing = threading.Lock()
        self._release_timeout = AT_ONCE
        self._stop = Interrupt()
        realm.load_all()
        self._hooks: HookThreads | None = None
        if hooks is not None:
            from distlock_core.rollout.hook_thread import HookThreads

            self._hooks = HookThreads(hooks, lambda line: warn("%s: %s", self.name, line))
        if listener is not None:
            self._listeners.add(listener)
        self._thread = start_thread(self._stand, "distlock-manager")
        atexit.register(self.shutdown)

    def have_lock(self) -> bool:
        """True while the lock is certainly held. Local and instant: it sends nothing, and compares the clock."""
        return bool(self.tokens)

    @property
    def token(self) -> int | None:
        """The fencing token while `have_lock()`, else None. Pass it to the resource that is changed under the lock.

        Raises `ConfigError` for several locks: see `tokens`.
        """
        if len(self.names) > 1:
            raise ConfigError(f"{self.name} are several locks: ask for the token of each (tokens)")
        return self.tokens.get(self.names[0])

    @property
    def tokens(self) -> dict[str, int]:
        """The fencing token of each lock, by name, while `have_lock()`; else an empty dictionary."""
        hold = self._hold
        if hold is None or self._stop.is_set() or self._pid != os.getpid():
            return {}
        return {**hold.tokens} if hold.is_sure(self._ride_out) else {}

    @property
    def trouble(self) -> str | None:
        """Why the lock cannot even be waited for (etcd is away, for example), None if nothing is wrong."""
        return self._trouble

    def add_listener(self, listener: Callable[[Notice], object]) -> None:
        """Call `listener` with a `Notice` whenever `have_lock()` changes.

        ACQUIRED: the lock is held. UNKNOWN: it was held, and a renewal is not confirmed. REMOVED: it is no longer held.
        All listeners are called in order, one at a time, in a thread that does nothing else. Raises `NotHolder` in a
        forked child.
        """
        self._check_process()
        self._listeners.add(listener)

    def remove_listener(self, listener: Callable[[Notice], object]) -> None:
        """Stop calling `listener`."""
        if self._pid == os.getpid():
            self._listeners.remove(listener)

    def ownership(self) -> Ownership:
        """Return an iterator over changes of `have_lock()`, from the present value until `shutdown()`.

        A reader that does not read blocks nothing: see `Ownership`.
        """
        if self._pid == os.getpid():
            return self._readers.join(self.have_lock)
        nobody = Readers()
        nobody.end(for_good=True)
        return nobody.join(self.have_lock)

    def update(self, value: str | None = None, *, reason: str | None = None) -> bool:
        """Change the lock's value or reason: at once if the lock is held, and for every later acquisition.

        None leaves a field unchanged. Returns True if the lock was held and is changed in etcd. Raises the errors of
        `Lock.update()`: the change then applies from the next acquisition on. In a forked child it raises `NotHolder`.
        """
        for text, what in ((value, "value"), (reason, "reason")):
            check_text(text or "", what)
        self._check_process()
        with self._using:
            self._value = self._value if value is None else value
            self._reason = self._reason if reason is None else reason
            hold = self._hold
            if hold is None:
                return False
            hold.lock.update(value, reason=reason, cancel=self._stop)
            return True

    def shutdown(self, timeout: float = AT_ONCE) -> None:
        """Release the lock, stop contending for it, and end the thread.

        `have_lock()` is False from the start of the call. While etcd is away, the release is tried for `timeout`
        seconds; after that the lock expires within its ttl. A second call does nothing. The call waits at most some
        seconds for a listener that hangs, and for each hook up to its limit.
        """
        if self._pid != os.getpid():
            return
        self._release_timeout = timeout
        if not self._stop.is_set():
            self._stop.set()
        # Bounded: a signal handler may have interrupted an update() of the same manager, which cannot end before it.
        self._thread.join(timeout + LONGEST_GOODBYE)
        self._listeners.close()
        if self._hooks is not None:
            self._hooks.close()
        atexit.unregister(self.shutdown)
        if not self._thread.is_alive() and self._closing.acquire(blocking=False):  # once, and never given back
            self._stop.close()

    def __enter__(self) -> LockManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise NotHolder(
                f"process {self._pid}, from which this one was forked, stands for {printable(self.name)}: "
                "a lock belongs to the process that took it. Make a LockManager in this one"
            )

    # In the thread.

    def _stand(self) -> None:
        pauses = Backoff()
        patience = Patience(FOREVER, self._stop)
        while not self._stop.is_set() and self._pid == os.getpid():  # in a child forked in here, the loop ends
            try:
                self._once()
                pauses.reset()
            except Cancelled:
                break
            except Exception as trouble:  # noqa: BLE001 - a manager goes on whatever happens
                self._note(trouble)
                if not self._rest(patience, pauses):
                    break
        if self._pid == os.getpid():
            self._readers.end(for_good=True)

    def _rest(self, patience: Patience, pauses: Backoff) -> bool:
        """Pause before a retry. False on shutdown."""
        try:
            patience.pause(pauses.next())
        except Cancelled:
            return False
        except Exception:  # noqa: BLE001 - not even waiting works
            time.sleep(FIRST_RETRY)
        return True

    def _once(self) -> None:
        """Wait for the lock, and monitor it until it is lost. Raises `Cancelled` on shutdown."""
        wanted = self._value, self._reason  # read first, so that a later change is noticed
        lock = self._new_lock()
        lock.acquire(cancel=self._stop)
        self._trouble = None
        session = None
        try:
            session = lock.session
            session.endures = True
            session.on_change = self._announce
            with self._using:
                if wanted != (self._value, self._reason):  # changed while waiting in the queue
                    lock.update(self._value, reason=self._reason, cancel=self._stop)
                self._hold = _Hold(lock, session, lock.tokens)
            self._announce()
            if self._hooks is not None:
                self._hooks.acquired(lock)
            session.run(self._stop)
        finally:
            self._hold = None
            if self._pid == os.getpid():
                try:
                    self._announce()
                finally:
                    with self._using:
                        self._part_from(lock, session)

    def _part_from(self, lock: Lock, session: Session | None) -> None:
        if session is not None and session.loss is not None:
            if self._hooks is not None:
                self._hooks.lost(session.loss.why)
            hold_of(lock).give_up()
            return
        lock.release_timeout = self._release_timeout
        try:
            lock.release()
        except DistlockError as trouble:
            self._note(trouble)
            if self._hooks is not None and isinstance(trouble, LockLost):
                self._hooks.lost(trouble.message)
            return
        if self._hooks is not None:
            self._hooks.released()

    def _new_lock(self) -> Lock:
        return self._realm.lock(
            self._names,
            self.owner,
            self._reason,
            value=self._value,
            ttl=self._ttl,
            refresh=self._refresh,
            background=False,
            # A dead waiter must not block others for longer than a dead holder does.
            ticket_ttl=min(TICKET_TTL, self._ttl),
            gate=None if self._gate is None else self._gate.only_before(),
            rank=self._rank,
            shared=self._shared,
        )

    def _announce(self) -> None:
        """Announce a change of `have_lock()`. Called only in the thread, so that all changes are announced in order."""
        hold, said = self._hold, self._said
        if hold is None or hold.session.loss is not None:
            kind = REMOVED
        elif hold.session.overdue or (hold.session.doubt and not self._ride_out):
            kind = UNKNOWN
        else:
            kind = ACQUIRED
        if kind == said.kind:
            return
        self._said = Notice(kind, self.name, said.token if hold is None else max(hold.tokens.values()))
        self._readers.report(kind == ACQUIRED)
        self._listeners.tell(self._said)

    def _note(self, trouble: Exception) -> None:
        self._trouble = str(trouble) or type(trouble).__name__
        if not isinstance(trouble, DistlockError):
            log("standing for %s", self.name, error=trouble)


class _Hold(Value):
    """The lock while this manager holds it."""

    lock: Lock
    session: Session
    tokens: Mapping[str, int]

    def is_sure(self, ride_out: bool) -> bool:
        session = self.session
        if session.loss is not None or session.overdue or (session.doubt and not ride_out):
            return False
        # Compared here, so that it is False after the process was stopped or the machine suspended.
        return now() < session.deadline
