"""Tls: the TLS context for connections to etcd, made from PEM files, and made again when they change.

Loaded for https endpoints only. A server's certificate is always verified; nothing switches that off.

The module `ssl` takes twice as long to import as Python takes to start. `_ssl`, the C code beneath it, is what verifies
certificate and name, defines the errors, and sets the defaults of a client's context.
"""

from __future__ import annotations

import _ssl as ssl
import os

from distlock_core.errors import ConfigError
from distlock_core.etcd.address import Address
from distlock_core.etcd.auth.access import Access

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from ssl import SSLObject
    from typing import Any

LARGEST = 16 * 2**20  # bytes; a larger file is no PEM file


class Context(ssl._SSLContext):
    """The context of a client, which verifies certificate and name."""

    def __new__(cls) -> Context:
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        self.minimum_version = ssl.PROTO_TLSv1_2
        # Only the subjectAltName of a certificate counts, as in Go: the common name is ignored.
        self._host_flags |= ssl.HOSTFLAG_NEVER_CHECK_SUBJECT  # type: ignore[attr-defined]
        return self

    def wrap(self, connected: socket, name: str) -> SSLObject:
        """TLS on a socket, before the handshake. Raises `ValueError` for a name that no server can have, `OSError`."""
        # Always with a name: without one, none would be verified. The C code refuses an empty one.
        ascii_name = name if name.isascii() else name.encode("idna").decode("ascii")
        wrapped: SSLObject = self._wrap_socket(connected, False, ascii_name)  # type: ignore[attr-defined]
        return wrapped


class Tls:
    """TLS state shared by all connections to one cluster."""

    def __init__(self, access: Access | None) -> None:
        self.access = access or Access()
        self._context: Context | None = None
        self._stamps: tuple[tuple[int, int] | None, ...] = ()
        self.checked: set[Address] = set()  # for gRPC: whose certificate was verified with this context
        self.for_grpc: tuple[Context, Any] | None = None  # gRPC's credentials from the files of this context

    def context(self) -> Context:
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


def make_context(access: Access) -> Context:
    """Return a context that verifies the server. Raises `ConfigError` for an unusable file."""
    context = Context()
    if access.cacert:
        _pem(access.cacert, "cacert", "CERTIFICATE")
        # As in Go: the trusted file may have an intermediate CA, or the server's certificate itself.
        context.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0)
        try:
            context.load_verify_locations(cafile=access.cacert)
        except ssl.SSLError as error:
            raise ConfigError(f"cacert {access.cacert}: {_damaged(error)}") from None
    else:
        context.set_default_verify_paths()
    if access.cert:
        _load_own(context, access.cert, access.key)
    return context


def _load_own(context: Context, cert: str, key: str | None) -> None:
    _pem(cert, "cert", "CERTIFICATE")
    where = f"key {key}" if key else f"cert {cert} (no key is set, so it is looked for there)"
    if b"ENCRYPTED" in _pem(key or cert, "key" if key else "cert", "PRIVATE KEY"):
        raise ConfigError(f"{where}: it is encrypted, and distlock cannot ask for a passphrase: use one without")
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
        raise ConfigError(f"{setting} {path}: it is larger than {LARGEST // 2**20} MiB, so not a PEM file")
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
