"""The settings that are left when some are wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distlock_core.settings.salvage import salvage

KNOWN = {"DISTLOCK_ENDPOINTS": "http://127.0.0.1:1", "DISTLOCK_PREFIX": "/other/", "DISTLOCK_CONFIG": "/dev/null"}


def salvaged(environ: dict[str, str] | None = None, **options: Any) -> tuple[Any, tuple[str, ...], bool]:
    settings, problems = salvage(options, {key: f"--{key}" for key in options}, {**KNOWN, **(environ or {})})
    return settings, problems.messages, problems.lacks_file


def test_what_is_right_is_loaded_as_ever() -> None:
    settings, messages, lacks_file = salvaged({"DISTLOCK_TTL": "60"}, slots=2)
    assert (settings.ttl, settings.slots, settings.prefix) == (60, 2, "/other/")
    assert (messages, lacks_file) == ((), False)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"DISTLOCK_TTL": "soon"}, "DISTLOCK_TTL: expected"),
        ({"DISTLOCK_TTL": "1"}, "ttl 1s is too short"),
        ({"DISTLOCK_USER": "node"}, "a user is set, and no password"),
        ({"DISTLOCK_USER": "node", "DISTLOCK_PASSWORD_FILE": "/no/such"}, "password file /no/such: cannot be read"),
        ({"DISTLOCK_KEY": "/k"}, "a key is set, and no certificate"),
        ({"DISTLOCK_ID": "a;b"}, "illegal owner"),
        ({"DISTLOCK_LOCKNAME": "a/b"}, "illegal lock name"),
        ({"DISTLOCK_TLS_SERVER_NAME": " x"}, "tls_server_name"),
    ],
)
def test_one_wrong_setting_costs_no_other(environ: dict[str, str], words: str) -> None:
    settings, messages, lacks_file = salvaged(environ, connect_timeout=4.0)
    assert len(messages) == 1
    assert words in messages[0]
    assert (settings.endpoints, settings.prefix, settings.connect_timeout) == (["http://127.0.0.1:1"], "/other/", 4.0)
    assert not lacks_file
    assert not {"user", "ttl", "key", "id", "lockname"} & settings.given


def test_several_wrong_settings_are_all_named() -> None:
    _, messages, _ = salvaged({"DISTLOCK_TTL": "1", "DISTLOCK_ID": "a;b", "DISTLOCK_SLOTS": "none"})
    assert len(messages) == 3


def test_a_prefix_that_is_wrong_is_kept_as_no_other_realm_is_meant() -> None:
    settings, messages, _ = salvaged({"DISTLOCK_PREFIX": "distlock"})
    assert (settings.prefix, settings.raw_prefix) == ("distlock", True)
    assert "illegal prefix" in messages[0]


def test_a_file_that_is_wrong_is_left_out_as_a_whole_and_stays_named(tmp_path: Path) -> None:
    config = tmp_path / "distlock.yaml"
    config.write_text("ttl: 60\ntimeout: abc\n")
    settings, messages, lacks_file = salvaged({"DISTLOCK_CONFIG": str(config)})
    assert (settings.ttl, settings.config, lacks_file) == (None, str(config), True)
    assert "expected a number of seconds, found 'abc'" in messages[0]
