"""Judgement of etcd's members: reachable, version, one cluster, leader, quorum, alarms, database. Pure functions."""

from __future__ import annotations

from distlock_core.doctor.faults import better_than, faults_of, parsed
from distlock_core.doctor.finding import BAD, OK, SKIPPED, WARN, Finding, skipped
from distlock_core.model.wording import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from distlock_core.etcd.facts import EndpointFacts, MemberStatus

FEW_CHANGES, CHANGES_PER_HOUR = 3, 1.0  # of the leader, beyond which a cluster counts as restless
BEHIND = 1000  # raft entries
FULL, ALMOST_FULL = 0.95, 0.8  # shares of the quota
NOSPACE, CORRUPT, NO_LEADER = "NOSPACE", "CORRUPT", "no leader"
MIB = 1024 * 1024
FULL_ADVICE = (
    "compact the history (etcdctl compact REVISION), free the space member by member (etcdctl defrag), then "
    "etcdctl alarm disarm; set --auto-compaction-retention=1h in etcd"
)


def judge_members(found: Sequence[EndpointFacts], why_no_endpoint: str) -> Iterator[Finding]:
    """The findings about the members of a cluster, from what its endpoints have answered."""
    if why_no_endpoint:
        grade = WARN if any(one.status is not None for one in found) else BAD
        yield Finding("endpoint", grade, why_no_endpoint, advice="check discovery_srv, or set endpoints")
    for one in found:
        yield _endpoint(one, [other for other in found if other is not one])
    answering = [one for one in found if one.status is not None]
    if not answering and any(one.wants_user for one in found):
        yield skipped("version", "etcd tells its status to its users only")
        yield skipped("quorum", "etcd tells its status to its users only")
        return
    if not answering:
        yield skipped("version", "no etcd answers")
        yield Finding("quorum", BAD, "no etcd answers: nothing can be locked, released or shown", advice=_START)
        return
    for one in answering:
        yield _version(one)
    statuses = [one.status for one in answering if one.status is not None]
    yield _cluster(answering)
    yield _leader(answering)
    yield _leader_changes(answering)
    yield _quorum(answering, found)
    yield _alarms(statuses)
    for one in answering:
        yield _database(one)
    yield _log(answering)


_START = "start etcd, or check endpoints, names and the network"


def _endpoint(one: EndpointFacts, others: Sequence[EndpointFacts]) -> Finding:
    facts: dict[str, Any] = {"via": one.via or None, "seconds": round(one.seconds, 3)}
    if one.status is None:
        facts.update(failure=one.failure, seconds=None)
        helped = any(other.status is not None for other in others)
        message = f"{one.url}: {one.failure}"
        if one.wants_user:
            return Finding("endpoint", WARN, message, one.url, "set a user whom etcd accepts", facts=facts)
        if one.is_strange:
            advice = "correct this endpoint, or remove it from endpoints"
            return Finding("endpoint", BAD, message, one.url, _advice_on(one) or advice, facts=facts)
        if helped:
            advice = "distlock goes on with the other endpoints. Start this etcd, or remove it from endpoints"
            return Finding("endpoint", WARN, message, one.url, advice, facts=facts)
        return Finding("endpoint", BAD, message, one.url, _START, facts=facts)
    how = "its gateway" if one.via == "gateway" else "gRPC"
    message = f"{one.url} answers over {how} in {one.seconds * 1000:.0f} ms"
    if one.no_gateway and one.via != "gateway":
        message += f", and not over its gateway: {one.no_gateway}"
    return Finding("endpoint", OK, message, one.url, facts={**facts, "member": f"{one.status.member:x}"})


def _advice_on(one: EndpointFacts) -> str:
    if "https://" in one.failure:
        return f"write this endpoint as {one.url.replace('http://', 'https://', 1)}"
    return "install the package etcd3: pip install etcd3" if "etcd3 is missing" in one.failure else ""


def _version(one: EndpointFacts) -> Finding:
    assert one.status is not None
    version, number = one.status.version, parsed(one.status.version)
    facts: dict[str, Any] = {"version": version, "faults": []}
    name = _name_of(one)
    if number is None:
        message = f"{name} says that its version is {version}: whether that has known faults is unknown"
        return Finding("version", WARN, message, one.url, facts=facts)
    faults = faults_of(number)
    if not faults:
        return Finding("version", OK, f"{name} is etcd {version}", one.url, facts=facts)
    facts["faults"] = [fault.words for fault in faults]
    words = "; ".join(f"{fault.words}{f' ({fault.remedy})' if fault.remedy else ''}" for fault in faults)
    advice = f"update it to {better_than(number)} or later"
    return Finding("version", faults[0].status, f"{name} is etcd {version}: {words}", one.url, advice, facts=facts)


