"""A call, carried to one endpoint after the other until one answers: the same for both drivers."""

from __future__ import annotations

from collections.abc import Callable

from distlock_core.base.deadline import Patience
from distlock_core.errors import OutcomeUnknown
from distlock_core.etcd.endpoints import Attempt, Endpoints, WrongCluster
from distlock_core.etcd.happy_eyeballs import ConnectFailed
from distlock_core.etcd.http.reply import ConnectionLost, TooLarge
from distlock_core.etcd.refused import MALFORMED, Refused, translate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    Answer = TypeVar("Answer")

SPEAKS_TLS = "it speaks TLS there: use https://"
# etcd 3.5.0 to 3.5.4 die of a client that goes away while a transaction that only reads is on: nobody hangs up at once.
LINGER = 0.25  # seconds that a call which was called off waits for the answer that is on its way
LATE = 2.0  # seconds that the connection of a call whose time is up stays open, while its caller goes on


def ask_in_turn(
    endpoints: Endpoints,
    ask: Callable[[Attempt], Answer],
    patience: Patience,
    *,
    once: bool = False,
    benign: int = -1,
) -> Answer | None:
    """Ask one endpoint after the other, until one answers.

    What must not be sent twice (`once`) is given up with `OutcomeUnknown` as soon as it may have arrived and no
    answer came. A refusal of the `benign` code counts as an answer: None.
    """
    for attempt in endpoints.attempts(patience):
        try:
            return ask(attempt)
        except ConnectFailed as failure:
            attempt.failure = str(failure)
            attempt.astray = isinstance(failure.__cause__, WrongCluster)  # found out before anything was sent
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
