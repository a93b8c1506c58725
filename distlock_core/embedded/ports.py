"""Free loopback ports that no other process is likely to take before or while they are used."""

from __future__ import annotations

import random
import socket

# Below the kernel's ephemeral range (32768 and up): otherwise an outgoing connection of any process could take the port
# of a member that is stopped for a moment.
_LOWEST, _HIGHEST = 15000, 32000


def free_ports(count: int) -> list[int]:
    """`count` different ports that are free on 127.0.0.1 at this moment. Raises OSError if none is found."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(_LOWEST, _HIGHEST), 500):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    if len(found) < count:
        raise OSError(f"no {count} free ports between {_LOWEST} and {_HIGHEST} on 127.0.0.1")
    return found


def is_free(port: int) -> bool:
    """True if a server could listen on the port of 127.0.0.1 now. Raises OverflowError above 65535."""
    with socket.socket() as s:
        # As etcd does: a port is free even if connections of a former server linger.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
