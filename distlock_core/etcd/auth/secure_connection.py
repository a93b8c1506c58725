"""SecureConnection: an HTTP connection to etcd over TLS. Loaded for https endpoints only."""

from __future__ import annotations

import _ssl as ssl  # see tls.py
import select
from _socket import socket

from distlock_core.etcd.address import Address
from distlock_core.etcd.auth.tls_errors import ABOUT_CLIENT_CERTIFICATE, HUNG_UP, explain
from distlock_core.etcd.happy_eyeballs import ConnectFailed, suspect
from distlock_core.etcd.http.http1 import CHUNK, Connection, ConnectionLost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.base.deadline import Patience
    from distlock_core.etcd.auth.tls import Context, Tls

DER = getattr(ssl, "ENCODING_DER", 2)
LISTENING = 0.3  # seconds that finding out why an endpoint disconnects may take


class _Socket(socket):
    """A socket that TLS can have a weak reference to."""

    __slots__ = ("__weakref__",)


class SecureConnection(Connection):
    """A connection over TLS."""

    def __init__(self, address: Address, patience: Patience, tls: Tls) -> None:
        """Connect, with the TLS handshake. Raises `ConnectFailed`, `ConfigError`, `Cancelled`."""
        context = tls.context()
        super().__init__(address, patience)
        self._tls = tls
        try:
            self._shake_hands(context, patience.within(patience.left() / (self.others + 1)))
        except BaseException:
            self.close()
            raise

    def is_stale(self) -> bool:
        # TLS itself may have sent something (a session ticket), so polling the socket is not enough.
        try:
            return bool(self._inbox.data) or self._read(1) is not None
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True

    def shown_certificates(self) -> tuple[bytes, ...]:
        """The server's certificate, and those that it sends with it if this Python tells them, in DER."""
        # From Python 3.10 on; its result is a list of certificates, or of their bytes.
        chain = getattr(self._tls_socket, "get_unverified_chain", None)
        found = [one if isinstance(one, bytes) else one.public_bytes(DER) for one in (chain() if chain else ()) or ()]
        own = self._tls_socket.getpeercert(True)
        return tuple(found) if found else (own,) if own else ()

    def _shake_hands(self, context: Context, patience: Patience) -> None:
        name = self._tls.expected_name(self.address)
        self._socket = _Socket(fileno=self._socket.detach())
        self._socket.setblocking(False)
        try:
            self._tls_socket = context.wrap(self._socket, name)
        except (ValueError, OSError) as error:
            raise ConnectFailed(f"TLS cannot begin: {error}") from error
        while True:
            try:
                self._tls_socket.do_handshake()
                return
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                if patience.over() or not self._ready(want, patience):
                    suspect(self.where)
                    raise ConnectFailed("timed out in the TLS handshake") from None
            except (*HUNG_UP, ConnectionResetError, BrokenPipeError) as error:
                raise ConnectFailed("hangs up in the TLS handshake: http:// there, or no etcd?") from error
            except OSError as error:
                raise ConnectFailed(self._words(error)) from error

    def _send(self, data: bytes, patience: Patience) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._tls_socket.write(view) :]
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                if patience.over() or not self._ready(want, patience):
                    raise ConnectionLost("timed out") from None
            except OSError as error:
                raise self._broken(self._last_words() or error) from error

    def receive(self, patience: Patience) -> bytes | None:
        while True:
            try:
                return self._read(CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                if not self._ready(want, patience):
                    return None
            except OSError as error:
                raise self._broken(error) from error

    def _read(self, most: int) -> bytes:
        try:
            return self._tls_socket.read(most)
        except ssl.SSLEOFError:
            return (
                b""  # disconnected without TLS's close_notify: the answer's length shows whether something is missing
            )

    def _ready(self, want: ssl.SSLError, patience: Patience) -> bool:
        events = select.POLLIN if isinstance(want, ssl.SSLWantReadError) else select.POLLOUT
        return patience.wait(self._socket.fileno(), events)

    def _last_words(self) -> OSError | None:
        """The server's last alert. With TLS 1.3 it verifies the client's certificate after the client's handshake."""
        try:
            self._read(1)
        except OSError as error:
            return error if isinstance(error, ssl.SSLError) and error.reason else None
        return None

    def _broken(self, error: OSError) -> Exception:
        words = self._words(error)
        if isinstance(error, ssl.SSLError) and any(word in (error.reason or "") for word in ABOUT_CLIENT_CERTIFICATE):
            return ConnectFailed(words)  # refused before the server has read a request
        return ConnectionLost(words)

    def _words(self, error: OSError) -> str:
        return explain(error, self._tls.expected_name(self.address), self._tls.access)


def is_tls_spoken(address: Address, patience: Patience) -> bool:
    """True if the port of a plain endpoint speaks TLS: such a server just disconnects, without an explanation."""
    patience = patience.within(LISTENING)
    try:
        connection = Connection(address, patience)
        try:
            connection._send(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", patience)  # a truncated ClientHello
            return (connection.receive(patience) or b"").startswith(b"\x15")  # an alert
        finally:
            connection.close()
    except (ConnectFailed, ConnectionLost):
        return False
