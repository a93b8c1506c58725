"""A lock has one spelling: any other one is refused, so that nothing runs beside it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.connection import connect
from distlock_core.errors import ConfigError
from distlock_core.model.checks import check_key, check_name, check_owner, check_prefix
from distlock_core.settings.load import load
from tests.support.realm_view import RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
RAN = "--", "echo", "ran"
INVISIBLE = {
    "zero width space": "percona\u200bprod",
    "at the end": "percona_prod\u200b",
    "no-break space": "percona_prod\u00a0",
    "byte order mark": "\ufeffpercona_prod",
    "soft hyphen": "percona\u00adprod",
    "right to left": "\u202eprod",
    "Hangul filler": "percona\u3164prod",
    "variation selector": "percona\ufe0f",
    "braille blank": "percona\u2800prod",
}
IN_QUOTES = [
    '"percona_prod"',
    "'percona_prod'",
    "`percona_prod`",
    "\u201cpercona_prod\u201d",
    "\u00abpercona_prod\u00bb",
]


@pytest.mark.parametrize("name", INVISIBLE.values(), ids=INVISIBLE)
def test_a_name_has_nothing_invisible_in_it(name: str) -> None:
    for check in (check_name, check_owner, check_key):
        with pytest.raises(ConfigError, match=r"it has an invisible character in it \(U\+[0-9A-F]{4}\)") as caught:
            check(name)
        assert caught.value.message.isascii()


@pytest.mark.parametrize("name", ["percona_prod ", " percona_prod", "percona_prod  "])
def test_a_name_has_no_white_space_around_it(name: str) -> None:
    for check in (check_name, check_owner, check_key):
        with pytest.raises(ConfigError, match="it begins or ends with white space"):
            check(name)


@pytest.mark.parametrize("name", IN_QUOTES)
def test_a_name_has_no_quotes_around_it(name: str) -> None:
    for check in (check_name, check_owner, check_key):
        with pytest.raises(ConfigError, match="the quotes around it would be part of it"):
            check(name)


def test_an_accent_is_written_in_one_way() -> None:
    assert check_name("\u00fcber") == "\u00fcber"
    with pytest.raises(ConfigError, match="write it composed"):
        check_name("u\u0308ber")


@pytest.mark.parametrize("name", ["a b", "it's", '"', "'a", "\u00fcber", "\u5347\u7ea7", "x\U0001f512", "a-\u0301"[:2]])
def test_visible_characters_make_a_name(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("prefix", ["/distlock/", "/a/b/", "/\u00fc/", "/a b/"])
def test_a_prefix(prefix: str) -> None:
    assert check_prefix(prefix) == prefix


ODD_PREFIXES = {
    "/distlock": "/distlock/",
    "distlock/": "/distlock/",
    "distlock": "/distlock/",
    "/distlock//": "/distlock/",
    "//distlock/": "/distlock/",
    "/a//b/": "/a/b/",
    "/": "",
    "//": "",
}


@pytest.mark.parametrize("prefix", ODD_PREFIXES)
def test_another_spelling_of_a_prefix_is_refused_with_the_right_one(prefix: str) -> None:
    with pytest.raises(ConfigError, match="raw_prefix=True") as caught:
        check_prefix(prefix)
    right = ODD_PREFIXES[prefix]
    assert (f": write '{right}'" in caught.value.message) == bool(right)
    with pytest.raises(ConfigError, match="raw_prefix=True"):
        connect(["http://127.0.0.1:1"], prefix)
    assert check_prefix(prefix, raw=True) == prefix
    assert connect(["http://127.0.0.1:1"], prefix, raw_prefix=True).prefix == prefix


@pytest.mark.parametrize(
    "prefix", ["/dist\u200block/", "/distlock/ ", ' /distlock/"', '"/distlock/"', "\ufeff/distlock/"]
)
def test_a_prefix_is_plainly_visible_too(prefix: str) -> None:
    with pytest.raises(ConfigError, match=r"invisible|white space|quotes"):
        check_prefix(prefix)


def test_too_long_an_owner_or_prefix_is_refused() -> None:
    for check, text in ((check_owner, "o" * 1025), (check_prefix, f"/{'p' * 1023}/"), (check_key, "/" + "k" * 1024)):
        with pytest.raises(ConfigError, match="longer than 1024 bytes"):
            check(text)


# The whole command: with percona_prod held, nothing runs beside it.


@pytest.mark.parametrize("how", ["option", "variable", "file"])
def test_no_spelling_of_a_held_lock_gets_in_beside_it(
    run_distlock: Run, realm: RealmView, config_file: Callable[[str], str], how: str
) -> None:
    realm.put("percona_prod", "1500000000;other;reason")
    prefix = realm.prefix
    spellings: list[dict[str, str]] = [
        {"lockname": name} for name in ("percona_prod ", *INVISIBLE.values(), *IN_QUOTES)
    ]
    spellings = spellings[:4] + spellings[-5:-3]
    spellings += [{"prefix": odd} for odd in (prefix[:-1], prefix[1:], f"{prefix}/", f"{prefix} ", f'"{prefix}"')]
    for spelling in spellings:
        wanted = {"lockname": "percona_prod", "prefix": prefix, **spelling}
        options: list[str] = []
        env: dict[str, str | None] = {"DISTLOCK_PREFIX": None}
        if how == "option":
            options = [f"--lock-name={wanted['lockname']}", f"--prefix={wanted['prefix']}"]
        elif how == "variable":
            env = {f"DISTLOCK_{key.upper()}": value for key, value in wanted.items()}
        else:
            env["DISTLOCK_CONFIG"] = config_file("".join(f"{key}: {json.dumps(v)}\n" for key, v in wanted.items()))
        done = run_distlock(*options, "--nowait", *RAN, env=env)
        assert (done.returncode, done.stdout) == (1, ""), (spelling, done)
        assert "illegal " in one_line(done.stderr)
    assert list(realm.entries()) == ["percona_prod"]


# Variables.


def test_a_misspelt_variable_is_warned_about_with_a_suggestion() -> None:
    variables = {
        "DISTLOCK_PREFX": "/secret/",
        "DISTLOCK_LOCK_NAME": "x",
        "DISTLOCK_ZZZ": "x",
        "distlock_prefix": "/x/",
        "DISTLOCK_INTERNALLOCK": "theirs",
        # What is not distlock's own wish.
        **dict.fromkeys(("DISTLOCK_TOKEN", "DISTLOCK_HELD", "DISTLOCK_LEASE", "DISTLOCK_CERTNAME"), "1"),
        **dict.fromkeys(("DISTLOCK_SERVICE_HOST", "DISTLOCK_PORT_2379_TCP", "DISTLOCK_PORT"), "1"),
    }
    warnings = load({}, variables).warnings
    assert [line.partition(" is ")[0].rpartition(" ")[2] for line in warnings] == [
        *("DISTLOCK_INTERNALLOCK", "DISTLOCK_LOCK_NAME", "DISTLOCK_PREFX", "DISTLOCK_ZZZ", "distlock_prefix"),
    ]
    of_file, name, prefix, nothing, lower = warnings
    assert of_file.endswith("is ignored: internallock goes into the config file")
    assert name.endswith("; did you mean DISTLOCK_LOCKNAME?")
    assert prefix.endswith("; did you mean DISTLOCK_PREFIX?")
    assert nothing.endswith("is ignored")
    assert lower.endswith("; did you mean DISTLOCK_PREFIX?")
    assert "secret" not in prefix


def test_the_command_warns_of_a_misspelt_variable(run_distlock: Run, realm: RealmView) -> None:
    done = run_distlock("--lock-name=x", *RAN, env={"DISTLOCK_PREFX": "/a/"})
    assert done.stdout == "ran\n"
    assert one_line(done.stderr).startswith("distlock: warning: unknown variable DISTLOCK_PREFX is ignored")
    assert run_distlock("--lock-name=x", "--quiet", *RAN, env={"DISTLOCK_PREFX": "/a/"}).stderr == ""


def test_a_misspelt_variable_is_named_where_a_setting_is_missing(run_distlock: Run) -> None:
    done = run_distlock(*RAN, env={"DISTLOCK_LOCK_NAME": "x"})
    assert (done.returncode, done.stdout) == (1, "")
    warning, error = done.stderr.splitlines()
    assert warning.endswith("did you mean DISTLOCK_LOCKNAME?")
    assert "no lock is named" in error


# Bytes, whatever the locale.


@pytest.fixture(params=["ascii", "latin-1"])
def strange_locale(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of a locale that does not know UTF-8."""
    env = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "utf-8"}
    if request.param == "latin-1":
        made = subprocess.run(
            ["localedef", "-f", "ISO-8859-1", "-i", "en_US", str(tmp_path / "en_US.ISO-8859-1")],
            capture_output=True,
            check=False,
        )
        if not (tmp_path / "en_US.ISO-8859-1").is_dir():
            pytest.skip(f"localedef makes no Latin-1 locale here: {made.stderr.decode()[:200]}")
        env |= {"LC_ALL": "en_US.ISO-8859-1", "LOCPATH": str(tmp_path)}
    return env