def _cluster(answering: Sequence[EndpointFacts]) -> Finding:
    by_cluster: dict[int, list[str]] = {}
    for one in answering:
        assert one.status is not None
        by_cluster.setdefault(one.status.cluster, []).append(one.url)
    facts: dict[str, Any] = {"clusters": {f"{cluster:x}": urls for cluster, urls in by_cluster.items()}}
    if len(by_cluster) > 1:
        groups = " and ".join(f"{', '.join(urls)} of cluster {cluster:x}" for cluster, urls in by_cluster.items())
        advice = "remove the wrong ones from endpoints: which cluster a lock is in would depend on who answers first"
        return Finding("cluster", BAD, f"the endpoints belong to several clusters: {groups}", "", advice, facts=facts)
    listed = max((one.members for one in answering), key=len)
    seen = {one.status.member for one in answering if one.status is not None}
    others = [one.name or "a member that has not started" for one in listed if one.member not in seen]
    facts["unseen"] = others
    known = f"cluster {next(iter(by_cluster)):x}"
    if not listed:
        return Finding("cluster", OK, f"{known}; etcd does not list its members to this client", facts=facts)
    members = f"{len(listed)} member{'' if len(listed) == 1 else 's'}"
    idle = [one for one in listed if not one.name]
    if idle:
        message = f"{known} has {members}, of which {len(idle)} has not started"
        advice = "start it, or remove it: etcdctl member remove ID. Until then it counts against the quorum"
        return Finding("cluster", WARN, message, "", advice, facts=facts)
    rest = f"; not examined, as no endpoint leads there: {', '.join(others)}" if others else ""
    return Finding("cluster", OK, f"{known} has {members}{rest}", facts=facts)


def _leader(answering: Sequence[EndpointFacts]) -> Finding:
    leaders: dict[int, list[EndpointFacts]] = {}
    for one in answering:
        assert one.status is not None
        leaders.setdefault(0 if _lacks_leader(one.status) else one.status.leader, []).append(one)
    terms = {one.status.term for one in answering if one.status is not None}
    by_leader = {f"{leader:x}": [one.url for one in some] for leader, some in leaders.items()}
    facts = {"leaders": by_leader, "terms": sorted(terms)}
    if 0 in leaders:
        without = ", ".join(_name_of(one) for one in leaders[0])
        advice = "start the members that are missing, and check the network between the members"
        known = len(leaders) > 1
        return Finding("leader", WARN if known else BAD, f"no leader is known to {without}", "", advice, facts=facts)
    if len(leaders) > 1:
        said = "; ".join(
            f"{', '.join(_name_of(one) for one in some)}: {_member_name(answering, leader)}"
            for leader, some in leaders.items()
        )
        advice = "look again in a few seconds: if it stays, the network between the members is cut"
        return Finding("leader", WARN, f"the members name different leaders: {said}", "", advice, facts=facts)
    name = _member_name(answering, next(iter(leaders)))
    return Finding("leader", OK, f"{name} is the leader, in term {max(terms)}", facts=facts)


def _leader_changes(answering: Sequence[EndpointFacts]) -> Finding:
    moved = [
        one
        for one in answering
        if one.status is not None and one.later is not None and one.later.term > one.status.term
    ]
    advice = "look for slow disks, a slow network, or machines that stand still: etcd's log says why it elects"
    if moved:
        message = f"the leader changed during this examination: {', '.join(map(_name_of, moved))}"
        return Finding("leader_changes", WARN, message, "", advice)
    rates = []
    for one in answering:
        counters = one.counters
        if counters is None or counters.leader_changes is None or one.up_seconds is None:
            continue
        hours = max(one.up_seconds, 0) / 3600
        rates.append((max(counters.leader_changes - 1, 0), hours, one))  # the first is the one at its start
    if not rates:
        why = "the term is the same at the end of this examination; metrics, which would say more, are not served here"
        return Finding("leader_changes", OK, why)
    changes, hours, worst = max(rates, key=lambda rate: rate[0] / max(rate[1], 1.0))
    facts = {"changes": changes, "hours": round(hours, 1)}
    words = f"{_name_of(worst)} has seen {changes:.0f} changes of the leader since it started, "
    words += f"{duration(hours * 3600)} ago"
    if changes >= FEW_CHANGES and changes / max(hours, 1.0) > CHANGES_PER_HOUR:
        return Finding("leader_changes", WARN, words, "", advice, facts=facts)
    return Finding("leader_changes", OK, words, facts=facts)


