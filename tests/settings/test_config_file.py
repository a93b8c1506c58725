"""The config file is read as YAML reads it, with every scalar as it is written; with and without PyYAML."""

from __future__ import annotations

import builtins
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distlock_core.errors import ConfigError
from distlock_core.settings import config_file, plain_yaml
from distlock_core.settings import load as loading
from distlock_core.settings.load import load
from tests.support.paths import ROOT


@pytest.fixture(autouse=True)
def default_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The machine's own config file has no part in this; the tests may write one in its place."""
    path = tmp_path / "default.yaml"
    monkeypatch.setattr(loading, "DEFAULT_FILE", str(path))
    return path


@pytest.fixture
def no_pyyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a Python that has none."""
    original = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)


def by_pyyaml(text: str) -> list[tuple[Any, Any]] | None:
    """Keys and values in order, as read by PyYAML's BaseLoader. None for a document that is no config file."""
    try:
        node = yaml.compose(text.encode(), yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeError):
        return None
    if node is None or (isinstance(node, yaml.ScalarNode) and plain(node) is None):
        return []
    if not isinstance(node, yaml.MappingNode):
        return None
    return [(key.value, plain(value)) for key, value in node.value]


def plain(node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {plain(key): plain(value) for key, value in node.value}
    assert isinstance(node, yaml.ScalarNode)
    return None if node.style is None and node.value in ("", "~", "null", "Null", "NULL") else node.value


def ours(text: str) -> list[tuple[Any, Any]] | None:
    try:
        return list(plain_yaml.read(text))
    except plain_yaml.NotPlain:
        return None


# Parts of valid and slightly wrong lines of config files.
WORDS = st.sampled_from(
    [
        *("lockname", "endpoints", "prefix", "reason", "key", "http://10.0.0.1:2379", "/distlock/", "a b", "x"),
        *(
            "-",
            "- ",
            "  - ",
            "--- ",
            "---",
            "...",
            ":",
            ": ",
            " :",
            "#",
            " # c",
            "'",
            "''",
            '"',
            "\\",
            '\\"',
            "\\n",
            "\\x41",
            "\\u00fc",
            "\\U0010FFFF",
        ),
        *(
            "[",
            "]",
            "{",
            "}",
            ",",
            ", ",
            "&a",
            "*a",
            "!x",
            "!!str",
            "|",
            ">",
            "|-",
            "%",
            "@",
            "`",
            "?",
            "? ",
            "<<",
            "=",
        ),
        *(
            "~",
            "null",
            "yes",
            "010",
            "1_0",
            "1:30",
            "-1",
            "\t",
            " ",
            "  ",
            "\n",
            "\n",
            "\n  ",
            "\r\n",
            "\ufeff",
            "\u00fc",
        ),
        *(
            "\u00a0",
            "\u2028",
            "\x85",
            "\x07",
            "\ud7ff",
            "\U0001f512",
            "(a)",
            "$x",
            "a#b",
            "a:b",
            "+1",
            ".5",
            "^",
            ";",
            "<",
        ),
    ]
)
SCRAPS = st.lists(WORDS, max_size=14).map("".join)
KEYS = st.sampled_from(["lockname", "reason", "connect_timeout", "a-b", "_x", "A1"])
SCALARS = st.one_of(
    st.sampled_from(
        ["x", "010", "a b", "http://h:1", "'it''s'", '"a \\"b\\" \\\\"', "", "~", "-1", "a#b", "it's", "/x/"]
    ),
    SCRAPS.map(lambda text: text.replace("\n", "")),
)
COMMENT = st.sampled_from(["", "", " # why: because", "#x", "  "])
LINES = st.one_of(
    st.tuples(KEYS, st.sampled_from([": ", ":", ":  "]), SCALARS, COMMENT).map("".join),
    st.tuples(KEYS, st.just(":"), COMMENT).map("".join),
    st.tuples(st.sampled_from(["- ", "  - ", "    -  "]), SCALARS, COMMENT).map("".join),
    st.tuples(KEYS, st.just(": ["), st.lists(SCALARS, max_size=3).map(", ".join), st.just("]"), COMMENT).map("".join),
    st.sampled_from(["", "# a comment", "   # another", "---", "--- # x", "..."]),
    SCRAPS,
)
FILES = st.lists(LINES, max_size=7).map("\n".join)


@settings(max_examples=250, deadline=None)
@given(st.one_of(FILES, SCRAPS))
@example("endpoints: [a:1, b]\n")
@example("a: [b:, c]\n")
@example("a: 'x'\n  y\n")
@example("a: x\n  y\n")
@example("a: x\n- y\n")
@example("a:\n- y\n  z\n")
@example("a:\n  - y\n - z\n")
@example("---\na: b\n---\nc: d\n")
@example("a: b: c\n")
@example("a: b #c\n")
@example("a: 'b'#c\n")
@example("a: - b\n")
@example("a: null # x\nb: ~\nc:\nd: 'null'\n")
def test_the_plain_form_is_read_as_pyyaml_reads_it_or_left_to_it(text: str) -> None:
    found = ours(text)
    if found is not None:
        assert found == by_pyyaml(text)


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20)
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, st.one_of(ASCII, TEXTS, st.lists(ASCII, max_size=3)), max_size=5))
def test_a_file_written_by_a_program_is_read_back(values: dict[str, Any]) -> None:
    text = yaml.safe_dump(values, width=10**6, allow_unicode=True, default_flow_style=False)
    found = ours(text)
    assert found is None or dict(found) == values
    if all(re.fullmatch(r"[\w./:-]*", item) for value in values.values() for item in value if isinstance(value, list)):
        simple = {key: value for key, value in values.items() if re.fullmatch(r"[a-z][a-z ]*[a-z]", str(value))}
        assert ours(yaml.safe_dump(simple, default_flow_style=False) if simple else "") == sorted(simple.items())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("# nothing\n\n---\n", {}),
        ("\ufeffprefix: /x/\r\nreason: a\r\n", {"prefix": "/x/", "reason": "a"}),
        (
            "endpoints:\n  - http://a:1   # first\n  - 'https://b'\n\nreason: \"it's\"\n",
            {"endpoints": ["http://a:1", "https://b"], "reason": "it's"},
        ),
        ("endpoints: [http://a:1, https://b:2379/]\n", {"endpoints": ["http://a:1", "https://b:2379/"]}),
        ("endpoints: http://a:1,http://b:1\n", {"endpoints": "http://a:1,http://b:1"}),
        (
            "endpoints: []\ntimeout: -1\nreason: 50% done; \u00fc #1\n",
            {"endpoints": [], "timeout": "-1", "reason": "50% done; \u00fc"},
        ),
    ],
)
def test_the_plain_form_needs_no_pyyaml(no_pyyaml: None, tmp_path: Path, text: str, found: dict[str, Any]) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(text.encode())
    assert config_file.read(str(path)) == found


