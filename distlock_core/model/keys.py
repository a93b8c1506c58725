"""Keys: the keys in etcd of a lock, its slots, its shared holders, its queue and its realm."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.etcd.values import prefix_end

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.values import KeyValue

DEFAULT_PREFIX = "/distlock/"
DEFAULT_MUTEX = "__internal_lock"
RESERVED = "__"
DEFAULT_RANK = 50
LAST_RANK = 99  # the first one is 0
EXCLUSIVE, SHARED = b"exclusive/", b"shared/"  # the kinds of tickets, in this order: see `up_to()`


class Place(Value):
    """What decides about a waiter's place in a queue, beside its arrival. Lower ranks are served first."""

    rank: int = DEFAULT_RANK
    shared: bool = False


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
        self.shared = self.lock + b"/shared/"
        self.queue = self.lock + b"/queue/"
        self.lock_freeze = self.lock + b"/freeze"

    def slot(self, number: int) -> bytes:
        """The key of a slot. Slot 0 is the lock's key itself."""
        return self.slots + b"%d" % number if number else self.lock

    def shared_hold(self, run: str) -> bytes:
        """The key of the shared hold of the acquisition with this run id."""
        return self.shared + run.encode()

    @property
    def signs(self) -> bytes:
        """What the keys of all signs of life begin with."""
        return self.lock + b"/alive/"

    def sign_of_life(self, run: str) -> bytes:
        """The key of the sign of life of the hold with this run id, for people only: no condition ever reads it."""
        return self.signs + run.encode("utf-8", "backslashreplace")

    @property
    def beside(self) -> tuple[bytes, bytes]:
        """The range of all holds but that of slot 0: shared ones, then the other slots. No other key lies in it."""
        return self.shared, prefix_end(self.slots)

    def ticket(self, lease: int, place: Place) -> bytes:
        """The key of a waiter. The queue is ordered by rank, within a rank by `create_revision`."""
        return self.queue + b"%02d/%s%016x" % (place.rank, SHARED if place.shared else EXCLUSIVE, lease)

    def place_of(self, ticket: bytes) -> Place:
        """The place of a waiter from its ticket's key. A key in another format is exclusive, of the default rank."""
        digits, _, rest = ticket[len(self.queue) :].partition(b"/")
        rank = int(digits) if len(digits) == 2 and digits.isdigit() else DEFAULT_RANK
        return Place(rank, rest.startswith(SHARED))

    def order(self, ticket: KeyValue) -> tuple[int, int]:
        """The sort key of tickets in the order in which they are served."""
        return self.place_of(ticket.key).rank, ticket.create_revision

    def below_rank(self, rank: int) -> tuple[bytes, bytes]:
        """The range of all tickets with a lower rank, which are served first."""
        return self.queue, self.queue + b"%02d/" % rank

    def rivals(self, place: Place) -> tuple[bytes, bytes]:
        """The range of the tickets with the same rank that are served first if they are older.

        A shared waiter does not wait for other shared ones.
        """
        return ends(self.below_rank(place.rank)[1] + (EXCLUSIVE if place.shared else b""))

    def up_to(self, place: Place) -> tuple[bytes, bytes]:
        """The range of all tickets that keep a newcomer waiting: those with a lower rank, and its rivals."""
        return self.queue, self.rivals(place)[1]

    def is_held_by(self, key: bytes) -> bool:
        """True for the key of a slot or of a shared hold, False for a ticket and for the keys of other locks."""
        return key == self.lock or key.startswith((self.slots, self.shared))

    def is_shared(self, key: bytes) -> bool:
        """True for the key of a shared hold."""
        return key.startswith(self.shared)

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
