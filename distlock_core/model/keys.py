"""Keys: where in etcd a lock, its slots, its queue and what belongs to its realm stand."""

from __future__ import annotations

from distlock_core.etcd.values import prefix_end

DEFAULT_PREFIX = "/distlock/"
DEFAULT_MUTEX = "__internal_lock"
RESERVED = "__"


class Keys:
    """Where one lock lives in etcd. The range of a name is NAME itself and `[NAME/, NAME0)`."""

    def __init__(self, prefix: str, name: str, mutex: str = DEFAULT_MUTEX) -> None:
        self._lay_out(name, prefix + name)
        self.last = (prefix + RESERVED + "last/" + name).encode()
        self.freeze = freeze_key(prefix)
        self.mutex = (prefix + mutex + "/").encode()

    @classmethod
    def raw(cls, key: str) -> Keys:
        """Return the keys of a lock that is named by its key in etcd, and belongs to no realm: all lie below it."""
        keys = cls.__new__(cls)
        keys._lay_out(key, key)
        keys.last, keys.freeze, keys.mutex = (
            f"{key}/{RESERVED}{word}".encode() for word in ("last", "freeze", "mutex/")
        )
        return keys

    def _lay_out(self, name: str, key: str) -> None:
        self.name = name
        self.lock = key.encode()
        self.slots = self.lock + b"/slot/"
        self.queue = self.lock + b"/queue/"

    def slot(self, number: int) -> bytes:
        """The key of a slot: slot 0 is the lock's own."""
        return self.slots + b"%d" % number if number else self.lock

    def ticket(self, lease: int) -> bytes:
        return self.queue + b"%016x" % lease

    def is_held_by(self, key: bytes) -> bool:
        """True for the key of a slot, False for a place in the queue and for what belongs to another lock."""
        return key == self.lock or key.startswith(self.slots)

    def slot_of(self, key: bytes) -> int:
        """The number of a slot from its key. A key that nobody of us wrote counts as slot 0."""
        number = key[len(self.slots) :]
        return int(number) if key.startswith(self.slots) and number.isdigit() and len(number) < 10 else 0


def freeze_key(prefix: str) -> bytes:
    return (prefix + RESERVED + "freeze").encode()


def ends(start: bytes) -> tuple[bytes, bytes]:
    """The range of all keys that begin with `start`."""
    return start, prefix_end(start)
