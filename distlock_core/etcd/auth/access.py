"""Access: the certificates and the user of a client of etcd."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.etcd.auth.password_file import read_password_file


class Access(Value):
    """Credentials of a client, and the CA that it trusts. Certificates are paths of PEM files; None if not used."""

    cacert: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None
    user: str | None = None
    password: str | None = None
    password_file: str | None = None

    def __repr__(self) -> str:
        return f"Access(cacert={self.cacert!r}, cert={self.cert!r}, user={self.user!r})"

    @property
    def wants_tls(self) -> bool:
        """True if it has a secret, or a setting that applies only to TLS.

        Endpoints without a scheme are then https.
        """
        secret = self.user or self.password or self.password_file
        return bool(self.cacert or self.cert or self.key or self.server_name or secret)

    def secret(self) -> str:
        """The current password: a password file is read at each call, since it may change. Raises `ConfigError`."""
        if self.password or self.password_file is None:
            return self.password or ""
        return read_password_file(self.password_file)
