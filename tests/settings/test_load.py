"""Reading and merging of settings, without etcd and processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distlock_core.errors import ConfigError
from distlock_core.settings import load as loading
from distlock_core.settings.load import load
from distlock_core.settings.options import BY_KEY, SETTINGS, Settings
from distlock_core.settings.readers import (
    read_bool,
    read_endpoints,
    read_go_duration,
    read_seconds,
    read_span,
    read_text,
    read_whole,
    read_whole_seconds,
)


@pytest.fixture(autouse=True)
def no_default_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The machine's own config file has no part in this; the tests may write one in its place."""
    path = tmp_path / "default.yaml"
    monkeypatch.setattr(loading, "DEFAULT_FILE", str(path))
    return path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("5", 5.0), ("0", 0.0), ("-1", -1.0), ("0.25", 0.25), (" 7 ", 7.0), (3, 3.0), (1.5, 1.5), ("1e3", 1000.0)),
        *(("5s", 5.0), ("10m", 600.0), ("1.5h", 5400.0), ("2d", 172800.0), (".5", 0.5)),
        *(("1h30m", 5400.0), ("3h05m", 11100.0), ("2d07h", 198000.0), ("4m12s", 252.0), ("1d1h1m1.5s", 90061.5)),
    ],
)
def test_seconds(text: object, seconds: float) -> None:
    assert read_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "5x", "s", "nan", "inf", "-inf", "1e10", True, None, [5], {}, 10**400, "9" * 500, "400000d"),
        *("010", "-010", "00", "010s", "0x10", "0b1", "1_000", "1:30", "\u0661", "1 0"),  # not decimal, or not to all
        *("1h30", "30m1h", "1h1h", "-1h30m", "1h-30m", "1h+30m", "h30m", "1hm", "1h 30m", "1h30min", "01h30m"),
        *("1.2.3s", "1e999s", "1d" * 9, "999999h999999m", "1h\u0663m"),
    ],
)
def test_a_text_that_is_no_number_of_seconds(text: object) -> None:
    with pytest.raises(ConfigError, match="a number of seconds"):
        read_seconds(text)


@pytest.mark.parametrize("text", ["0", "-1", 0, "nan", ""])
def test_a_span_is_above_zero(text: object) -> None:
    with pytest.raises(ConfigError, match="a number of seconds"):
        read_span(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("500ms", 0.5),
        ("2m", 120),
        ("1h", 3600),
        ("1.5s", 1.5),
        ("1m30s", 90),
        ("1h0m0s", 3600),
        ("1s500ms", 1.5),
        (5_000_000_000, 5),
        ("5000000000", 5),
    ],
)
def test_a_duration_as_go_writes_it(text: object, seconds: float) -> None:
    assert read_go_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "s",
        "-5s",
        "0s",
        0,
        "0",
        "010",
        "05s",
        "1_0s",
        -1,
        True,
        None,
        "",
        "nans",
        "5ss",
        "5 parsecs",
        1.5,
        "5\0",
        "1s1m",
        "1d",
    ],
)
def test_a_text_that_is_no_duration(text: object) -> None:
    with pytest.raises(ConfigError):
        read_go_duration(text)


@pytest.mark.parametrize(("text", "number"), [("1", 1), (" 10 ", 10), (7, 7)])
def test_whole_numbers(text: object, number: int) -> None:
    assert read_whole(1, 10)(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "11",
        "-1",
        "+1",
        "1.0",
        "007",
        "0x5",
        "1_0",
        5.0,
        "",
        "one",
        "\u0664",
        "\u00b2",
        True,
        None,
        "9" * 5000,
    ],
)
def test_a_text_that_is_no_whole_number(text: object) -> None:
    with pytest.raises(ConfigError, match="a whole number from 1 to 10"):
        read_whole(1, 10)(text)


@pytest.mark.parametrize("text", [True, "true", "TRUE", "T", "1", "yes", "on", " True ", 1])
def test_true(text: object) -> None:
    assert read_bool(text) is True


