"""Judgement of certificates: when those of each server, of this client and of the authorities end. Pure functions."""

from __future__ import annotations

import time

from distlock_core.doctor.finding import BAD, OK, WARN, Finding
from distlock_core.etcd.auth.certificate import Certificate, certificates_in
from distlock_core.model.wording import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distlock_core.etcd.facts import EndpointFacts

SOON = 30 * 86400  # seconds
SERVER, CLIENT, AUTHORITY = "server", "client", "authority"
RENEW = {
    SERVER: "renew it on that member, and restart etcd if its version does not load it again",
    CLIENT: "renew it: distlock reads the files again when they change",
    AUTHORITY: "add the authority's new certificate to the file before the old one ends",
}


def judge_server_certificates(found: Sequence[EndpointFacts], now: float) -> Iterator[Finding]:
    """One finding for each endpoint with TLS."""
    for one in found:
        if one.chain is None:
            if one.no_chain:
                message = f"{one.url} shows no certificate: {one.no_chain}"
                yield Finding("server_certificate", WARN, message, one.url, "see the finding about this endpoint")
            continue
        yield judged("server_certificate", SERVER, one.url, one.url, one.chain, now)


def judge_file(kind: str, path: str, content: str | None, failure: str, now: float) -> Finding:
    """The finding about a file with certificates: the client's own, or the authorities that it trusts."""
    check = f"{kind}_certificate"
    if content is None:
        return Finding(
            check, BAD, f"{path}: {failure}", path, "give this user the right to read it, or correct the path"
        )
    try:
        found = certificates_in(content)
    except ValueError as error:
        return Finding(check, BAD, f"{path}: damaged: {error}", path, "replace the file")
    if not found:
        return Finding(
            check, BAD, f"{path}: there is no certificate in it", path, "correct the path, or replace the file"
        )
    return judged(check, kind, path, path, found, now)


def judged(check: str, kind: str, where: str, about: str, chain: Sequence[bytes], now: float) -> Finding:
    """The finding about certificates that belong together: the first to end decides.

    Of several authorities one that is valid is enough, as in the time in which one replaces another.
    """
    try:
        all_of_them = [Certificate.parse(der) for der in chain]
    except ValueError as error:
        return Finding(check, WARN, f"{where}: the certificate cannot be read: {error}", about)
    first = min(all_of_them, key=lambda one: one.ends)
    if kind == AUTHORITY and any(one.begins <= now < one.ends for one in all_of_them):
        first = max(all_of_them, key=lambda one: one.ends)
    facts = {"ends": first.ends, "begins": first.begins, "subject": first.subject, "issuer": first.issuer}
    facts["certificates"] = len(all_of_them)
    name = {SERVER: f"the certificate of {where}", CLIENT: f"the client certificate {where}"}.get(
        kind, f"the authority in {where}"
    )
    if kind == SERVER and first is not all_of_them[0]:
        name = f"an intermediate certificate of {where} ({first.subject or 'without a name'})"
    then = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(first.ends))
    if now >= first.ends:
        message = f"{name} has expired {duration(now - first.ends)} ago ({then})"
        return Finding(check, BAD, message, about, RENEW[kind], facts=facts)
    if now < first.begins:
        begin = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(first.begins))
        advice = "check this machine's clock, or use the certificate from then on"
        return Finding(check, BAD, f"{name} is not valid before {begin}", about, advice, facts=facts)
    message = f"{name} ends in {duration(first.ends - now)} ({then})"
    if first.ends - now < SOON:
        return Finding(check, WARN, message, about, RENEW[kind], facts=facts)
    return Finding(check, OK, message, about, facts=facts)
