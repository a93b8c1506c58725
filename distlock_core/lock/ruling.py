"""Rules for a claim under the lock's policy, and in windows. Loaded only for a lock that has either."""

from __future__ import annotations

import time

from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.base.warn_once import warn_once
from distlock_core.errors import ConfigError
from distlock_core.hints import POLICY, Hint
from distlock_core.lock.spec import LockSpec, Rules
from distlock_core.model.policy import Policy, differences

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.etcd.values import KeyValue
    from distlock_core.model.keys import Keys

wall = time.time  # the clock that windows are about


class Closed(Value):
    """The state of windows that are closed. `opens_at` is a Unix time, None if they will not open in two years."""

    text: str
    opens_at: float | None
    until: str  # the same in the windows' zone
    for_everybody: bool  # they are the policy's

    def __str__(self) -> str:
        whose = "its policy's window" if self.for_everybody else "the window"
        return f"outside {whose} '{printable(self.text)}' until {self.until}"

    @property
    def seconds_left(self) -> float:
        """Seconds until they open."""
        return float("inf") if self.opens_at is None else max(0.0, self.opens_at - wall())


def rules_under(spec: LockSpec, keys: Keys, kv: KeyValue) -> Rules:
    """The rules under this policy. Warns about settings of the caller that it overrides.

    Raises `ConfigError` if this version cannot follow it.
    """
    policy = Policy.parse(keys.name, kv)
    if policy.trouble:
        raise ConfigError(
            f"{printable(policy.lock)} is not acquired, as its policy cannot be followed: {policy.trouble}",
            hints=[Hint(POLICY, lock=policy.lock)],
        )
    for line in differences(policy, spec.given or {}):
        warn_once(line)
    windows = policy.windows
    return Rules(
        policy.slots or spec.slots,
        windows or spec.windows,
        policy.expect or spec.expect,
        policy.cooldown or spec.cooldown,
        policy.slots is not None,
        windows is not None,
        spec.shared,
    )


def closed(rules: Rules) -> Closed | None:
    """The windows, if they are closed now; None if they are open, or there are none."""
    windows, at = rules.windows, wall()
    if windows is None or windows.is_open(at):
        return None
    opens = windows.opens_at(at)
    return Closed(windows.text, opens, "ever" if opens is None else windows.clock(opens), rules.sets_windows)
