"""The ttl of a lock: its default, its limits and its shares. All times are in seconds."""

from __future__ import annotations

from distlock_core.errors import ConfigError

DEFAULT_TTL = 60  # of a lock that has to be leased, if no ttl is set
LONGEST_TTL = 366 * 24 * 3600  # a longer lease is a mistake (etcd itself allows 285 years)
LONGEST_BEAT = 24 * 3600  # between two signs of life
RIDE_OUT = 1.0  # shortest outage that a leased hold must survive


def refresh_of(ttl: float, refresh: float | None = None) -> float:
    """The time between two renewals: `refresh` if set, else a third of the ttl."""
    return ttl / 3 if refresh is None else refresh


def longest_call(ttl: float) -> float:
    """The time limit of one call to etcd while a lease has to be renewed: it must leave time for another one."""
    return ttl / 3


def kill_after_of(ttl: float) -> float:
    """The default time from SIGTERM to SIGKILL: a sixth of the ttl."""
    return ttl / 6


def check_ttl(ttl: int, refresh: float | None = None, kill_after: float = 0.0) -> None:
    """Check that the times are consistent. Raises `ConfigError`.

    The time left between a due renewal and the first signal to the command is what a failover of etcd may take: it must
    be at least `RIDE_OUT`.
    """
    if not 1 <= ttl <= LONGEST_TTL:
        raise ConfigError(f"the ttl must be from 1 to {LONGEST_TTL} seconds, not {ttl}", about=("ttl",))
    if refresh is not None and not 0 < refresh < ttl:
        raise ConfigError(
            f"the refresh must be above 0 and below the ttl of {ttl}s, not {refresh:g}", about=("refresh", "ttl")
        )
    spare = ttl - refresh_of(ttl, refresh) - kill_after
    if spare < RIDE_OUT - 1e-6:
        instead = ", or a shorter refresh or kill_after" if ttl > RIDE_OUT else ""
        raise ConfigError(
            f"ttl {ttl}s is too short: refresh and kill_after leave {max(spare, 0):.2g}s of it for a failover of etcd, "
            f"and at least {RIDE_OUT:g}s is needed; use a longer ttl{instead}",
            about=("ttl", "refresh", "kill_after"),
        )


def check_beat(beat: int) -> int:
    """Return the seconds between two signs of life if they are valid. Raises `ConfigError`."""
    if type(beat) is not int or not 1 <= beat <= LONGEST_BEAT:
        raise ConfigError(f"the beat must be a whole number of seconds from 1 to {LONGEST_BEAT}, not {beat!a}")
    return beat
