"""A DNS server on loopback, with SRV records for the tests to choose."""

from __future__ import annotations

import socket
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset

Record = tuple[int, int, int, str]  # priority, weight, port, target


class NameServer:
    """Answers over UDP. `records` may be changed at any time; `silent` discards queries."""

    def __init__(self) -> None:
        self.records: dict[str, list[Record]] = {}
        self.silent = False
        self.broken = False
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def resolver(self) -> dns.resolver.Resolver:
        """A resolver that asks this server, in place of the machine's."""
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], self.port
        return resolver

    def close(self) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            question = dns.message.from_wire(data)
            name = question.question[0].name.to_text()
            self.asked.append(name)
            if not self.silent:
                self._socket.sendto(self._answer(question, name).to_wire(), client)

    def _answer(self, question: dns.message.Message, name: str) -> dns.message.Message:
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.AA | dns.flags.RA
        records = self.records.get(name)
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif records is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif records:
            texts = [f"{priority} {weight} {port} {target}" for priority, weight, port, target in records]
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *texts))
        return answer
