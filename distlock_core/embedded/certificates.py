"""Certificates for tests: a CA, servers and clients, and deliberately wrong ones."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

_HERE = ("DNS:localhost", "IP:127.0.0.1", "IP:::1")
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Certificate(NamedTuple):
    """The paths of a certificate and its key, both PEM."""

    cert: str
    key: str


class Authority:
    """A certificate authority in a folder. Needs the command `openssl`."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = os.fspath(folder)
        self._count = 0
        self.cacert = self._path("ca.pem")
        self._key = self._path("ca.key")
        extensions = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
        added = [word for extension in extensions for word in ("-addext", extension)]
        subject = ("-subj", "/O=distlock tests/CN=distlock test CA")
        self._openssl("req", "-x509", *_KEY, "-keyout", self._key, "-out", self.cacert, "-days", "30", *subject, *added)

    def issue(self, common_name: str = "", *, names: Sequence[str] = _HERE, days: int = 30) -> Certificate:
        """Return a new certificate, for a server or a client.

        `names` are the server's names: "DNS:host" or "IP:address". Without a `common_name` it has none, which etcd's
        JSON gateway requires of clients with auth enabled. One of -1 `days` has expired.
        """
        self._count += 1
        cert, key, request, extensions = (self._path(f"{self._count}.{end}") for end in ("pem", "key", "csr", "ext"))
        subject = "/O=distlock tests" + (f"/CN={common_name}" if common_name else "")
        self._openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", subject)
        with open(extensions, "w", encoding="utf-8") as file:
            # Both uses for servers, too: etcd's gateway connects to its member with the server's certificate.
            file.write("extendedKeyUsage=serverAuth,clientAuth\n")
            if names:
                file.write(f"subjectAltName={','.join(names)}\n")
        signer = ("-CA", self.cacert, "-CAkey", self._key, "-set_serial", str(self._count))
        self._openssl("x509", "-req", "-in", request, *signer, "-days", str(days), "-extfile", extensions, "-out", cert)
        return Certificate(cert, key)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    @staticmethod
    def _openssl(*arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
