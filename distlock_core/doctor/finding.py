"""Findings: one for each check, with its status, what was found, and what to do next. Pure values."""

from __future__ import annotations

from distlock_core.base.value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from distlock_core.hints import Hint

OK, WARN, BAD, SKIPPED = "ok", "warn", "bad", "skipped"
WORST_FIRST = (BAD, WARN, OK, SKIPPED)


class Finding(Value):
    """The result of one check.

    `status` is ok, warn, bad or skipped: not checked, as it could not be. `about` is the endpoint, file, user or lock,
    "" if there is only one. `facts` are the figures behind it, as JSON has them.
    """

    check: str
    status: str
    message: str
    about: str = ""
    advice: str = ""  # what to do next, "" if nothing
    hints: tuple[Hint, ...] = ()  # the same as commands, in each tool's own words
    facts: Mapping[str, Any] = {}

    def fields(self, advice: Callable[[Hint], str]) -> dict[str, Any]:
        """The finding for JSON. `advice` words the hints."""
        return {
            "check": self.check,
            "status": self.status,
            "about": self.about or None,
            "message": self.message,
            "advice": self.advice or None,
            "hints": [{**hint.fields(), "advice": advice(hint)} for hint in self.hints],
            "facts": dict(self.facts),
        }


class EffectiveSetting(Value):
    """A setting that counts, and its source: default, file, environment or argument. `value` is None for a secret."""

    key: str
    value: Any
    source: str
    where: str  # the option, the variable, or the file and its line; "" for a default
    is_secret: bool = False

    def fields(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "value": self.value,
            "secret": self.is_secret,
            "source": self.source,
            "where": self.where,
        }


class Examination(Value):
    """All findings of one examination, and the settings that count, if they are known."""

    realm: str
    at: int  # Unix time
    findings: tuple[Finding, ...]
    settings: tuple[EffectiveSetting, ...] = ()

    @property
    def status(self) -> str:
        """The worst status of all findings; ok if there is nothing worse."""
        return next((one for one in (BAD, WARN) if self.having(one)), OK)

    def having(self, status: str) -> tuple[Finding, ...]:
        """The findings with this status."""
        return tuple(one for one in self.findings if one.status == status)

    def fields(self, advice: Callable[[Hint], str]) -> dict[str, Any]:
        """The examination for JSON. `advice` words the hints."""
        return {
            "status": self.status,
            "at": self.at,
            "prefix": self.realm,
            "findings": [one.fields(advice) for one in self.findings],
            "settings": [one.fields() for one in self.settings],
        }


def skipped(check: str, why: str, about: str = "") -> Finding:
    """A check that could not be made."""
    return Finding(check, SKIPPED, why, about)
