"""`--lock --while-pid PID`: a lock that is kept for as long as another process lives."""

from __future__ import annotations

from distlock_core.cli.acquire import acquire, arguments, cancelled, wanted
from distlock_core.cli.options import Request
from distlock_core.cli.outcome import say
from distlock_core.keeper.bind import Binding
from distlock_core.keeper.bind import bind as give_to_keeper
from distlock_core.process.identity import traces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.model.state import Holder


def bind(request: Request) -> Holder:
    """Take the lock and leave it to a keeper. Returns the hold. Raises `DistlockError`; nothing is locked then."""
    settings = request.settings
    kept = Binding.of(settings)
    lock = wanted(request, traces(kept.pid))
    interrupt = acquire(request, lock)

    def check() -> None:
        if interrupt.is_set():
            raise cancelled(interrupt)

    holder = give_to_keeper(lock, kept, arguments(settings), check)
    if settings.verbose:
        say(f"{lock.name} is kept by process {holder.keeper} while process {kept.pid} lives")
    return holder
