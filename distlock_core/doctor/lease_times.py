"""Judgement of the ttl against etcd's elections: whether a change of leader can cost a lock. Pure functions."""

from __future__ import annotations

from distlock_core.doctor.finding import OK, WARN, Finding
from distlock_core.model.ttl import refresh_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from distlock_core.etcd.facts import EndpointFacts
    from distlock_core.settings.options import Settings

DEFAULT_ELECTION = 1.0  # seconds, etcd's own default
ELECTIONS = 2.0  # election timeouts that a change of leader may take: one to notice it, up to one to vote
FLOOR = 1.5  # election timeouts: etcd grants no shorter ttl


def judge_ttl(settings: Settings, found: Sequence[EndpointFacts]) -> Finding:
    known = [one.election_ms for one in found if one.election_ms]
    election = max(known) / 1000 if known else DEFAULT_ELECTION
    source = f"{election:g}s" if known else f"not known here, {election:g}s by default"
    facts = {"ttl": settings.ttl, "election": election if known else None, "spare": None}
    if settings.ttl is None:
        message = f"no ttl is set: a lock stays until it is released (etcd's election timeout: {source})"
        return Finding("ttl", OK, message, facts=facts)
    spare = settings.ttl - refresh_of(settings.ttl, settings.refresh) - settings.time_to_end
    facts["spare"] = round(spare, 3)
    words = f"ttl {settings.ttl}s leaves {spare:.3g}s for a change of etcd's leader"
    if settings.ttl < election * FLOOR:
        message = f"ttl {settings.ttl}s is below the least that etcd grants with an election timeout of {source}"
        advice = f"set a ttl of {_enough(election):.0f}s or more: etcd grants a longer one than this"
        return Finding("ttl", WARN, message, "", advice, facts=facts)
    if spare < election * ELECTIONS - 1e-6:
        message = f"{words}, which can take {election * ELECTIONS:g}s (election timeout: {source})"
        advice = f"set a ttl of {_enough(election):.0f}s or more: otherwise a change of leader can end commands"
        return Finding("ttl", WARN, message, "", advice, facts=facts)
    return Finding("ttl", OK, f"{words}, which takes at most {election * ELECTIONS:g}s ({source})", facts=facts)


def _enough(election: float) -> float:
    """A ttl of which half is left with the defaults of refresh and kill_after."""
    return max(election * ELECTIONS * 2, 2.0)
