"""Login: the auth token of a client, for both drivers, and its renewal.

Tokens expire: after etcd's --auth-token-ttl, when the member that issued them restarts, and, depending on the kind of
token, when users or roles are changed. So a refused token is a reason to log in again, not an error.
"""

from __future__ import annotations

from distlock_core.base.deadline import now
from distlock_core.errors import AccessDenied, ConfigError
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.http1 import ConnectionLost
from distlock_core.etcd.refused import FAILED_PRECONDITION, MALFORMED, PERMISSION_DENIED, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from distlock_core.etcd.auth.access import Access
    from distlock_core.etcd.endpoints import Attempt

    Answer = TypeVar("Answer")

WRONG_PASSWORD, NOT_ENABLED = "authentication failed", "authentication is not enabled"
FRESH = 10.0  # seconds; a younger token cannot be why a watch was refused


class Login:
    """The token of one user, shared by all calls to one cluster. A login costs etcd a commit and some 60 ms."""

    def __init__(self, access: Access, authenticate: Callable[[Attempt, str, str], str]) -> None:
        """`authenticate` asks an endpoint for the token of a user, by name and password. It raises as a call does."""
        self._access = access
        self._authenticate = authenticate
        self._token: str | None = None
        self._since = 0.0

    def ask(self, attempt: Attempt, ask: Callable[[Attempt, str], Answer]) -> Answer:
        """Ask an endpoint with the token, which is empty while etcd needs none. A refused token is renewed once.

        Raises `AccessDenied` for a wrong password, and the errors of `ask`. A request that etcd refuses because of its
        token was not carried out, so it may be sent again.
        """
        token = self._token
        if token is None:
            token = self._log_in(attempt)
        try:
            return ask(attempt, token)
        except Refused as refusal:
            if not _outdated(refusal, token):
                raise
        return ask(attempt, self._log_in(attempt))

    def suspect(self) -> None:
        """Log in again before the next call, unless the token is fresh: a watch was refused without a reason."""
        if now() - self._since > FRESH:
            self._token = None

    def _log_in(self, attempt: Attempt) -> str:
        user = self._access.user or ""
        try:
            self._token = self._authenticate(attempt, user, self._access.secret())
        except ConfigError as error:  # the password file may be replaced at this moment
            raise AccessDenied(f"cannot log in to etcd as {user!a}: {error.message}") from error
        except Refused as refusal:
            if refusal.code == FAILED_PRECONDITION and NOT_ENABLED in refusal.message:
                self._token = ""  # if authentication is enabled later, a call is refused then
            elif refusal.passing:
                raise ConnectFailed(refusal.message) from refusal
            elif WRONG_PASSWORD in refusal.message:
                raise AccessDenied(f"etcd refuses user {user!a}: wrong password, or no such user") from refusal
            else:
                raise AccessDenied(f"etcd refuses user {user!a}: {refusal.message}") from refusal
        except ConnectionLost as failure:
            raise ConnectFailed(str(failure)) from failure  # the request has not been sent
        except MALFORMED as failure:
            raise ConnectFailed("it answers, but not as etcd does") from failure
        self._since = now()
        return self._token or ""


def _outdated(refusal: Refused, token: str) -> bool:
    if refusal.wants_login:
        return True
    # With --client-cert-auth, a call without a token counts as one of the certificate's user, who may not exist.
    return refusal.code == PERMISSION_DENIED and not token