@pytest.mark.parametrize("text", [False, "false", "F", "0", "no", "off", 0])
def test_false(text: object) -> None:
    assert read_bool(text) is False


@pytest.mark.parametrize("text", ["", "2", "perhaps", None, [], 7])
def test_neither_true_nor_false(text: object) -> None:
    with pytest.raises(ConfigError, match="true or false"):
        read_bool(text)


def test_a_quoted_text_is_not_read_as_a_number() -> None:
    assert read_text("010") == "010"
    for number in (8, 1.1):
        with pytest.raises(ConfigError, match="a string, in quotes"):
            read_text(number)
    others: tuple[Any, ...] = (True, None, [], {}, b"x")
    for other in others:
        with pytest.raises(ConfigError, match="a string"):
            read_text(other)


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60), (60, 60), ("10m", 600), ("366d", 31622400), ("1h", 3600), ("1h30m", 5400)]
)
def test_whole_seconds_may_have_a_unit(text: object, seconds: int) -> None:
    assert read_whole_seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["0", "-1", "1.5", "1.5m", "1h1.5m", "365d24h1s", "1h30", "010", "367d", "31622401", "9" * 5000, True, ""]
)
def test_whole_seconds_have_an_upper_bound(text: object) -> None:
    with pytest.raises(ConfigError, match="a whole number of seconds from 1 to 31622400"):
        read_whole_seconds(text)


def test_a_number_of_thousands_of_digits_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="found a number of thousands of digits"):
        BY_KEY["slots"].value(10**5000, "slots")


@pytest.mark.parametrize(
    ("text", "found"),
    [("a,b", ["a", "b"]), (" a , ,b, ", ["a", "b"]), (["a ", "", "b"], ["a", "b"]), ("", []), ([], [])],
)
def test_endpoints(text: object, found: list[str]) -> None:
    assert read_endpoints(text) == found


@pytest.mark.parametrize("text", [7, None, {"a": "b"}, [7], [["a"]]])
def test_a_value_that_is_no_list_of_endpoints(text: object) -> None:
    with pytest.raises(ConfigError, match="a list of URLs"):
        read_endpoints(text)


def test_every_setting_has_one_word_for_variable_and_key() -> None:
    for setting in SETTINGS:
        assert setting.key.replace("_", "") == setting.option.replace("-", "")
        assert setting.variable == f"DISTLOCK_{setting.key.upper()}"
    assert len({setting.key for setting in SETTINGS}) == len(SETTINGS)


def test_without_anything_the_defaults_hold() -> None:
    settings = load({}, {})
    assert settings == Settings()
    assert {setting.key: settings.by_key(setting.key) for setting in SETTINGS} == {
        setting.key: setting.default for setting in SETTINGS
    }
    assert settings.given == frozenset()


def test_the_source_of_each_setting_is_known(no_default_file: Path) -> None:
    no_default_file.write_text("reason: r\n")
    settings = load({"lockname": "x"}, {"DISTLOCK_ID": "me", "DISTLOCK_TIMEOUT": ""})
    assert settings.given == {"lockname", "id", "reason"}


def test_the_default_file_may_be_absent_and_is_read_when_it_is_there(no_default_file: Path) -> None:
    assert load({}, {}).lockname == ""
    no_default_file.write_text("lockname: from_the_default_file\n")
    assert load({}, {}).lockname == "from_the_default_file"


@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_named_file_takes_the_place_of_the_default_one_and_has_to_be_there(
    no_default_file: Path, tmp_path: Path, how: str
) -> None:
    no_default_file.write_text("lockname: from_the_default_file\n")
    named = tmp_path / "named.yaml"

    def settings() -> Settings:
        return load({"config": str(named)}, {}) if how == "option" else load({}, {"DISTLOCK_CONFIG": str(named)})

    with pytest.raises(ConfigError, match=r"named\.yaml: does not exist"):
        settings()
    named.write_text("reason: r\n")
    assert (settings().lockname, settings().reason) == ("", "r")


