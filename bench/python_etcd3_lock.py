"""One lock, a command and an unlock with python-etcd3's own Lock: HOST:PORT NAME COMMAND..."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Callable

import etcd3
import tenacity

_retry = tenacity.retry


def _retry_as_it_was(wait: Callable[[int, float], float], **others: Any) -> Any:
    """Adapts the lock's wait(), which tenacity 5 and later calls with an argument that it does not expect."""
    return _retry(wait=lambda state: wait(state.attempt_number, state.seconds_since_start or 0.0), **others)


tenacity.retry = _retry_as_it_was  # type: ignore[assignment]


def main() -> int:
    host, port = sys.argv[1].split(":")
    # Its Lock does not renew its lease, and leaves one behind at each attempt: none may expire during the measurements.
    lock = etcd3.client(host=host, port=int(port)).lock(sys.argv[2], ttl=3600)
    if not lock.acquire(timeout=None):
        return 1
    try:
        return subprocess.call(sys.argv[3:])
    finally:
        lock.release()


if __name__ == "__main__":
    sys.exit(main())
