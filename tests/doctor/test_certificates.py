"""Judgement of certificates: when they end, and which one of a chain or a bundle counts."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest

from distlock_core.doctor.certificates import judge_file, judge_server_certificates, judged
from distlock_core.etcd.auth.certificate import Certificate, certificates_in
from distlock_core.etcd.facts import EndpointFacts
from distlock_core.testing import Tls

DAY = 86400


@pytest.fixture(scope="module")
def chain(tls: Tls) -> list[bytes]:
    """The certificate of a server and of its authority, both made now for 30 days."""
    files = (tls.server.cert, tls.authority.cacert)
    return [der for path in files for der in certificates_in(Path(path).read_text())]


def test_dates_and_names_are_those_that_openssl_reads(tls: Tls, chain: list[bytes]) -> None:
    for path, der in zip((tls.server.cert, tls.authority.cacert), chain):
        known = ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]
        found = Certificate.parse(der)
        assert found.ends == ssl.cert_time_to_seconds(known["notAfter"])
        assert found.begins == ssl.cert_time_to_seconds(known["notBefore"])
    assert [Certificate.parse(der).subject for der in chain] == ["", "distlock test CA"]
    assert {Certificate.parse(der).issuer for der in chain} == {"distlock test CA"}


@pytest.mark.parametrize("cut", [0, 1, 4, 40, -1])
def test_what_is_no_certificate_is_refused(chain: list[bytes], cut: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever part is wrong
        Certificate.parse(chain[0][:cut])


@pytest.mark.parametrize("noise", [b"\x30\x82", b"\x30\x03\x30\x01\x00", b"\x30\x85\x01\x01\x01\x01\x01", b"hello"])
def test_noise_is_no_certificate(noise: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever part is wrong
        Certificate.parse(noise)


@pytest.mark.parametrize(
    ("days", "grade", "words"),
    [
        (-31, "bad", "is not valid before"),
        (-1, "bad", "is not valid before"),
        (0.1, "warn", "ends in 29d"),
        (29, "warn", "ends in"),
        (31, "bad", "has expired 1d00h ago"),
    ],
)
def test_a_servers_certificate_is_judged_by_its_dates(chain: list[bytes], days: float, grade: str, words: str) -> None:
    begun = Certificate.parse(chain[0]).begins
    one = judged("server_certificate", "server", "https://n1:2379", "https://n1:2379", chain[:1], begun + days * DAY)
    assert one.status == grade
    assert words in one.message
    assert one.advice


def test_the_first_of_a_chain_to_end_counts(chain: list[bytes]) -> None:
    first = min(chain, key=lambda der: Certificate.parse(der).ends)
    ends = Certificate.parse(first).ends
    # 31 days ahead of the end nothing is said, whichever of the two it is.
    assert judged("server_certificate", "server", "x", "x", chain, ends - 31 * DAY + DAY * 2).status == "warn"
    assert judged("server_certificate", "server", "x", "x", chain, ends).status == "bad"


def test_an_authority_that_is_replaced_is_fine_while_one_of_the_two_is_valid(
    monkeypatch: pytest.MonkeyPatch, chain: list[bytes]
) -> None:
    ends = {b"old": 100 * DAY, b"new": 500 * DAY}
    monkeypatch.setattr(Certificate, "parse", lambda der: Certificate(0, ends[der], der.decode(), "ca"))
    both = [b"old", b"new"]
    assert judged("authority_certificate", "authority", "ca.pem", "ca.pem", both, 200 * DAY).status == "ok"
    assert judged("authority_certificate", "authority", "ca.pem", "ca.pem", both, 480 * DAY).status == "warn"
    assert judged("authority_certificate", "authority", "ca.pem", "ca.pem", both, 600 * DAY).status == "bad"
    # A server's chain is only as good as its first to end.
    assert judged("server_certificate", "server", "x", "x", both, 200 * DAY).status == "bad"


@pytest.mark.parametrize(
    ("content", "failure", "words"),
    [
        (None, "cannot be read: Permission denied", "Permission denied"),
        ("", "", "no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\nMII", "", "damaged"),
    ],
)
def test_a_file_without_a_certificate_is_bad(content: str | None, failure: str, words: str) -> None:
    one = judge_file("client", "/etc/node.pem", content, failure, time.time())
    assert (one.check, one.status, one.about) == ("client_certificate", "bad", "/etc/node.pem")
    assert words in one.message


def test_a_server_that_shows_no_certificate_is_said_and_a_plain_one_is_not() -> None:
    found = [EndpointFacts("https://n1:2379", no_chain="timed out"), EndpointFacts("http://n2:2379")]
    (one,) = judge_server_certificates(found, time.time())
    assert (one.status, one.about) == ("warn", "https://n1:2379")
