"""The same verbs for asyncio, over the same implementation: each call that may block has a thread of its own.

Of its own, and not one of a pool: a hundred tasks that wait for locks would leave none for anybody else. When a task
is cancelled, its call is ended at once, as a signal ends one of the command line, and leaves nothing behind: no place
in the queue, no lease, no lock, and no thread.

>>> from distlock_core import aio
>>> async with aio.connect(["http://10.0.0.1:2379"]).lock("percona_prod", ttl=10) as lock:
...     await upgrade(fencing_token=lock.token)
"""

from __future__ import annotations

from distlock_core.aio.lock import AsyncLock
from distlock_core.aio.manager import AsyncLockManager
from distlock_core.aio.reading import AsyncOwnership, AsyncWatching
from distlock_core.aio.realm import AsyncRealm, connect

__all__ = ["AsyncLock", "AsyncLockManager", "AsyncOwnership", "AsyncRealm", "AsyncWatching", "connect"]