def test_the_files_in_the_docs_and_those_that_puppet_writes_need_no_pyyaml(no_pyyaml: None, default_file: Path) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"<!-- config -->\n```yaml\n(.*?)```", page, re.DOTALL)
    tls = re.search(r"### TLS and users\n\n<!-- .* -->\n```yaml\n(.*?)```", page, re.DOTALL)
    assert tls is not None
    puppet = (
        "# Puppet writes this file (class distlock).\n"
        'prefix: "/distlock/"\ntimeout: 600\nendpoints:\n  - "http://10.0.0.1:2379"\n  - "http://10.0.0.2:2379"\n'
        'reason: "gr\\U000000FCn \\U00000022x\\U00000022"\nnowait: false\n'
    )
    ruby = "---\nendpoints:\n- http://10.0.0.1:2379\n- http://10.0.0.2:2379\nprefix: \"/x/\"\nslots: '2'\n"
    for text in (example, tls[1], puppet, ruby):
        assert ours(text) == by_pyyaml(text)
        assert ours(text)


# A file that is not for us.


GIVEN = {"DISTLOCK_ENDPOINTS": "http://10.0.0.1:2379", "DISTLOCK_PREFIX": "/x/"}


def test_beyond_the_plain_form_without_pyyaml_the_error_names_the_remedy(no_pyyaml: None, default_file: Path) -> None:
    default_file.write_text("{endpoints: [http://a:1]}\n")
    with pytest.raises(ConfigError) as caught:
        load({}, {})
    assert "is not in the plain form" in caught.value.message
    assert "set endpoints and prefix in another way, or config to ''" in caught.value.message
    assert load({"config": ""}, {}).endpoints is None
    assert load({"config": "/dev/null"}, {}).endpoints is None
    settings = load({}, GIVEN)
    assert (settings.prefix, len(settings.warnings)) == ("/x/", 1)
    assert "It is left out, since endpoints and prefix are given in another way" in settings.warnings[0]