def test_an_option_for_the_file_wins_over_the_variable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"lockname: {name}\n")
    found = load({"config": str(tmp_path / "a")}, {"DISTLOCK_CONFIG": str(tmp_path / "b")})
    assert found.lockname == "a"


def test_maxtime_stands_in_for_connect_timeout_only(no_default_file: Path) -> None:
    no_default_file.write_text("maxtime: 2s\n")
    assert load({}, {}).connect_timeout == 2.0
    assert load({}, {"DISTLOCK_CONNECT_TIMEOUT": "3"}).connect_timeout == 3.0


@pytest.mark.parametrize(
    ("file", "variables", "options", "expected"),
    [
        ("", {}, {"nowait": True}, (True, 0.0)),
        ("timeout: 9", {"DISTLOCK_NOWAIT": "1"}, {}, (True, 0.0)),
        ("nowait: true", {"DISTLOCK_TIMEOUT": "9"}, {}, (False, 9.0)),
        ("nowait: true\ntimeout: 9", {}, {}, (True, 0.0)),
        ("nowait: true", {"DISTLOCK_TIMEOUT": "9"}, {"nowait": True}, (True, 0.0)),
        ("", {"DISTLOCK_NOWAIT": "1", "DISTLOCK_TIMEOUT": "9"}, {}, (True, 0.0)),
        ("", {"DISTLOCK_NOWAIT": "1"}, {"timeout": -1.0}, (False, -1.0)),
    ],
)
def test_nowait_and_timeout_are_one_setting(
    no_default_file: Path, file: str, variables: dict[str, str], options: dict[str, Any], expected: tuple[bool, float]
) -> None:
    no_default_file.write_text(file)
    settings = load(options, variables)
    assert (settings.nowait, settings.timeout) == expected


def test_a_bomb_of_aliases_is_refused_or_read_but_never_hangs(no_default_file: Path) -> None:
    lines = ["a0: &a0 x"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    no_default_file.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="unknown key 'a0'"):
        load({}, {})


def test_a_message_shows_the_beginning_of_a_long_value_in_one_line(no_default_file: Path) -> None:
    no_default_file.write_text("timeout: |\n" + "  a\n" * 500)
    with pytest.raises(ConfigError) as caught:
        load({}, {})
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 250


def test_an_empty_prefix_in_the_file_is_no_prefix_that_was_forgotten(no_default_file: Path) -> None:
    # The original would take it: its locks would lie elsewhere than ours.
    no_default_file.write_text('prefix: ""\n')
    with pytest.raises(ConfigError, match="the prefix is empty"):
        load({}, {})


@pytest.mark.parametrize(
    ("text", "environ", "options", "origins"),
    [
        (
            "# x\nttl: 3\n",
            {"DISTLOCK_REFRESH": "2.5"},
            {},
            "(ttl from config file {} line 2, refresh from DISTLOCK_REFRESH)",
        ),
        ("\n'refresh': 9\n", {}, {"ttl": 3}, "(refresh from config file {} line 2, ttl from --ttl)"),
        ("cert: /c\nkey: /k\n", {"DISTLOCK_TTL": "1"}, {}, "(ttl from DISTLOCK_TTL)"),
        ("prefix: /x/\n\nkey: /k\n", {}, {}, "(key from config file {} line 3)"),
        ("password: x\n", {}, {}, "(password from config file {} line 1)"),
        ("prefix: /x/\n", {"DISTLOCK_USER": "node"}, {}, "(user from DISTLOCK_USER)"),
    ],
)
def test_settings_that_contradict_each_other_are_named_with_their_origins(
    no_default_file: Path, text: str, environ: dict[str, str], options: dict[str, Any], origins: str
) -> None:
    no_default_file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(options, environ, {key: f"--{key}" for key in options})
    assert caught.value.message.endswith(f" {origins.format(no_default_file)}")


def test_a_contradiction_names_no_origin_of_a_default() -> None:
    settings = load({"refresh": 100.0}, {}, {"refresh": "refresh"})
    with pytest.raises(ConfigError, match=r"below the ttl of 60s, not 100 \(refresh\)$"):
        loading.checked(settings._replace(ttl=60))
