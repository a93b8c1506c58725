"""Access: with which certificates, and as which user, etcd is spoken to."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.etcd.auth.password_file import read_password_file


class Access(Value):
    """What a client says of itself, and whom it trusts. Paths of PEM files; None for what is not used."""

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
        """True if it has a secret, or says something that only TLS has a use for.

        What is not said to be plain in as many words is spoken to over TLS then.
        """
        secret = self.user or self.password or self.password_file
        return bool(self.cacert or self.cert or self.key or self.server_name or secret)

    def secret(self) -> str:
        """The password as it is now: a file is read again, since it may have been changed. Raises `ConfigError`."""
        if self.password or self.password_file is None:
            return self.password or ""
        return read_password_file(self.password_file)
