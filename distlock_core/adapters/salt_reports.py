"""Reports of Salt's states and functions: errors, refused arguments, changes, and listeners of a run."""

from __future__ import annotations

from contextlib import contextmanager

from distlock_core.adapters.advice import SALT
from distlock_core.base.nearest import did_you_mean
from distlock_core.errors import ConfigError, DistlockError
from distlock_core.model.wording import owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from distlock_core.adapters.acquire import Taken
    from distlock_core.adapters.advice import Tool
    from distlock_core.model.state import Holder

STATES = ("locked", "unlocked", "held", "frozen", "thawed", "run", "policy", "policy_absent")


def refuse(given: Iterable[str], state: str, loaded: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for the first argument that a state does not have, naming the states that have it.

    `loaded` is Salt's `__states__`. Arguments that Salt adds (`__id__`, `__pub_jid`) are accepted.
    """
    for word in given:
        if word.startswith("__"):
            continue
        of_others = [f"distlock.{other}" for other in STATES if word in _arguments(loaded, other)]
        if of_others:
            raise ConfigError(f"{word}: not an argument of distlock.{state}, only of {' and '.join(of_others)}")
        known = {*_arguments(loaded, state)} - {"name"}
        hint = did_you_mean(word, known) or f"; known are {', '.join(sorted(known))}"
        raise ConfigError(f"{word}: not an argument of distlock.{state}{hint}")


def _arguments(loaded: Mapping[str, Any], state: str) -> tuple[str, ...]:
    code = loaded[f"distlock.{state}"].__code__
    names: tuple[str, ...] = code.co_varnames[: code.co_argcount]
    return names


@contextmanager
def raised_as(kind: type[Exception], tool: Tool = SALT) -> Iterator[None]:
    """Raise an error of distlock as one of this kind, with its advice: Salt prints its own kind in one line."""
    try:
        yield
    except DistlockError as error:
        raise kind(tool.said(error)) from None


def known(fields: dict[str, Any]) -> dict[str, Any]:
    """Leave out the fields without a value, which would be most of the output."""
    found = {word: value for word, value in fields.items() if value is not None}
    if "waiters" in found:
        found["waiters"] = [known(waiter) for waiter in found["waiters"]]
    return found


def said(error: DistlockError) -> str:
    """An error in one line, in Salt's words."""
    return SALT.said(error)


def exit_codes(codes: object) -> set[int]:
    """The exit codes that count as success: 0, and the given ones. Raises `ConfigError`."""
    given: list[Any] = list(codes) if isinstance(codes, (list, tuple)) else [] if codes is None else [codes]
    try:
        return {0, *(int(code) for code in given)}
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"success_retcodes: expected whole numbers, found {ascii(codes)[:60]}") from None


def shown(holder: Holder | None) -> str | None:
    """The owner of a hold, escaped for a terminal; None without a hold."""
    return None if holder is None else owner_of(holder.owner)


def acquired(taken: Taken, names: Iterable[str], owner: str) -> dict[str, Any]:
    """The `changes` of a state that acquired locks, by their names, with the story of the wait if there was one."""
    story = {} if taken.waited is None else taken.waited.fields()
    before = {holder.lock: shown(holder) for holder in taken.before}
    return {name: {"old": before.get(name), "new": owner, **story} for name in names}


def listeners(lowstate: Iterable[Mapping[str, Any]], me: str | None) -> list[str]:
    """The states of a run that act on `listen`, and so after all others, without this one (`me`)."""
    ids: list[str] = []
    for low in lowstate:
        ids += [str(low.get("__id__"))] if "listen" in low else []
        # `listen_in` turns the states that it names into listeners.
        targets = [target for target in low.get("listen_in") or () if isinstance(target, dict)]
        ids += [str(name) for target in targets for name in target.values()]
    return sorted({name for name in ids if name != me})
