"""A gRPC connection to one member. Every wait is a `Patience`: one deadline for the whole call, interruptible.

gRPC does its work in threads of its own. They take no signals: one that such a thread took would be missed by
whoever waits for it with `sigwaitinfo`. They inherit that from whoever starts them, so every step that may start one
is taken with all signals held back.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import threading
import weakref

from distlock_core.errors import Cancelled
from distlock_core.etcd.calls import LATE, LINGER, SPEAKS_TLS
from distlock_core.etcd.http1 import ConnectFailed, Connection, ConnectionLost, resolve
from distlock_core.etcd.messages import MALFORMED, NoGateway, Refused, read_answer
from distlock_core.patience import Patience
from distlock_core.threads import start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any

    from distlock_core.etcd.http1 import Address
    from distlock_core.etcd.tls import Tls

    Metadata = tuple[tuple[str, str], ...]

CANCELLED, DEADLINE_EXCEEDED, UNIMPLEMENTED, UNAVAILABLE = 1, 4, 12, 14
READY = 2  # the state of a channel
OURS = "etcdserver: "  # what etcd's own refusals begin with; gRPC's begin otherwise
NOT_SENT = "failed to connect to all addresses"
# Of the time to connect with TLS, what gRPC may take: the rest is for finding out what it hangs in.
FOR_GRPC = 0.75
OPTIONS = (
    # A connection of its own, as with HTTP: one that has failed takes no other with it, and none outlives its channel.
    ("grpc.use_local_subchannel_pool", 1),
    # etcd is spoken to directly, whatever proxy the environment names for the web.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),  # whether to send a write again is for the callers to say
)


_ALL: weakref.WeakSet[Channel] = weakref.WeakSet()


def _never_take_apart() -> None:
    """Keep every channel from being taken apart: that may wait for threads which run no more.

    They stay with the parent in a fork, and stop before all else at the interpreter's end. So each channel gets a
    reference that is never given back.
    """
    for channel in _ALL:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(channel.raw))


os.register_at_fork(after_in_child=_never_take_apart)
atexit.register(_never_take_apart)


class Bell:
    """Rung in one thread, waited for with a `Patience` in another."""

    def __init__(self) -> None:
        # Closed with the last reference, and not before: gRPC may ring it late.
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)

    def ring(self, *_: object) -> None:
        try:
            os.write(self._writer, b"!")
        except BlockingIOError:
            pass  # it rings already

    def hush(self) -> None:
        try:
            os.read(self._reader, 4096)
        except BlockingIOError:
            pass

    def fileno(self) -> int:
        return self._reader

    def __del__(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


class SignalsHeld:
    """Holds all signals back, so that threads which are started meanwhile take none."""

    def __enter__(self) -> None:
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)


class Channel:
    """A connection to one member, for any number of calls at once. Made by `connect()`."""

    def __init__(self, address: Address, raw: Any) -> None:
        self.address = address
        self.raw = raw
        self._lock = threading.Lock()
        self._calls = 0
        self._given_up = False
        _ALL.add(self)

    def call(self, method: Callable[[Any], Any], request: Any, metadata: Metadata, patience: Patience) -> Any:
        """Send one request and return the one answer. `method` finds what is to be called in a raw channel.

        Raises `ConnectFailed` when it surely was not sent, `ConnectionLost` when it may have been, `Refused`,
        `Cancelled`.
        """
        bell = Bell()
        with self._lock:
            self._calls += 1
        call, late = None, False
        try:
            # etcd is told of the time-out, and keeps to it by itself.
            timeout = patience.left() + LATE
            with SignalsHeld():
                call = method(self.raw).future(request, timeout=timeout, metadata=metadata)
                call.add_done_callback(bell.ring)
            try:
                answered = patience.wait(bell.fileno())
            except Cancelled:
                Patience.lasting(LINGER).wait(bell.fileno())
                raise
            if not answered:
                late = True
                raise ConnectionLost("timed out")
            if call.code().value[0]:
                raise failure_of(call)
            return call.result()
        finally:
            if late:
                start_thread(lambda: self._end_late(call, bell), "distlock-late")
            else:
                self._end(call)

    def is_connected(self) -> bool:
        """False when the connection is lost: gRPC makes another by itself, to whoever is there by then.

        Also where gRPC does not say. Its public way to ask starts threads, and a fork at that moment ends the child.
        """
        ask = getattr(getattr(self.raw, "_channel", None), "check_connectivity_state", None)
        try:
            return ask is not None and ask(False) == READY
        except ValueError:
            return False  # another thread has closed it

    def give_up(self) -> None:
        """Close it as soon as its calls have ended."""
        with SignalsHeld():
            self._given_up = True
            self._close_if_unused()

    def _end_late(self, call: Any, bell: Bell) -> None:
        Patience.lasting(LATE).wait(bell.fileno())
        self._end(call)

    def _end(self, call: Any) -> None:
        with SignalsHeld():
            if call is not None:
                call.cancel()
            with self._lock:
                self._calls -= 1
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        with self._lock:
            unused = self._given_up and not self._calls
        if unused:
            self.raw.close()


def connect(rpc: Any, address: Address, tls: Tls | None, patience: Patience) -> tuple[Channel, int]:
    """Connect to a member, and return when it has answered, with the id of its cluster.

    It is asked for its status, so that nothing of the caller's is in doubt when no answer comes. Raises
    `ConnectFailed`, `ConfigError`, `Cancelled`.
    """
    whole = patience
    options = [*OPTIONS, ("grpc.default_authority", address.url.partition("://")[2])]
    credentials = None
    if tls is not None:
        credentials = _credentials(tls)
        patience = whole.within(whole.left() * FOR_GRPC)
        options.append(("grpc.ssl_target_name_override", tls.expected_name(address)))
    # By the system's own means, as over HTTP: gRPC has a resolver of its own.
    for *_, target in resolve(address, patience):
        with SignalsHeld():
            channel = Channel(address, _open(target, credentials, options))
        try:
            status = channel.call(lambda raw: rpc.MaintenanceStub(raw).Status, rpc.StatusRequest(), (), patience)
            return channel, status.header.cluster_id
        except (ConnectFailed, ConnectionLost) as failure:
            channel.give_up()
            if whole.over():
                raise ConnectFailed("timed out") from failure
        except Refused as refusal:
            channel.give_up()
            raise ConnectFailed(refusal.message) from refusal
        except BaseException:
            channel.give_up()
            raise
    raise ConnectFailed(_why(address, tls, whole))


def _open(target: tuple[Any, ...], credentials: Any, options: Sequence[tuple[str, Any]]) -> Any:
    import grpc

    host, port = target[0].replace("%", "%25"), target[1]
    uri = f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
    if credentials is None:
        return grpc.insecure_channel(uri, options)
    return grpc.secure_channel(uri, credentials, options)


def _credentials(tls: Tls) -> Any:
    context = tls.context()  # says what is wrong with the files; as long as they are wrong, the one before
    if tls.for_grpc is None or tls.for_grpc[0] is not context:
        tls.for_grpc = context, _new_credentials(tls)
    return tls.for_grpc[1]


def _new_credentials(tls: Tls) -> Any:
    import grpc

    access = tls.access
    cert = _content(access.cert) if access.cert else None
    key = _content(access.key) if access.key else cert
    return grpc.ssl_channel_credentials(_content(access.cacert) if access.cacert else _known_to_the_system(), key, cert)


def _known_to_the_system() -> bytes:
    """The authorities that this machine trusts. gRPC would take those that it brings itself."""
    import glob
    import ssl

    paths = ssl.get_default_verify_paths()
    files = [paths.cafile] if paths.cafile else glob.glob(os.path.join(glob.escape(paths.capath or ""), "*.[0-9]"))
    return b"\n".join(_content(file) for file in files)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConnectFailed(f"{path} cannot be read: {error.strerror}") from error


def failure_of(call: Any) -> Exception:
    """What it means that a call has ended with an error: `ConnectFailed`, `ConnectionLost` or `Refused`."""
    code, details = call.code().value[0], call.details() or ""
    if details.startswith(OURS):
        return Refused(code, details)
    if code == UNAVAILABLE:
        return (ConnectFailed if details.startswith(NOT_SENT) else ConnectionLost)("closed the connection")
    if code in (CANCELLED, DEADLINE_EXCEEDED):
        return ConnectionLost("timed out" if code == DEADLINE_EXCEEDED else "closed the connection")
    if code == UNIMPLEMENTED:
        return ConnectionLost("it answers, but not as etcd does")
    return Refused(code, details)


def _why(address: Address, tls: Tls | None, patience: Patience) -> str:
    """Why no connection comes about. gRPC has no words for it that can be relied on: so it is tried once more."""
    try:
        connection = Connection(address, patience) if tls is None else _secure(address, tls, patience)
    except ConnectFailed as failure:
        return str(failure)
    try:
        stream = connection.open("/v3/maintenance/status", b"{}", patience)
        read_answer(stream.status, stream.read_all(patience))
    except (ConnectFailed, ConnectionLost) as failure:
        if not isinstance(failure, NoGateway):
            if tls is None and _is_tls_spoken(address, patience):
                return SPEAKS_TLS
            return "timed out" if patience.over() else str(failure)  # there was no time to find out
    except (Refused, *MALFORMED):
        pass
    finally:
        connection.close()
    return "it answers, but not over gRPC"


def _is_tls_spoken(address: Address, patience: Patience) -> bool:
    from distlock_core.etcd.tls import is_spoken

    return is_spoken(address, patience)


def _secure(address: Address, tls: Tls, patience: Patience) -> Connection:
    from distlock_core.etcd.tls import SecureConnection

    return SecureConnection(address, patience, tls)