@pytest.mark.parametrize("missing", sorted(GIVEN))
def test_a_default_file_that_cannot_be_read_is_left_out_only_if_where_and_which_realm_are_known(
    default_file: Path, missing: str
) -> None:
    default_file.mkdir()  # root may read every file there is
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load({}, {key: value for key, value in GIVEN.items() if key != missing})
    settings = load({}, GIVEN)
    assert "cannot be read: Is a directory" in settings.warnings[0]


def test_a_named_file_that_cannot_be_read_is_always_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load({"config": str(tmp_path)}, GIVEN)


@pytest.mark.skipif(os.geteuid() != 0, reason="to be another user takes root")
def test_another_users_file_is_left_out_for_an_ordinary_user(tmp_path: Path) -> None:
    folder = tmp_path
    while folder != folder.parent:  # pytest makes its own for root alone
        if folder.stat().st_uid == os.geteuid() and stat.S_IMODE(folder.stat().st_mode) == 0o700:
            folder.chmod(0o711)
        folder = folder.parent
    path = tmp_path / "secret.yaml"
    path.write_text("prefix: /x/\n")
    path.chmod(0o600)
    code = (
        "import os; from distlock_core.settings import config_file, load, trusted_files\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        f"load.DEFAULT_FILE = {str(path)!r}\n"
        "print(load.load({}).warnings)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **GIVEN},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "secret.yaml: cannot be read: Permission denied. It is left out" in done.stdout, done


def test_a_file_without_end_is_no_config_file() -> None:
    with pytest.raises(ConfigError, match="larger than 8 MiB"):
        load({"config": "/dev/zero"}, {})


# Files that others may change.


def test_a_file_that_others_may_change_is_warned_about_even_without_a_password(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("reason: r\n")
    said = []
    for mode, folder in ((0o644, 0o755), (0o666, 0o755), (0o644, 0o777), (0o644, 0o1777)):
        path.chmod(mode)
        tmp_path.chmod(folder)
        said.append(load({"config": str(path)}, {}).warnings)
    tmp_path.chmod(0o700)
    quiet, file, place, sticky = said
    assert quiet == sticky == ()
    assert len(file) == len(place) == 1
    assert f"everybody may change {path}" in file[0]
    assert f"everybody may replace {path}: chmod o-w {tmp_path}" in place[0]


def test_a_private_key_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    for name, mode in (("key", 0o644), ("cert", 0o644), ("ca", 0o666)):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(mode)
    given = {"key": str(tmp_path / "key"), "cert": str(tmp_path / "cert"), "cacert": str(tmp_path / "ca")}
    warnings = load({**given, "config": "", "endpoints": ["https://h"]}, {}).warnings
    assert len(warnings) == 2
    assert "is a private key, and everybody may read or change it" in warnings[0]
    assert f"everybody may change {tmp_path / 'ca'}" in warnings[1]


# Secrets over unencrypted connections.


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (
            {"endpoints": ["http://10.0.0.1:2379"], "user": "u", "password": "p"},
            "the password goes there in clear text",
        ),
        ({"endpoints": ["10.0.0.1"], "user": "u", "password": "p"}, ""),
        ({"endpoints": ["HTTP://10.0.0.1"], "user": "u", "password": "p"}, "the password goes there in clear text"),
        ({"user": "u", "password": "p"}, ""),  # what stays on this machine
        ({"endpoints": ["http://127.0.0.1:2379", "localhost", "http://[::1]"], "user": "u", "password": "p"}, ""),
        ({"endpoints": ["https://h", "http://h"], "cacert": "/x"}, "http://h is plain http: cacert is not used there"),
        ({"endpoints": ["https://10.0.0.1:2379"], "user": "u", "password": "p"}, ""),
        ({"endpoints": ["10.0.0.1"], "user": "u", "password": "p", "cacert": "/x"}, ""),
        ({"discovery_srv": "example.com", "user": "u", "password": "p"}, ""),
        ({"endpoints": ["http://10.0.0.1:2379"]}, ""),
        ({"endpoints": ["http://u:secret@h"], "user": "u", "password": "p"}, ""),  # which is refused, and not repeated
    ],
)
def test_a_password_over_plain_http_is_warned_about(options: dict[str, Any], warned: str) -> None:
    warnings = load({"config": "", **options}, {}).warnings
    assert len(warnings) == bool(warned)
    assert all(warned in line and "secret" not in line for line in warnings)