def test_a_name_is_the_same_lock_in_every_locale(
    run_distlock: Run, realm: RealmView, strange_locale: dict[str, str], tmp_path: Path
) -> None:
    name = "\u00fcber"
    realm.put(name, "1500000000;other;reason")
    held = run_distlock(os.fsencode(f"--lock-name={name}"), "--nowait", *RAN, env=strange_locale)
    assert (held.returncode, held.stdout) == (1, ""), held
    assert "is held by other" in held.stderr
    variable = run_distlock("--nowait", *RAN, env={**strange_locale, "DISTLOCK_LOCKNAME": name})
    assert (variable.returncode, variable.stdout) == (1, ""), variable
    # The command and the names of files are the system's own bytes.
    path = tmp_path / "\u00fc.yaml"
    path.write_text("reason: gr\u00fcn\n", encoding="utf-8")
    done = run_distlock("--lock-name=\u00e4", f"--config={path}", "--", "printf", "%s", "\u00df", env=strange_locale)
    assert (done.stdout, done.returncode) == ("\u00df", 0), done
    assert run_distlock("--lock-name=\u00e4", f"--config={path}", "--lock", env=strange_locale).returncode == 0
    assert realm.record("\u00e4")[1]["reason"] == "gr\u00fcn"


# Which lock was it?


def test_show_reports_that_a_lock_of_this_name_was_never_held(run_distlock: Run, realm: RealmView) -> None:
    said: list[Any] = []
    never = f"never held: no lock of this name is known under {realm.prefix}"
    said.append(run_distlock("--show", "--lock-name=web").stdout)
    assert run_distlock("--lock-name=web", *RAN).returncode == 0
    said.append(run_distlock("--show", "--lock-name=web").stdout)
    said.append(run_distlock("--show", "--lock-name=wbe").stdout)
    assert [never in text for text in said] == [True, False, True]
