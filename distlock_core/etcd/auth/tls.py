"""TLS connections to etcd: trusted CAs, client certificates, and plain words for what is wrong when they fail.

Loaded for https endpoints only. A server's certificate is always verified; nothing switches that off.
"""

from __future__ import annotations

import os
import select
import socket
import ssl

from distlock_core.errors import ConfigError
from distlock_core.etcd.address import Address
from distlock_core.etcd.auth.access import Access
from distlock_core.etcd.happy_eyeballs import ConnectFailed, suspect
from distlock_core.etcd.http.http1 import CHUNK, Connection, ConnectionLost, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from distlock_core.base.deadline import Patience

LARGEST = 16 * 2**20  # bytes; a larger file is no PEM file
LISTENING = 0.3  # seconds that finding out why an endpoint disconnects may take
EXPIRED, NOT_YET_VALID, HOST_MISMATCH, IP_MISMATCH = 10, 9, 62, 64  # OpenSSL's numbers
UNKNOWN_CA = frozenset({2, 18, 19, 20, 21})
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")
NO_VERSION = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE")
# OpenSSL 3.0, for example with Debian's Python 3.11.2, raises the second where others raise the first.
HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
ABOUT_MY_CERTIFICATE = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED", "DECRYPT_ERROR")


class Tls:
    """TLS state shared by all connections to one cluster."""

    def __init__(self, access: Access | None) -> None:
        self.access = access or Access()
        self._context: ssl.SSLContext | None = None
        self._stamps: tuple[tuple[int, int] | None, ...] = ()
        self.checked: set[Address] = set()  # for gRPC: whose certificate was verified with this context
        self.for_grpc: tuple[ssl.SSLContext, Any] | None = None  # gRPC's credentials from the files of this context

    def context(self) -> ssl.SSLContext:
        """Return the context, made again when a file has changed: certificates are renewed while a lock is held.

        Raises `ConfigError`, but only until it has succeeded once, since a file may be read while it is half written.
        """
        stamps = tuple(_stamp(path) for path in (self.access.cacert, self.access.cert, self.access.key) if path)
        if self._context is None or stamps != self._stamps:
            try:
                self._context = make_context(self.access)
                self._stamps = stamps
                self.checked = set()
            except ConfigError:
                if self._context is None:
                    raise
        return self._context

    def expected_name(self, address: Address) -> str:
        return self.access.server_name or address.host


class SecureConnection(Connection):
    """A connection over TLS."""

    _socket: ssl.SSLSocket

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
            return bool(self._inbox.data) or self._socket.recv(1) is not None
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True

    def _shake_hands(self, context: ssl.SSLContext, patience: Patience) -> None:
        name = self._tls.expected_name(self.address)
        plain = socket.socket(fileno=self._socket.detach())  # of the type that the module ssl accepts
        plain.setblocking(False)
        try:
            self._socket = context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=False)
        except (ValueError, OSError) as error:
            plain.close()
            raise ConnectFailed(f"TLS cannot begin: {error}") from error
        while True:
            try:
                self._socket.do_handshake()
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
                view = view[self._socket.send(view) :]
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                if patience.over() or not self._ready(want, patience):
                    raise ConnectionLost("timed out") from None
            except OSError as error:
                raise self._broken(self._last_words() or error) from error

    def receive(self, patience: Patience) -> bytes | None:
        while True:
            try:
                return self._socket.recv(CHUNK)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as want:
                if not self._ready(want, patience):
                    return None
            except OSError as error:
                raise self._broken(error) from error

    def _ready(self, want: ssl.SSLError, patience: Patience) -> bool:
        events = select.POLLIN if isinstance(want, ssl.SSLWantReadError) else select.POLLOUT
        return patience.wait(self._socket.fileno(), events)

    def _last_words(self) -> OSError | None:
        """The server's last alert. With TLS 1.3 it verifies the client's certificate after the client's handshake."""
        try:
            self._socket.recv(1)
        except OSError as error:
            return error if isinstance(error, ssl.SSLError) and error.reason else None
        return None

    def _broken(self, error: OSError) -> Exception:
        words = self._words(error)
        if isinstance(error, ssl.SSLError) and any(word in (error.reason or "") for word in ABOUT_MY_CERTIFICATE):
            return ConnectFailed(words)  # refused before the server has read a request
        return ConnectionLost(words)

    def _words(self, error: OSError) -> str:
        return words(error, self._tls.expected_name(self.address), self._tls.access)


