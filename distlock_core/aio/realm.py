"""AsyncRealm: `Realm` for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distlock_core import connection
from distlock_core.aio.lock import AsyncLock
from distlock_core.aio.manager import AsyncLockManager
from distlock_core.aio.reading import AsyncHistory, AsyncWatching
from distlock_core.aio.tasks import in_thread
from distlock_core.lock.lease import GIVE_UP

TYPE_CHECKING = False
if TYPE_CHECKING:
    import builtins  # the method `list` hides the type inside the class
    from types import TracebackType
    from typing import Any

    from distlock_core.doctor.finding import Examination
    from distlock_core.events.notices import Notice
    from distlock_core.lock.explain import Explanation
    from distlock_core.lock.loss_reasons import Loss
    from distlock_core.lock.prune import Pruned
    from distlock_core.lock.realm import Realm
    from distlock_core.lock.wait_until import Reached
    from distlock_core.model.freeze import Freeze
    from distlock_core.model.metrics import Metrics
    from distlock_core.model.policy import Policy
    from distlock_core.model.policy_change import PolicyChange
    from distlock_core.model.state import Holder, LockState


def connect(
    endpoints: Sequence[str] | str = connection.DEFAULT_ENDPOINTS, *arguments: Any, **options: Any
) -> AsyncRealm:
    """Return the realm of all locks below a prefix. Arguments and errors as for `distlock_core.connect()`."""
    return AsyncRealm(connection.connect(endpoints, *arguments, **options))


class AsyncRealm:
    """`Realm` for asyncio: all locks below one prefix. For arguments, results and errors see `Realm`."""

    def __init__(self, realm: Realm) -> None:
        self.sync = realm

    def lock(
        self,
        name: str | Sequence[str],
        *arguments: Any,
        on_lost: Callable[[Loss], object] | None = None,
        **options: Any,
    ) -> AsyncLock:
        """Return a lock, not yet acquired. `on_lost` is called in the event loop."""
        return AsyncLock(self.sync, name, *arguments, on_lost=on_lost, **options)

    async def list(self, *, brief: bool = False) -> builtins.list[LockState]:
        return await in_thread(lambda interrupt: self.sync.list(brief=brief, cancel=interrupt))

    async def show(self, name: str) -> LockState:
        return await in_thread(lambda interrupt: self.sync.show(name, cancel=interrupt))

    async def show_all(self, names: Sequence[str]) -> builtins.list[LockState]:
        return await in_thread(lambda interrupt: self.sync.show_all(names, cancel=interrupt))

    async def metrics(self, names: Sequence[str] = ()) -> Metrics:
        return await in_thread(lambda interrupt: self.sync.metrics(names, cancel=interrupt))

    async def get(self, name: str) -> str | None:
        return await in_thread(lambda interrupt: self.sync.get(name, cancel=interrupt))

    async def verify(self, name: str, token: int) -> bool:
        return await in_thread(lambda interrupt: self.sync.verify(name, token, cancel=interrupt))

    async def update(self, name: str, value: str | None = None, **options: Any) -> Holder:
        return await in_thread(lambda interrupt: self.sync.update(name, value, cancel=interrupt, **options))

    async def unlock(self, name: str, owner: str | None = None, **options: Any) -> Holder:
        return await in_thread(
            lambda interrupt: self.sync.unlock(name, owner, cancel=interrupt, **options), grace=GIVE_UP
        )

    async def break_hold(self, holder: Holder, reason: str, owner: str | None = None) -> Holder:
        return await in_thread(
            lambda interrupt: self.sync.break_hold(holder, reason, owner, cancel=interrupt), grace=GIVE_UP
        )

    async def freeze(self, name: str | None = None, **options: Any) -> Freeze:
        return await in_thread(lambda interrupt: self.sync.freeze(name, cancel=interrupt, **options))

    async def thaw(self, name: str | None = None) -> Freeze:
        return await in_thread(lambda interrupt: self.sync.thaw(name, cancel=interrupt))

    async def frozen(self, name: str | None = None) -> Freeze | None:
        return await in_thread(lambda interrupt: self.sync.frozen(name, cancel=interrupt))

    async def policy(self, name: str) -> Policy | None:
        return await in_thread(lambda interrupt: self.sync.policy(name, cancel=interrupt))

    async def policies(self) -> builtins.list[Policy]:
        return await in_thread(lambda interrupt: self.sync.policies(cancel=interrupt))

    async def set_policy(self, name: str, **options: Any) -> PolicyChange:
        return await in_thread(lambda interrupt: self.sync.set_policy(name, cancel=interrupt, **options))

    async def clear_policy(self, name: str, *, dry_run: bool = False) -> PolicyChange:
        return await in_thread(lambda interrupt: self.sync.clear_policy(name, dry_run=dry_run, cancel=interrupt))

    async def unlock_all(self, names: Sequence[str], owner: str | None = None, **options: Any) -> builtins.list[Holder]:
        return await in_thread(
            lambda interrupt: self.sync.unlock_all(names, owner, cancel=interrupt, **options), grace=GIVE_UP
        )

    async def explain(self, name: str, owner: str | None = None, **options: Any) -> Explanation:
        return await in_thread(lambda interrupt: self.sync.explain(name, owner, cancel=interrupt, **options))

    async def wait(self, name: str | Sequence[str], until: str = "free", **options: Any) -> Reached:
        return await in_thread(lambda interrupt: self.sync.wait(name, until, cancel=interrupt, **options))

    async def doctor(self, names: str | Sequence[str] = ()) -> Examination:
        return await in_thread(lambda interrupt: self.sync.doctor(names, cancel=interrupt))

    async def prune(self, older_than: float, *, dry_run: bool = False) -> Pruned:
        return await in_thread(lambda interrupt: self.sync.prune(older_than, dry_run=dry_run, cancel=interrupt))

    def watch(self, name: str | None = None, *, freezes: bool = False) -> AsyncWatching:
        return AsyncWatching(self.sync.watch(name, freezes=freezes))

    def history(
        self, name: str | Sequence[str] | None = None, *, since: float | None = None, follow: bool = False
    ) -> AsyncHistory:
        return AsyncHistory(self.sync.history(name, since=since, follow=follow))

    def manager(
        self, name: str, *arguments: Any, listener: Callable[[Notice], object] | None = None, **options: Any
    ) -> AsyncLockManager:
        """Contend for a lock from now on. `listener` is called in the event loop."""
        return AsyncLockManager(self.sync, name, *arguments, listener=listener, **options)

    async def close(self) -> None:
        self.sync.close()

    async def __aenter__(self) -> AsyncRealm:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
