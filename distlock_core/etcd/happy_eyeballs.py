"""Happy Eyeballs (RFC 8305): resolving an endpoint's name, and connecting to one of its addresses."""

from __future__ import annotations

import _socket as socket  # the module `socket` makes enumerations, which takes a tenth of a short-lived distlock's time
import errno
import os
import select

from distlock_core.base.deadline import Patience, now
from distlock_core.base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from distlock_core.etcd.address import Address

    Answer = TypeVar("Answer")
    Where = tuple[Any, ...]  # a numeric host, a port, and further fields of that family's addresses

STAGGER = 0.25  # seconds after which the next address is tried in parallel (RFC 8305)
SUSPECTED = 60.0  # seconds for which an address that fell silent is tried after the others of its name

# Seconds that the resolver may take if its previous answer is known; and for which a silent resolver is not asked
# again, since each query occupies a thread until the resolver gives up.
RESOLVE, LEFT_ALONE = 1.0, 5.0

_suspects: dict[Where, float] = {}  # until when
_proven: set[Where] = set()
_silent: dict[Address, float] = {}  # until when its name is not looked up
_known: dict[Address, list[tuple[int, Where]]] = {}  # addresses of a name when it was last resolved


class ConnectFailed(Exception):
    """No connection was made: nothing was sent."""


class Target(Value):
    """One of the addresses of a host."""

    family: int
    where: Where


def open_socket(address: Address, patience: Patience) -> tuple[socket.socket, Where, int]:
    """Connect to the first address that accepts. Raises `ConnectFailed`, `Cancelled`.

    The addresses are tried in order: the next one as soon as one has failed, or after `STAGGER` seconds in parallel
    with silent ones. Returns the socket, its address, and the number of addresses left to try if it stays silent.
    """
    waiting = targets(address, patience)
    count = len(waiting)
    racing: dict[int, tuple[socket.socket, Where]] = {}
    problem = "no address"
    try:
        while waiting or racing:
            if waiting:
                target = waiting.pop(0)
                try:
                    begun = _begin(target)
                except OSError as error:  # this family is unavailable, or there is no route to that network
                    problem = reason_of(error)
                    continue
                racing[begun.fileno()] = begun, target.where
            limit = patience.within(STAGGER) if waiting else patience
            ready = limit.wait_any(dict.fromkeys(racing, select.POLLOUT))
            for descriptor in ready:
                attempt, where = racing[descriptor]
                code = attempt.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                del racing[descriptor]
                if code == 0:
                    # A request is one small segment that waits for its answer: do not delay it.
                    attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return attempt, where, 0 if where in _proven else count - 1
                attempt.close()
                problem = reason_of(OSError(code, os.strerror(code)))
            if not ready and patience.over():
                raise ConnectFailed("timed out")
    finally:
        for attempt, _ in racing.values():
            attempt.close()
    raise ConnectFailed(problem)


def _begin(target: Target) -> socket.socket:
    attempt = socket.socket(target.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        attempt.setblocking(False)
        code = attempt.connect_ex(target.where)
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
    except BaseException:
        attempt.close()
        raise
    return attempt


def heard(where: Where) -> None:
    """Record that etcd has answered from this address."""
    _suspects.pop(where, None)
    _proven.add(where)


def suspect(where: Where) -> None:
    """Record that no answer came in time: for a while the other addresses of that name are tried first."""
    _proven.discard(where)
    _suspects[where] = now() + SUSPECTED


def targets(address: Address, patience: Patience) -> list[Target]:
    """The addresses of a host in the order in which to try them. Raises `ConnectFailed`, `Cancelled`.

    This is the system's order, alternating between the two families, with silent addresses last.
    """
    found = [Target(family, where) for family, where in _resolve(address, patience)]
    families = {target.family: [one for one in found if one.family == target.family] for target in found}
    longest = max((len(some) for some in families.values()), default=0)
    mixed = [some[at] for at in range(longest) for some in families.values() if at < len(some)]
    return sorted(mixed, key=lambda target: _suspects.get(target.where, 0.0) > now())


def _resolve(address: Address, patience: Patience) -> Iterable[tuple[int, Where]]:
    """The addresses of the host. If the resolver fails or does not answer, its previous answer is used."""
    # As bytes: for a string Python would load its codec for international names.
    host = address.host.encode("ascii" if address.host.isascii() else "idna")
    try:
        return _distinct(socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except socket.gaierror:
        pass  # a name
    known = _known.get(address)
    if known and now() < _silent.get(address, 0.0):
        return known
    limit = patience.within(min(RESOLVE, patience.left() / 2)) if known else patience
    try:
        found = aside(lambda: socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM), limit)
    except OSError as error:
        if known and error.errno != socket.EAI_NONAME:
            return known
        raise ConnectFailed(f"its name does not resolve: {error.strerror}") from error
    if found is None:
        if known:
            _silent[address] = now() + LEFT_ALONE
            return known
        raise ConnectFailed("its name was not resolved in time")
    _known[address] = _distinct(found)
    return _known[address]


def _distinct(found: Iterable[tuple[Any, ...]]) -> list[tuple[int, Where]]:
    return list(dict.fromkeys((family, where) for family, _, _, _, where in found))


def aside(work: Callable[[], Answer], patience: Patience, name: str = "distlock-resolve") -> Answer | None:
    """Do uninterruptible work in a separate thread. At the deadline the thread is abandoned, and None returned.

    Raises the errors of the work, and `Cancelled`.
    """
    from distlock_core.base.threads import start_thread

    answers: list[Answer] = []
    errors: list[Exception] = []
    reader, writer = os.pipe()

    def run() -> None:
        try:
            answers.append(work())
        except Exception as error:  # noqa: BLE001 - raised in the waiting thread
            errors.append(error)
        finally:
            os.close(writer)

    try:
        start_thread(run, name)
    except BaseException:
        os.close(reader)
        os.close(writer)
        raise
    try:
        if not patience.wait(reader):
            return None
    finally:
        os.close(reader)
    if errors:
        raise errors[0]
    return answers[0]


def reason_of(error: OSError) -> str:
    return (error.strerror or str(error) or "failed").lower()
