"""Arguments of the wrong type, as Salt reads them from a command line or an SLS: an error in one line, no traceback."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest

from distlock_core.adapters.salt_reports import exit_codes
from distlock_core.errors import ConfigError

ODD: tuple[Any, ...] = (True, 7, 1.5, float("inf"), [], [7], {"a": 1}, "", "a\nb", "a/b", "\ud800")
SECTION = {"endpoints": ["http://127.0.0.1:1"], "connect_timeout": 0.02, "release_timeout": 0.02, "config": ""}


def functions() -> list[tuple[ModuleType, str]]:
    from distlock_core.saltext.modules import distlock, distlock_freeze, distlock_policy
    from distlock_core.saltext.runners import distlock as runner

    found = []
    for module in (distlock, distlock_freeze, distlock_policy, runner):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and "name" in inspect.signature(function).parameters:
                found += [] if name.startswith("_") else [(module, name)]
    return found


def test_a_name_that_is_none_is_refused_by_every_function(salt_is_there: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from salt.exceptions import CommandExecutionError

    def get(path: str, default: object = None, **_: object) -> object:
        return dict(SECTION) if path == "distlock" else default

    called = 0
    for module, function in functions():
        monkeypatch.setattr(module, "__salt__", {"config.get": get}, raising=False)
        monkeypatch.setattr(module, "__opts__", {"id": "m0"}, raising=False)
        parameters = inspect.signature(getattr(module, function)).parameters
        others = {"reason": "why", "token": 3}
        given: dict[str, Any] = {word: value for word, value in others.items() if word in parameters}
        for odd in ODD:
            with pytest.raises(CommandExecutionError) as error:
                getattr(module, function)(name=odd, **given)
            assert "no etcd answered" not in str(error.value), (function, odd)
            assert "\n" not in str(error.value)
            called += 1
    assert called > 15 * len(ODD)


@pytest.mark.parametrize("codes", [float("inf"), "x", {"a": 1}, [None], [[]]])
def test_exit_codes_are_whole_numbers(codes: Any) -> None:
    with pytest.raises(ConfigError, match="success_retcodes: expected whole numbers"):
        exit_codes(codes)
