"""Failover of a call: one endpoint after another, until one answers. Shared by both drivers."""

from __future__ import annotations

from distlock_core.base.deadline import Patience
from distlock_core.errors import OutcomeUnknown
from distlock_core.etcd.endpoints import Attempt, Endpoints, WrongCluster
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.reply import ConnectionLost, TooLarge
from distlock_core.etcd.refused import MALFORMED, Refused, translate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    Answer = TypeVar("Answer")

SPEAKS_TLS = "it speaks TLS there: use https://"
# etcd 3.5.0-3.5.4 crashes if a client disconnects during a read-only transaction, so never close at once.
LINGER = 0.25  # seconds that a cancelled call waits for an answer that may be on its way
LATE = 2.0  # seconds that the connection of a call stays open after its deadline, while its caller goes on


def ask_in_turn(
    endpoints: Endpoints,
    ask: Callable[[Attempt], Answer],
    patience: Patience,
    *,
    once: bool = False,
    benign: int = -1,
) -> Answer | None:
    """Ask one endpoint after another until one answers, and return its answer.

    A request that must not be sent twice (`once`) raises `OutcomeUnknown` as soon as it may have arrived without an
    answer. A refusal with the code `benign` counts as the answer None.
    """
    for attempt in endpoints.attempts(patience):
        try:
            return ask(attempt)
        except ConnectFailed as failure:
            attempt.failure = str(failure)
            attempt.astray = isinstance(failure.__cause__, WrongCluster)  # noticed before anything was sent
        except Refused as refusal:
            if refusal.code == benign >= 0:
                return None
            if not refusal.passing:
                raise translate(refusal) from refusal
            attempt.failure = refusal.message
            if once and not refusal.undone:
                raise OutcomeUnknown(f"{attempt.address.url}: {refusal.message}") from refusal
        except (ConnectionLost, *MALFORMED) as failure:
            lost = isinstance(failure, ConnectionLost)
            attempt.in_vain = isinstance(failure, TooLarge)
            attempt.failure = str(failure) if lost else "it answers, but not as etcd does"
            attempt.astray = isinstance(failure, WrongCluster)
            if once:
                raise OutcomeUnknown(f"{attempt.address.url}: {attempt.failure}") from failure
    raise AssertionError("attempts end with an error")
