"""Security of an embedded etcd, and the settings of its clients: certificates, users and roles."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from distlock_core.embedded.certificates import Authority, Certificate

if TYPE_CHECKING:
    from typing import Protocol

    class Administered(Protocol):
        """A running cluster whose users can be administered."""

        def etcdctl(self, *args: str, input: str | None = None) -> str: ...  # noqa: A002


ROOT, ROOT_PASSWORD = "root", "roots-very-own"
Grant = tuple[str, str]  # read, write or readwrite; a prefix


class Tls(NamedTuple):
    """TLS between an etcd and its clients. Traffic between members is unencrypted."""

    authority: Authority
    server: Certificate
    client: Certificate
    wants_client_cert: bool = False

    @classmethod
    def make(cls, folder: str, *, wants_client_cert: bool = False, server: Certificate | None = None) -> Tls:
        """Make a CA in the folder, a server's certificate (unless given), and a client's without a common name."""
        authority = Authority(folder)
        return cls(authority, server or authority.issue(), authority.issue(names=()), wants_client_cert)

    @property
    def flags(self) -> list[str]:
        """The flags for etcd."""
        flags = [f"--cert-file={self.server.cert}", f"--key-file={self.server.key}"]
        if self.wants_client_cert:
            flags += [f"--trusted-ca-file={self.authority.cacert}", "--client-cert-auth"]
        return flags

    @property
    def settings(self) -> dict[str, str]:
        """The arguments of `connect()` for a client; with the prefix DISTLOCK_ the command's environment variables."""
        own = {"cert": self.client.cert, "key": self.client.key} if self.wants_client_cert else {}
        return {"cacert": self.authority.cacert, **own}

    def context(self) -> ssl.SSLContext:
        """The TLS context for inspecting etcd in tests. Names are not checked, since some tests use a wrong one."""
        context = ssl.create_default_context(cafile=self.authority.cacert)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.load_cert_chain(self.client.cert, self.client.key)
        return context


class Auth(NamedTuple):
    """Enabled authentication: its user `root`, who may do everything."""

    user: str = ROOT
    password: str = ROOT_PASSWORD

    @classmethod
    def enable(cls, cluster: Administered) -> Auth:
        """Enable it in a running cluster."""
        auth = cls()
        for words in (
            ("user", "add", auth.user, "--interactive=false"),
            ("user", "grant-role", auth.user, "root"),
            ("auth", "enable"),
        ):
            cluster.etcdctl(*words, input=f"{auth.password}\n")
        return auth


def add_user(cluster: Administered, user: str, password: str, grants: Sequence[Grant]) -> None:
    """Add a user with a role of the same name, which has only these grants. The password must have no blanks."""
    cluster.etcdctl("user", "add", user, "--interactive=false", input=f"{password}\n")
    cluster.etcdctl("role", "add", user)
    for right, prefix in grants:
        cluster.etcdctl("role", "grant-permission", "--prefix=true", user, right, prefix)
    cluster.etcdctl("user", "grant-role", user, user)


def environment(settings: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a client as environment variables for the command."""
    return {f"DISTLOCK_{key.upper()}": str(value) for key, value in settings.items()}
