"""Mine: which holds are those of the run that I am part of."""

from __future__ import annotations

from distlock_core.errors import LockBusy
from distlock_core.model import HELD
from distlock_core.whoami import is_same, start_time, traces
from distlock_core.wording import taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from distlock_core.acquisition import Waiting
    from distlock_core.model import Holder, LockState


class Mine:
    """Which holds are this run's own, beside those that my owner may enter."""

    def __init__(
        self,
        owner: str | None,
        run: int | None,
        of_my_run: Collection[str] = (),
        taker: Mapping[str, Any] | None = None,
    ) -> None:
        """`run` is the process that stands for it, None where there is none; its holds may have other owners too.

        A hold of one of the owners `of_my_run` is this run's if it was taken for the process with the trace `taker`: a
        name alone proves nothing, since two containers may have the same host name and pids.
        """
        self._owner = owner
        self._run = run
        self._of_my_run = of_my_run
        self._traces = {} if run is None else traces(run)
        self._taker = taker or self._traces

    def among(self, state: LockState | None) -> Holder | None:
        """The first hold of a lock that is this run's."""
        for holder in () if state is None else state.holders:
            record = holder.record
            if record.explicit and record.state == HELD:
                bound_as_me = self._owner in (None, holder.owner) and self._is_bound(holder)
                if bound_as_me or (holder.owner in self._of_my_run and self.was_taken_for_me(holder)):
                    return holder
        return None

    def was_taken_for_me(self, holder: Holder) -> bool:
        """True for a hold, under any owner, that was taken for the process that this run's are taken for."""
        taker = holder.record.details.get("taker")
        return is_same(taker if isinstance(taker, dict) else holder.record.details, self._taker)

    def looking_on(self, progress: Callable[[Waiting], None] | None) -> Callable[[Waiting], None]:
        """Ends the waiting for a lock that is my own by then, and for one that this run would have to end for."""

        def look(waiting: Waiting) -> None:
            state = waiting.state
            if self.among(state) is not None:
                raise LockBusy(f"{taken(state)}: that is this run", state=state)
            if state.holders and all(self._is_bound(holder) for holder in state.holders):
                raise LockBusy(
                    f"{taken(state)}, until this very run ends: to wait for it in here would never end. Give both the "
                    "same owner",
                    state=state,
                )
            if progress is not None:
                progress(waiting)

        return look

    def _is_bound(self, holder: Holder) -> bool:
        """To this run's process, which lives."""
        if self._run is None:
            return False
        return is_same(holder.record.details, self._traces) and start_time(self._run) is not None
