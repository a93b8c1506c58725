"""Judgement of clocks: this machine's against each member's, and the members' against each other. Pure functions.

No lock depends on them: leases, deadlines and timeouts count on clocks that nobody sets. Windows, ages, overdue holds
and certificates do.
"""

from __future__ import annotations

from distlock_core.doctor.finding import BAD, OK, WARN, Finding, skipped
from distlock_core.model.wording import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distlock_core.etcd.facts import EndpointFacts

SMALL, LARGE = 2.0, 60.0  # seconds
ADVICE = "let NTP set the clocks (chrony, systemd-timesyncd): ages, windows and certificates are judged by them"


def judge_clocks(found: Sequence[EndpointFacts]) -> Iterator[Finding]:
    known = [(one.url, one.lead) for one in found if one.lead is not None]
    if not known:
        yield skipped("clock", "no endpoint has sent the time")
        return
    for url, lead in known:
        yield _clock(url, lead)
    if len(known) > 1:
        yield _between(known)


def least(lead: tuple[float, float]) -> float:
    """The smallest difference that these bounds allow, in seconds; negative if that clock is behind."""
    low, high = lead
    return low if low > 0 else high if high < 0 else 0.0


def _clock(url: str, lead: tuple[float, float]) -> Finding:
    facts = {"lead": [round(bound, 3) for bound in lead]}
    difference = least(lead)
    if abs(difference) <= SMALL:
        message = f"the clocks of this machine and of {url} agree within {max(map(abs, lead)):.1f}s"
        return Finding("clock", OK, message, url, facts=facts)
    direction = "ahead of" if difference > 0 else "behind"
    message = f"the clock of {url} is {duration(abs(difference))} {direction} this machine's"
    return Finding("clock", BAD if abs(difference) > LARGE else WARN, message, url, ADVICE, facts=facts)


def _between(known: Sequence[tuple[str, tuple[float, float]]]) -> Finding:
    first, last = min(known, key=lambda one: one[1][1]), max(known, key=lambda one: one[1][0])
    difference = last[1][0] - first[1][1]
    facts = {"difference": round(max(difference, 0.0), 3)}
    if difference <= SMALL:
        return Finding("clock_skew", OK, "the members' clocks agree", facts=facts)
    message = f"the clock of {last[0]} is {duration(difference)} ahead of that of {first[0]}"
    return Finding("clock_skew", BAD if difference > LARGE else WARN, message, "", ADVICE, facts=facts)
