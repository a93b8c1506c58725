"""Gate: healthy before the next. A question that is asked until the answer is yes, and stays yes.

It is a line of shell that exits with 0, or a callable that returns a true value. The first in the queue asks it before
it claims a lock, and a holder after its work, before it releases the lock: see `settle()`.
"""

from __future__ import annotations

import os

from distlock_core.base.deadline import Patience, now
from distlock_core.base.text import shortened
from distlock_core.errors import Cancelled, CheckFailed, DistlockError, LockLost, NotHolder, NotSettled
from distlock_core.hints import see
from distlock_core.lock.lock import hold_of
from distlock_core.lock.others_holds import mark
from distlock_core.model.record import KEPT, SETTLING, in_state
from distlock_core.model.wording import listed
from distlock_core.process.nesting import without_own
from distlock_core.rollout.needed import renewing
from distlock_core.rollout.shell import Shell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Union

    from distlock_core.base.deadline import Cancel
    from distlock_core.lock.lock import Lock
    from distlock_core.lock.realm import Realm
    from distlock_core.model.state import Holder
    from distlock_core.rollout.call import Call
    from distlock_core.settings.options import Settings

    Check = Union[str, Callable[[], object]]

LOOK = 10.0  # seconds between two looks whether a settling step has been ended by others
GLANCE = 1.0  # seconds between two looks whether a settling hold is lost
TIMEOUT, EVERY, STEADY = 600.0, 5.0, 0.0  # seconds


