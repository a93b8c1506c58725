"""Soak test: managers and members are killed, stopped and restarted; the judge checks mutual exclusion.

    python -m tests.support.soak.run [--seconds=300] [--seed=N] [--ttl=4] [--managers=5]

Never may two managers have the lock at once, and never may it be without a holder for longer than ttl + 5 s. Ends with
1 when one of these was found. The seed draws the same faults again, though not at the same moments.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from typing import Callable, NamedTuple

from distlock_core.testing import Member, etcd_version
from tests.support.soak.field import Contender, Field
from tests.support.soak.judge import gaps, two_at_once
from tests.support.soak.spans import clock

GRACE = 5.0  # seconds beyond the ttl that the lock may be without a holder
FIRST = 30.0  # seconds until the first holder
MOST_OUT = 2  # managers that may be dead or stopped at the same time
RESUMES_SAFELY = (3, 5, 13)  # before it, a leader that was stopped and resumed can end a lease that is alive


class Summary(NamedTuple):
    """The faults, and the observations."""

    seed: int
    ttl: int
    seconds: float
    faults: dict[str, int]
    acquisitions: int
    longest_gap: float
    overlaps: list[str]
    complaints: list[str]

    @property
    def is_good(self) -> bool:
        return not self.overlaps and not self.complaints and self.longest_gap <= self.ttl + GRACE

    def __str__(self) -> str:
        faults = ", ".join(f"{count} x {fault}" for fault, count in sorted(self.faults.items()))
        return "\n".join(
            [
                f"soak: {self.seconds:.0f} s, ttl {self.ttl} s, seed {self.seed}",
                f"  faults        {faults}",
                f"  acquisitions  {self.acquisitions}",
                f"  longest time without a holder  {self.longest_gap:.2f} s (limit {self.ttl + GRACE:g} s)",
                f"  two at once   {len(self.overlaps)}",
                *(f"    {overlap}" for overlap in self.overlaps[:20]),
                *(f"  wrong         {complaint}" for complaint in self.complaints),
                f"  {'good' if self.is_good else 'BAD'}",
            ]
        )


class Chaos:
    """Draws faults, and commits them."""

    def __init__(self, field: Field, ttl: int, chance: random.Random) -> None:
        self._field = field
        self._ttl = ttl
        self._chance = chance
        self.counts: Counter[str] = Counter()
        version = tuple(int(part) for part in etcd_version(field.cluster.etcd).split(".")[:3])
        self._resumes_safely = version >= RESUMES_SAFELY

    def strike(self) -> None:
        """A fault of a manager, of a member, or of both at once."""
        what = self._chance.choices(["manager", "member", "both"], [5, 3, 3])[0]
        if what != "manager":
            self._strike_member()
        if what != "member":
            self._strike_manager()

    def _strike_manager(self) -> None:
        up = [contender for contender in self._field.contenders if contender.is_up]
        if len(up) <= len(self._field.contenders) - MOST_OUT:
            return
        holder = self._field.holder()
        victim = holder if holder is not None and self._chance.random() < 0.6 else self._chance.choice(up)
        strike: Callable[[Contender], str] = self._chance.choice([self._kill, self._stop, self._terminate])
        self.counts[strike(victim) + (" holder" if victim is holder else " waiter")] += 1

    def _kill(self, victim: Contender) -> str:
        victim.kill()
        self._field.later(self._chance.uniform(0, 2), victim.start)
        return "kill"

    def _stop(self, victim: Contender) -> str:
        victim.stop()
        self._field.later(self._ttl * self._chance.uniform(1.1, 2), victim.resume)
        return "stop"

    def _terminate(self, victim: Contender) -> str:
        victim.terminate()
        self._field.later(self._chance.uniform(0, 1), victim.start)
        return "end"

    def _strike_member(self) -> None:
        members = self._field.member_to_fault()
        if not members:
            return
        leaders = [member for member in members if member.is_leader()]
        victim = leaders[0] if leaders and self._chance.random() < 0.5 else self._chance.choice(members)
        self._field.faulted(victim)
        strike: Callable[[Member, bool], str] = self._chance.choice(
            [self._kill_member, self._pause_member, self._restart_member]
        )
        self.counts[strike(victim, victim in leaders) + (" leader" if victim in leaders else " follower")] += 1

    def _kill_member(self, victim: Member, _leads: bool) -> str:
        victim.kill()
        self._field.later(self._chance.uniform(0.5, 4), victim.start)
        return "kill"

    def _pause_member(self, victim: Member, leads: bool) -> str:
        victim.pause()
        back = victim.resume
        if leads and not self._resumes_safely:

            def back() -> None:  # a leader that wakes would end leases that it has not seen renewed
                victim.kill()
                victim.start()

        self._field.later(self._chance.uniform(0.5, self._ttl * 1.5), back)
        return "pause"

    def _restart_member(self, victim: Member, _leads: bool) -> str:
        victim.terminate()
        self._field.later(1.0, victim.restart)
        return "restart"


def soak(
    seconds: float, seed: int, ttl: int = 4, managers: int = 5, etcd: str | None = None, kind: str = ""
) -> Summary:
    """Commit faults for `seconds`, and judge."""
    chance = random.Random(seed)
    with Field(ttl, managers, etcd, kind) as field:
        chaos = Chaos(field, ttl, chance)
        wait(field, lambda: field.holder() is not None, FIRST)
        began = clock()
        while clock() < began + seconds:
            chaos.strike()
            # The next fault comes when the lock has a holder again: what is judged is one fault, or two at once.
            wait(field, lambda: field.holder() is not None, 3 * (ttl + GRACE))
            calm = clock() + chance.uniform(0.2, 2)
            wait(field, lambda calm=calm: clock() >= calm, 3.0)  # type: ignore[misc]
        ended = clock()
        complaints = dismiss(field)
        spans = field.spans()
        longest = max((length for _, length in gaps(spans, began, ended)), default=0.0)
        return Summary(
            seed,
            ttl,
            ended - began,
            dict(chaos.counts),
            len({span.token for span in spans}),
            longest,
            two_at_once(spans),
            complaints,
        )


def dismiss(field: Field) -> list[str]:
    """Let all contenders come back and end in order; return what is wrong then."""
    wait(field, lambda: field.is_calm, 30.0)
    field.cluster.wait_ready()
    complaints = [f"{contender.name} has ended by itself" for contender in field.contenders if contender.died()]
    for contender in field.contenders:
        contender.terminate()
    complaints += [f"{contender.name} said {contender.said()}" for contender in field.contenders if contender.said()]
    left = [
        key for key in field.cluster.etcdctl("get", "--prefix", "--keys-only", "/soak/").split() if "__last" not in key
    ]
    # The ticket of a killed contender may still exist for a moment.
    return complaints + [f"{key} is left in etcd" for key in left if "/queue/" not in key]


def wait(field: Field, condition: Callable[[], bool], bound: float) -> None:
    """Return when the condition holds, or the bound is reached: what was missed is for the judge to say."""
    deadline = clock() + bound
    while clock() < deadline:
        field.do_what_is_due()
        if condition():
            return
        time.sleep(0.02)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--ttl", type=int, default=4)
    parser.add_argument("--managers", type=int, default=5)
    options = parser.parse_args()
    summary = soak(options.seconds, options.seed, options.ttl, options.managers)
    print(summary)
    return 0 if summary.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
