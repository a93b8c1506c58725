"""The dates and names in an X.509 certificate. Pure functions: nothing is verified here."""

from __future__ import annotations

import binascii
import calendar
import time

from distlock_core.base.text import printable
from distlock_core.base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
SEQUENCE, SET, OBJECT, VERSION, UTC_TIME, GENERAL_TIME = 0x30, 0x31, 0x06, 0xA0, 0x17, 0x18
COMMON_NAME = bytes.fromhex("550403")  # 2.5.4.3
WIDE = {0x1E: "utf-16-be", 0x1C: "utf-32-be"}  # BMPString, UniversalString; others are read as UTF-8


class Certificate(Value):
    """Unix times between which it is valid, and the common names of its subject and issuer ("" without one)."""

    begins: int
    ends: int
    subject: str
    issuer: str

    @classmethod
    def parse(cls, der: bytes) -> Certificate:
        """Read one in DER. Raises `ValueError` if it is none."""
        fields = list(_parts(_inside(_inside(der, SEQUENCE), SEQUENCE)))
        if fields and fields[0][0] == VERSION:
            del fields[0]
        # serialNumber, signature, issuer, validity, subject
        if len(fields) < 5:
            raise ValueError("no certificate")
        begins, ends = [_time(*one) for one in _parts(fields[3][1])][:2]
        return cls(begins, ends, _common_name(fields[4][1]), _common_name(fields[2][1]))


def certificates_in(pem: str) -> list[bytes]:
    """All certificates in a PEM file, in DER. Raises `ValueError` if one is damaged."""
    found = []
    for block in pem.split(BEGIN)[1:]:
        body, end, _ = block.partition(END)
        if not end:
            raise ValueError("a certificate without an end")
        found.append(binascii.a2b_base64("".join(body.split())))
    return found


def _parts(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements of a constructed value: tag and content of each."""
    at = 0
    while at < len(content):
        if at + 2 > len(content):
            raise ValueError("no DER")
        tag, length, start = content[at], content[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4 or start + count > len(content):
                raise ValueError("no DER")
            length = int.from_bytes(content[start : start + count], "big")
            start += count
        if start + length > len(content):
            raise ValueError("no DER")
        yield tag, content[start : start + length]
        at = start + length


def _inside(content: bytes, tag: int) -> bytes:
    """The content of the first element."""
    for found, inside in _parts(content):
        if found == tag:
            return inside
        break
    raise ValueError("no certificate")


def _time(tag: int, content: bytes) -> int:
    text = content.decode("ascii", "replace")
    if tag not in (UTC_TIME, GENERAL_TIME):
        raise ValueError("no time")
    if tag == UTC_TIME:  # two digits of a year from 1950 to 2049 (RFC 5280)
        text = ("19" if text[:2] >= "50" else "20") + text
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))


def _common_name(name: bytes) -> str:
    for _, relative in _parts(name):
        for _, attribute in _parts(relative):
            parts = list(_parts(attribute))
            if len(parts) == 2 and parts[0] == (OBJECT, COMMON_NAME):
                tag, text = parts[1]
                return printable(text.decode(WIDE.get(tag, "utf-8"), "replace"))
    return ""
