"""
Events of locks in etcd v3, as they happen, whoever causes them: Salt, Ansible, Puppet, or a person with the command.

.. code-block:: yaml

    beacons:
      distlock:
        - locks: [percona_prod, 'es-*']
        - events: [lost, kept]

Each event has the tag ``salt/beacon/MINION/distlock/lock/NAME/EVENT``, and the fields of ``distlock --watch --json``
without those that are unknown. EVENT is ``acquired``, ``released``, ``lost`` (ended by another while its process
held it), ``kept`` (left taken after a failure), ``frozen`` or ``thawed``; a freeze of the whole realm has the tag
``.../distlock/realm/frozen``. Settings are described in the execution module ``distlock``.

One minion is enough for a realm: each beacon has a connection to etcd. The beacon follows etcd in a separate thread,
and never delays the minion; while etcd is away nothing is missed.

:depends: Python package distlock-core, in the minion's own Python
"""

from __future__ import annotations

import sys

try:
    from distlock_core.cli.salt import beacon as events

    MISSING = ""
except ImportError as error:
    MISSING = str(error)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    __salt__: dict[str, Any]
    __opts__: dict[str, Any]

__virtualname__ = "distlock"


def __virtual__() -> str | tuple[bool, str]:
    if MISSING:
        return False, (
            f"distlock: the Python package distlock-core is missing in {sys.executable} ({MISSING}). "
            "To install it: salt-pip install distlock_core-VERSION-py3-none-any.whl, the wheel that `make wheel` builds"
        )
    return __virtualname__


def validate(config: list[dict[str, Any]]) -> tuple[bool, str]:
    """Check the configuration of the beacon."""
    mistake = events.mistake_in(config)
    return not mistake, mistake or "Valid beacon configuration"


def beacon(config: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Return the events since the last call. The first call starts the watch, and returns none.

    locks
        Names of locks, and patterns of names: ``*`` is any text, ``?`` one character. Default: all locks.

    events
        ``acquired``, ``released``, ``lost``, ``kept``, ``frozen``, ``thawed``. Default: all of them.

    endpoints, prefix, profile, connect_timeout
        Where the locks are. Default: the settings in minion config or pillar.
    """
    return events.poll(config, __salt__, __opts__)


def close(config: list[dict[str, Any]]) -> None:
    """End the thread of the beacon, and its connection to etcd."""
    events.close(config)