class Gate:
    """A gate, asked again `every` few seconds until it is green, and has been green for `steady` seconds.

    `timeout` (seconds) is the time that an answer may take: a line of shell is ended then, and its answer is no. It is
    also the time that `settle()` waits. `before` and `after` say when a lock with this gate asks it. `environ` is the
    environment of a line of shell (default: this process's own).

    `why` is the last line that a red gate has printed, or the error that a callable has raised; "" before the first
    answer. For one thread at a time.
    """

    def __init__(
        self,
        check: Check,
        *,
        timeout: float = TIMEOUT,
        every: float = EVERY,
        steady: float = STEADY,
        before: bool = True,
        after: bool = True,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.timeout = timeout
        self.before, self.after = before, after
        self.why = ""
        self._check = check
        self._every = every
        self._steady = steady
        self._environ = environ
        self._asked: Shell | Call | None = None
        self._asked_at = 0.0
        self._next_at = 0.0
        self._green_since: float | None = None

    def only_before(self) -> Gate:
        """The same gate, but not asked after the work."""
        words = {"timeout": self.timeout, "every": self._every, "steady": self._steady}
        return Gate(self._check, before=self.before, after=False, environ=self._environ, **words)

    @property
    def story(self) -> str:
        """Why it is not passed, in words."""
        if self._green_since is not None:
            return f"its gate is green, but not yet for {self._steady:g}s"
        return f"its gate is red: {shortened(self.why)}" if self.why else "its gate has not answered yet"

    def is_green(self, patience: Patience) -> bool:
        """Ask until it is green, until its next red answer, or until the patience is over. Raises `Cancelled`.

        A question that is not answered yet goes on, until the next call, or until `stop()`. True is returned once:
        the next call asks again.
        """
        while True:
            if self._asked is None:
                patience.until(self._next_at).wait()
                if now() < self._next_at:
                    return False
                self._ask()
            answer = self._answer(patience)
            if answer is None:
                return False
            if not answer:
                self._green_since = None
                self._next_at = now() + self._every
                return False
            since = self._green_since = self._green_since or self._asked_at
            left = since + self._steady - now()
            if left <= 0:
                self._green_since, self._next_at = None, 0.0
                return True
            self._next_at = now() + min(self._every, left)

    def stop(self) -> None:
        """End a question that is not answered yet, with all that it has started, and forget past answers."""
        asked, self._asked = self._asked, None
        self._green_since, self._next_at = None, 0.0
        if asked is not None:
            asked.end()

    def settle(self, lock: Lock, cancel: Cancel | None = None) -> None:
        """`settle()`, for a release: whatever ends the wait without a green gate, the lock is kept. Raises as that."""
        try:
            settle(lock, self, cancel)
        except LockLost:
            raise
        except BaseException as error:
            lock.keep(f"{self.story} after the work" if isinstance(error, NotSettled) else f"{error!r}; {self.story}")
            raise

    def _ask(self) -> None:
        self._asked_at = now()
        if isinstance(self._check, str):
            try:
                self._asked = Shell(self._check, os.environ if self._environ is None else self._environ)
            except CheckFailed as error:
                self.why = error.message
                self._asked = None
        else:
            from distlock_core.rollout.call import Call

            self._asked = Call(self._check)

    def _answer(self, patience: Patience) -> bool | None:
        """True if it is green, False if it is red, None if it has not answered yet."""
        asked = self._asked
        if asked is None:
            return False  # it could not be started
        over_at = self._asked_at + self.timeout
        try:
            status = asked.wait(patience.until(over_at))
        except CheckFailed as error:
            self._asked, self.why = None, error.message
            return False
        if status is None and now() < over_at:
            return None
        self._asked = None
        if status is None:
            asked.end()
            self.why = f"no answer within {self.timeout:g}s"
            return False
        if status != 0:
            self.why = asked.last_line or (f"exit code {status}" if status > 0 else f"signal {-status} has ended it")
        return status == 0


def gate_of(settings: Settings, environ: Mapping[str, str] | None = None) -> Gate:
    """The gate of the settings, which have one. It does not settle by itself at a release.

    `environ` is this process's own by default, without the settings of this call alone.
    """
    assert settings.gate is not None
    return Gate(
        settings.gate,
        timeout=settings.gate_timeout,
        every=settings.gate_every,
        steady=settings.gate_for,
        before="before" in settings.gate_at,
        after=False,
        environ=without_own(os.environ) if environ is None else environ,
    )


def settle(lock: Lock, gate: Gate, cancel: Cancel | None = None, tell: Callable[[str], None] | None = None) -> None:
    """Return once the gate is green. Until then the held lock is in the state `settling`, in which nobody re-enters it.

    A lease is renewed meanwhile. `tell` is called with the gate's story at each change. Raises `NotSettled` if the gate
    is not green within its timeout: the lock is still held, for the caller to keep it. Raises `LockLost`, `Cancelled`.
    A hold that was re-entered, and goes on when this one ends, does not settle.
    """
    hold = hold_of(lock)
    if hold.stays:
        return
    patience = Patience.lasting(gate.timeout, cancel)
    renew, is_noted, told = renewing(lock), False, ""
    try:
        hold.session.start()  # which renews a lease, and sees a loss
        while True:
            moment = min(renew(), now() + GLANCE)
            is_noted = is_noted or _note(lock, cancel)
            if gate.is_green(patience.until(moment)):
                return
            if tell is not None and gate.story != told:
                told = gate.story
                tell(told)
            if patience.over():
                waited = f"{lock.name}: not released: after {gate.timeout:g}s {gate.story}"
                raise NotSettled(waited, hints=[see(lock.names[0])])
    finally:
        gate.stop()


def _note(lock: Lock, cancel: Cancel | None) -> bool:
    """Write the state into the record. False if etcd is away: to be tried again."""
    try:
        hold_of(lock).amend(lambda record: in_state(record, {"state": SETTLING}), cancel)
    except (LockLost, NotHolder):
        raise
    except DistlockError:
        return False
    return True


def settle_step(realm: Realm, holder: Holder, gate: Gate, cancel: Cancel | None = None) -> None:
    """`settle_steps()` for one step."""
    settle_steps(realm, [holder], gate, cancel)


def settle_steps(realm: Realm, holders: Sequence[Holder], gate: Gate, cancel: Cancel | None = None) -> None:
    """As `settle()`, for steps, which no process looks after: then their release may follow.

    If the gate is not green in time, or the wait is cancelled, the locks are kept; so are the others if one of several
    is lost meanwhile.
    """
    patience = Patience.lasting(gate.timeout, cancel)
    unmarked = list(holders)
    try:
        while True:
            unmarked = [holder for holder in unmarked if not _mark(realm, holder)]
            if gate.is_green(patience.within(LOOK)):
                return
            if patience.over():
                names = listed([holder.lock for holder in holders])
                hints = [see(holder.lock) for holder in holders]
                raise NotSettled(f"{names}: not released: after {gate.timeout:g}s {gate.story}", hints=hints)
            for holder in holders:
                if _is_over(realm, holder):
                    raise LockLost(f"{holder.lock} was lost while it settled", hints=[see(holder.lock)])
    except (NotSettled, Cancelled) as error:
        why = gate.story if isinstance(error, NotSettled) else f"{error.message}; {gate.story}"
        for holder in holders:
            _keep(realm, holder, why)
        locks = "the lock is" if len(holders) == 1 else "the locks are"
        error.message += f": {locks} left taken for a person to look at"
        raise
    except LockLost as error:
        for holder in holders if len(holders) > 1 else ():
            try:
                _keep(realm, holder, error.message)
            except DistlockError:
                pass  # the lost one; or etcd is away, and they stay in the state `settling`
        raise
    finally:
        gate.stop()


def _keep(realm: Realm, holder: Holder, why: str) -> None:
    reason = f"not healthy after the work: {why}" + (f" ({holder.reason})" if holder.reason else "")
    mark(realm, holder, {"state": KEPT, "reason": reason}, keep=True)


def _mark(realm: Realm, holder: Holder) -> bool:
    try:
        mark(realm, holder, {"state": SETTLING})
    except (LockLost, NotHolder):
        raise
    except DistlockError:
        return False  # etcd is away: to be tried again
    return True


def _is_over(realm: Realm, holder: Holder) -> bool:
    try:
        return not realm.verify(holder.lock, holder.token)
    except DistlockError:
        return False  # etcd is away