def _quorum(answering: Sequence[EndpointFacts], found: Sequence[EndpointFacts]) -> Finding:
    refusing = [one for one in answering if one.reads]
    facts = {"serving": [one.url for one in answering if one.reads == ""]}
    if not refusing:
        return Finding("quorum", OK, f"{len(answering)} of {len(found)} endpoints serve reads", facts=facts)
    said = "; ".join(f"{_name_of(one)}: {one.reads}" for one in refusing)
    advice = "a majority of the members must run, and reach each other: start those that are missing"
    if len(refusing) == len(answering):
        return Finding("quorum", BAD, f"no endpoint serves reads or writes: {said}", "", advice, facts=facts)
    return Finding("quorum", WARN, f"some endpoints serve no reads: {said}", "", advice, facts=facts)


def _alarms(statuses: Sequence[MemberStatus]) -> Finding:
    said = list(dict.fromkeys(error for status in statuses for error in status.errors if NO_LEADER not in error))
    facts = {"alarms": said}
    if not said:
        return Finding("alarms", OK, "no alarm is raised", facts=facts)
    words = "; ".join(said)
    if any(CORRUPT in error for error in said):
        advice = "the data of a member differs from the others': replace that member from a healthy one before anything"
        return Finding("alarms", BAD, f"alarm CORRUPT: {words}", "", advice, facts=facts)
    if any(NOSPACE in error for error in said):
        message = f"alarm NOSPACE, nothing can be locked: {words}"
        return Finding("alarms", BAD, message, "", FULL_ADVICE, facts=facts)
    return Finding("alarms", WARN, f"etcd reports: {words}", "", "see etcd's log", facts=facts)


def _database(one: EndpointFacts) -> Finding:
    status = one.status
    assert status is not None
    quota = status.quota or (one.counters.quota if one.counters is not None else 0) or 0
    facts = {"size": status.db_size, "in_use": status.db_in_use or None, "quota": int(quota) or None}
    words = f"{_name_of(one)}: {_mib(status.db_size)}"
    if not quota:
        message = f"{words}; its quota is unknown, as its metrics are not served here"
        return Finding("database", OK, message, one.url, facts=facts)
    words += f" of {_mib(quota)} ({status.db_size / quota:.0%})"
    if status.db_size < quota * ALMOST_FULL:
        return Finding("database", OK, words, one.url, facts=facts)
    if status.db_in_use and status.db_in_use < status.db_size / 2:
        advice = f"only {_mib(status.db_in_use)} are in use: etcdctl defrag, one member after another"
    else:
        advice = "when it is full nothing can be locked: compact and defragment it, or raise --quota-backend-bytes"
    grade = BAD if status.db_size >= quota * FULL else WARN
    return Finding("database", grade, words, one.url, advice, facts=facts)


def _log(answering: Sequence[EndpointFacts]) -> Finding:
    """Whether a member lags behind the others in applying the raft log."""
    pairs = [(one, one.status) for one in answering if one.status is not None]
    last = max(status.log_index for _, status in pairs)
    late = [(one, last - status.applied) for one, status in pairs if status.applied and last - status.applied > BEHIND]
    if late:
        said = "; ".join(f"{_name_of(one)} by {entries} entries" for one, entries in late)
        advice = "its disk or its network is too slow, or it is catching up after a restart: look again in a minute"
        return Finding("log", WARN, f"a member lags behind the others: {said}", "", advice)
    if all(not status.applied for _, status in pairs):
        return Finding("log", SKIPPED, "these members do not say how far they have applied the log")
    return Finding("log", OK, "no member lags behind")


def _lacks_leader(status: MemberStatus) -> bool:
    return not status.leader or any(NO_LEADER in error for error in status.errors)


def _name_of(one: EndpointFacts) -> str:
    """`n1 (http://10.0.0.1:2379)`, or the URL alone."""
    name = "" if one.status is None else next((m.name for m in one.members if m.member == one.status.member), "")
    return f"{name} ({one.url})" if name else one.url


def _member_name(answering: Sequence[EndpointFacts], member: int) -> str:
    for one in answering:
        for listed in one.members:
            if listed.member == member and listed.name:
                return listed.name
    return f"member {member:x}"


def _mib(size: float) -> str:
    if size < MIB:
        return f"{size / 1024:.0f} KiB"
    return f"{size / MIB:.0f} MiB" if size < 1024 * MIB else f"{size / MIB / 1024:.1f} GiB"
