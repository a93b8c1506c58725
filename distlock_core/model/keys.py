"""Keys: the keys in etcd of a lock, its slots, its queue and its realm."""

from __future__ import annotations

from distlock_core.etcd.values import prefix_end

DEFAULT_PREFIX = "/distlock/"
DEFAULT_MUTEX = "__internal_lock"
RESERVED = "__"


class Keys:
    """The keys of one lock. The range of a name is NAME itself and `[NAME/, NAME0)`."""

    def __init__(self, prefix: str, name: str, mutex: str = DEFAULT_MUTEX) -> None:
        self._lay_out(name, prefix + name)
        self.last = last_prefix(prefix) + name.encode()
        self.freeze = freeze_key(prefix)
        self.policy = policy_prefix(prefix) + name.encode()
        self.prune_mark = prune_mark(prefix)
        self.mutex = (prefix + mutex + "/").encode()

    @classmethod
    def raw(cls, key: str) -> Keys:
        """Return the keys of a lock outside any realm, named by its key in etcd: all lie below that key."""
        keys = cls.__new__(cls)
        keys._lay_out(key, key)
        keys.last, keys.freeze, keys.mutex, keys.prune_mark, keys.policy = (
            f"{key}/{RESERVED}{word}".encode() for word in ("last", "freeze", "mutex/", "pruned/at", "policy")
        )
        return keys

    def _lay_out(self, name: str, key: str) -> None:
        self.name = name
        self.lock = key.encode()
        self.slots = self.lock + b"/slot/"
        self.queue = self.lock + b"/queue/"
        self.lock_freeze = self.lock + b"/freeze"

    def slot(self, number: int) -> bytes:
        """The key of a slot. Slot 0 is the lock's key itself."""
        return self.slots + b"%d" % number if number else self.lock

    def ticket(self, lease: int) -> bytes:
        return self.queue + b"%016x" % lease

    def is_held_by(self, key: bytes) -> bool:
        """True for the key of a slot, False for a ticket and for the keys of other locks."""
        return key == self.lock or key.startswith(self.slots)

    def slot_of(self, key: bytes) -> int:
        """The number of a slot from its key. A key in another format counts as slot 0."""
        number = key[len(self.slots) :]
        return int(number) if key.startswith(self.slots) and number.isdigit() and len(number) < 10 else 0


def freeze_key(prefix: str) -> bytes:
    return (prefix + RESERVED + "freeze").encode()


def last_prefix(prefix: str) -> bytes:
    """What the keys of all notes on how a lock's last hold ended begin with."""
    return (prefix + RESERVED + "last/").encode()


def policy_prefix(prefix: str) -> bytes:
    """What the keys of all policies begin with."""
    return (prefix + RESERVED + "policy/").encode()


def prune_mark(prefix: str) -> bytes:
    """The key that every prune of the realm writes. The Go original lists no key with a further `/`."""
    return (prefix + RESERVED + "pruned/at").encode()


def ends(start: bytes) -> tuple[bytes, bytes]:
    """The range of all keys that begin with `start`."""
    return start, prefix_end(start)
