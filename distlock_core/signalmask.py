"""SignalMask: the signals that a supervisor waits for, held back and asked for one by one."""

from __future__ import annotations

import signal

from distlock_core.patience import FOREVER, now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.signalfd import SignalFd

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,  # `perl -e 'alarm 60; exec @ARGV'` sets a timer that stays distlock's
    signal.SIGTSTP,
    signal.SIGCONT,
)
AWAITED = (*PASSED_ON, signal.SIGCHLD, signal.SIGIO)


class SignalMask:
    """Signals held back from now on, to be asked for one by one; `restore()` lets them come again."""

    def __init__(self) -> None:
        # Where the caller ignores it, nothing would tell that the command has ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._pending: SignalFd | None = None
        self.before = signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)

    def restore(self) -> None:
        # One that the command was meant to stop by must not stop the release, now that it has ended; its last sign of
        # life must not end distlock before the release.
        for number in (signal.SIGTSTP, signal.SIGIO):
            signal.sigtimedwait([number], 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.before)

    def next(self, moment: float, *, brief: bool = False) -> signal.struct_siginfo | None:
        """Return the next one, None at the moment. For a `brief` wait nothing is loaded."""
        if moment == FOREVER:
            return signal.sigwaitinfo(AWAITED)
        if brief:
            # See `SignalFd` for why the signal is looked at.
            found = signal.sigtimedwait(AWAITED, max(0.0, moment - now()))
            return found if found is not None and found.si_signo in AWAITED else None
        found = signal.sigtimedwait(AWAITED, 0)
        if found is None and now() < moment:
            if self._pending is None:
                from distlock_core.signalfd import SignalFd

                self._pending = SignalFd(AWAITED)
            self._pending.wait(moment - now())
            found = signal.sigtimedwait(AWAITED, 0)
        return found

    def close(self) -> None:
        """Close what waiting has opened. The signals stay held back."""
        if self._pending is not None:
            self._pending.close()
            self._pending = None
