"""Fixtures for all tests: Puppet, with what a run loads first compiled and loaded once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.preloaded.client import Preloaded
from tests.support.puppet_node import compiled_ruby, preloaded_puppet


@pytest.fixture(scope="session")
def ruby_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return compiled_ruby(tmp_path_factory)


@pytest.fixture(scope="session")
def puppet(ruby_env: dict[str, str]) -> Iterator[Preloaded]:
    """`puppet.start(command, env)` starts it, faster where the environment is `ruby_env` and nothing unusual."""
    puppet = preloaded_puppet(ruby_env)
    yield puppet
    puppet.stop()