def is_spoken(address: Address, patience: Patience) -> bool:
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


def words(error: OSError, name: str, access: Access) -> str:
    """The cause of a TLS error in plain words. `name` is the server's expected name."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _refused_by_me(error, name, access)
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, HUNG_UP):
        return "closed the connection"
    if not isinstance(error, ssl.SSLError):
        return reason_of(error)
    if any(word in reason for word in NO_TLS):
        return "it does not speak TLS there: an http:// endpoint, or no etcd"
    if any(word in reason for word in NO_VERSION):
        return "it has no version of TLS in common with this machine"
    if any(word in reason for word in ABOUT_MY_CERTIFICATE):
        if access.cert is None:
            return "it wants a client certificate: set cert and key"
        if "EXPIRED" in reason:
            return f"it refuses the client certificate {access.cert}: it has expired"
        if "UNKNOWN_CA" in reason:
            return f"it refuses the client certificate {access.cert}: it does not know the authority that signed it"
        return f"it refuses the client certificate {access.cert}: expired, or not of an authority that it trusts"
    return f"TLS failed: {reason.replace('_', ' ').lower() or error}"


def _refused_by_me(error: ssl.SSLCertVerificationError, name: str, access: Access) -> str:
    code = error.verify_code
    if code == EXPIRED:
        return "its certificate has expired"
    if code == NOT_YET_VALID:
        return "its certificate is not valid yet, or this machine's clock is wrong"
    if code in (HOST_MISMATCH, IP_MISMATCH):
        hint = "" if access.server_name else ": name it as the certificate does, or set tls_server_name"
        return f"its certificate is not one for {name}{hint}"
    if code in UNKNOWN_CA:
        if access.cacert:
            return f"its certificate is not signed by the authority in {access.cacert}"
        return "its certificate is not signed by an authority that this machine knows: set cacert"
    return f"its certificate is refused: {error.verify_message}"


def make_context(access: Access) -> ssl.SSLContext:
    """Return a context that verifies the server. Raises `ConfigError` for an unusable file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Only the subjectAltName of a certificate counts, as in Go: the common name is ignored.
    context.hostname_checks_common_name = False
    if access.cacert:
        _pem(access.cacert, "cacert", "CERTIFICATE")
        # As in Go: the trusted file may have an intermediate CA, or the server's certificate itself.
        context.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", ssl.VerifyFlags(0))
        try:
            context.load_verify_locations(cafile=access.cacert)
        except ssl.SSLError as error:
            raise ConfigError(f"cacert {access.cacert}: {_damaged(error)}") from None
    else:
        context.load_default_certs()
    if access.cert:
        _load_own(context, access.cert, access.key)
    return context


def _load_own(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    _pem(cert, "cert", "CERTIFICATE")
    where = f"key {key}" if key else f"cert {cert} (no key is set, so it is looked for there)"
    if b"ENCRYPTED" in _pem(key or cert, "key" if key else "cert", "PRIVATE KEY"):
        raise ConfigError(f"{where}: it is encrypted, and nobody is asked for a passphrase: use one without")
    try:
        context.load_cert_chain(cert, key, password="")  # otherwise OpenSSL would prompt for it
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error.reason) or "KEY_TYPE_MISMATCH" in str(error.reason):
            raise ConfigError(f"key {key or cert} does not belong to the certificate {cert}") from None
        raise ConfigError(f"cert {cert}, {where}: {_damaged(error)}") from None


def _pem(path: str, setting: str, kind: str) -> bytes:
    """The content of a PEM file that has a block of this kind."""
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{setting} {path}: cannot be read: {reason}") from None
    if len(content) > LARGEST:
        raise ConfigError(f"{setting} {path}: it is larger than {LARGEST // 2**20} MiB, so it is no PEM file")
    if not any(line.startswith(b"-----BEGIN ") and kind.encode() in line for line in content.splitlines()):
        what = "private key" if kind == "PRIVATE KEY" else "certificate"
        hint = "; set key, if it is in another file" if setting == "cert" and kind == "PRIVATE KEY" else ""
        raise ConfigError(f"{setting} {path}: no {what} in PEM form in it{hint}")
    return content


def _damaged(error: ssl.SSLError) -> str:
    return f"not valid PEM, or damaged ({(error.reason or 'unreadable').replace('_', ' ').lower()})"


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
