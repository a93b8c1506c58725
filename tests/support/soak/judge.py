"""The judge: finds two simultaneous holders, and times without a holder that were too long."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.soak.spans import Span


def two_at_once(spans: Sequence[Span]) -> list[str]:
    """Every proof that two contenders had the lock at the same time.

    Tokens give the order. If a contender with an older token was asked *after* another's True under a newer token had
    arrived, and still answered True, both had the lock at that moment.
    """
    holders: dict[int, str] = {}
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    proofs = []
    for span in spans:
        if holders.setdefault(span.token, span.who) != span.who:
            proofs += [f"token {span.token} was that of {holders[span.token]} and of {span.who}"]
        first[span.token] = min(first.get(span.token, span.begin), span.begin)
        last[span.token] = max(last.get(span.token, span.end), span.end)
    tokens = sorted(holders)
    for place, older in enumerate(tokens):
        for newer in tokens[place + 1 :]:
            overlap = last[older] - first[newer]
            if overlap > 0 and holders[older] != holders[newer]:
                proofs.append(
                    f"{holders[older]} said True with token {older}, {overlap * 1000:.1f} ms after "
                    f"{holders[newer]} had said it with token {newer}, at {last[older]:.3f}"
                )
    return proofs


def gaps(spans: Sequence[Span], begin: float, end: float) -> list[tuple[float, float]]:
    """Times without a holder: moment and seconds, longest first."""
    found = []
    covered = begin
    for span in sorted(spans, key=lambda span: span.begin):
        if span.begin > covered:
            found.append((covered, min(span.begin, end) - covered))
        covered = max(covered, span.end)
    if end > covered:
        found.append((covered, end - covered))
    return sorted(((moment, seconds) for moment, seconds in found if seconds > 0), key=lambda gap: -gap[1])
