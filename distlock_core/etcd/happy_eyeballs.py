"""Addresses: what an endpoint's name stands for, and a connection to one of them that comes about."""

from __future__ import annotations

import _socket as socket  # what `socket` makes enumerations of, which takes a tenth of a short-lived distlock's time
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
    Where = tuple[Any, ...]  # a numeric host, a port, and what else belongs to an address of that family

STAGGER = 0.25  # seconds after which the next address is tried beside those that have not answered (RFC 8305)
SUSPECTED = 60.0  # seconds that an address which fell silent is tried behind the others of its name

# Seconds that a resolver has, where it is known what it said last; and how long one that was silent is not asked again:
# each question holds a thread until the resolver gives up.
RESOLVE, LEFT_ALONE = 1.0, 5.0

_suspects: dict[Where, float] = {}  # until when
_proven: set[Where] = set()
_silent: dict[Address, float] = {}  # until when its name is not looked up
_known: dict[Address, list[tuple[int, Where]]] = {}  # what a name stood for when it was last resolved


class ConnectFailed(Exception):
    """No connection came about: nothing was sent."""


class Target(Value):
    """One of the addresses that a host stands for."""

    family: int
    where: Where


def open_socket(address: Address, patience: Patience) -> tuple[socket.socket, Where, int]:
    """Connect to the first address that lets itself be connected to. Raises `ConnectFailed`, `Cancelled`.

    They are tried in turn, the next as soon as one has failed, and after `STAGGER` seconds beside those that say
    nothing. Returns the socket, where it leads, and how many more there are to try if nothing is heard there.
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
                except OSError as error:  # this family cannot be spoken here, or there is no way to that network
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
                    # A request is one small segment that waits for its answer: nothing is gained by holding it back.
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
    """An answer of etcd's has come from there."""
    _suspects.pop(where, None)
    _proven.add(where)


def suspect(where: Where) -> None:
    """No answer has come from there in time: for a while the other addresses of that name are tried first."""
    _proven.discard(where)
    _suspects[where] = now() + SUSPECTED


def targets(address: Address, patience: Patience) -> list[Target]:
    """The addresses of a host in the order in which they are to be tried. Raises `ConnectFailed`, `Cancelled`.

    The system's order, but of two families in turns; and behind all others those that have fallen silent.
    """
    found = [Target(family, where) for family, where in _resolve(address, patience)]
    families = {target.family: [one for one in found if one.family == target.family] for target in found}
    longest = max((len(some) for some in families.values()), default=0)
    mixed = [some[at] for at in range(longest) for some in families.values() if at < len(some)]
    return sorted(mixed, key=lambda target: _suspects.get(target.where, 0.0) > now())


def _resolve(address: Address, patience: Patience) -> Iterable[tuple[int, Where]]:
    """What the host stands for. A name that the resolver is silent about, or cannot tell now, is what it was before."""
    # As bytes: for a string Python loads its codec for international names first.
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
    """Do something that cannot be interrupted in a thread of its own, which is left behind at the deadline: None.

    Raises what the work raises, and `Cancelled`.
    """
    from distlock_core.base.threads import start_thread

    answers: list[Answer] = []
    errors: list[Exception] = []
    reader, writer = os.pipe()

    def run() -> None:
        try:
            answers.append(work())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
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
