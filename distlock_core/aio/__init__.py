"""The library's verbs for asyncio, over the same implementation: each blocking call has a separate thread.

The threads do not come from a pool, which a hundred tasks that wait for locks would exhaust. When a task is cancelled,
its call ends at once, as by a signal on the command line, and leaves nothing behind: no place in the queue, no lease,
no lock and no thread.

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
