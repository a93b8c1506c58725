"""Manual pages of the commands: options by argparse-manpage from the parsers, the rest from the texts of `--help`."""

from __future__ import annotations

import re

from argparse_manpage.manpage import Manpage

from distlock_core import __version__
from distlock_core.cli import distlock_etcd, etcdlocker
from distlock_core.cli.help import EXAMPLES, EXIT_CODE, HOW_OPTIONS_ARE_GIVEN, USES
from distlock_core.cli.puppet import arguments as puppet
from tools.shell_files.parsers import ALL, Command

PLACE = "man/man1/{name}.1"  # below share/
MANUAL = "distlock"
FILES = (
    ("/etc/distlock/distlock.yaml", "the config file, unless --config or DISTLOCK_CONFIG names another"),
    ("/var/lib/distlock", "this machine's notes of the locks that it holds under an --id"),
)


def page(command: Command) -> str:
    """The manual page of one command, in roff."""
    parser = command.parser("")
    parser.description = parser.epilog = None
    manual = Manpage(parser)
    manual.source, manual.manual = f"distlock-core {__version__}", MANUAL
    manual.description = command.about
    for heading, content in _SECTIONS[command.name].items():
        manual.add_section(heading, ">", content)
    others = sorted(f".BR {_text(one.name)} (1)" for one in ALL if one.name != command.name)
    manual.add_section("see also", ">", ",\n".join(others))
    return str(manual)


def _text(text: str) -> str:
    """Text for roff: nothing in it is a request, and a - is the one of a command line."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", escaped, flags=re.MULTILINE)


def _paragraphs(*texts: str) -> str:
    return "\n.PP\n".join(_text(" ".join(text.split())) for text in texts)


def _as_it_stands(text: str) -> str:
    return f".EX\n{_text(text.rstrip())}\n.EE"


def _terms(pairs: tuple[tuple[str, str], ...]) -> str:
    return "\n".join(f".TP\n.B {_text(term)}\n{_text(text)}" for term, text in pairs)


def _synopsis(name: str, lines: list[str]) -> str:
    return "\n.br\n".join(f".B {_text(name)}\n{_text(line)}" for line in lines)


def _of_help(text: str, start: str, end: str = "\n\n") -> str:
    """A part of a text of --help."""
    return text[text.index(start) :].partition(end)[0]


_LINES = "The value of an option is the next word, or follows a =."
_SECTIONS: dict[str, dict[str, str]] = {
    "distlock": {
        "synopsis": _synopsis("distlock", [line for _operation, line, _text in USES]),
        "description": _paragraphs(
            "Runs a command while holding a lock in etcd that the whole cluster honours, or carries out one of the "
            "operations on locks.",
            f"{HOW_OPTIONS_ARE_GIVEN} {_LINES}",
            "--help prints a summary of all this, --version the version.",
        ),
        "exit status": _paragraphs(EXIT_CODE.replace("the", "The", 1)),
        "files": _terms(FILES),
        "examples": _as_it_stands(EXAMPLES),
    },
    "distlock-puppet": {
        "synopsis": _synopsis(
            "distlock-puppet",
            [f"{one} NAME [OPTIONS]{' -- COMMAND [ARGUMENTS]' if one == 'exec' else ''}" for one in puppet.OPERATIONS],
        ),
        "description": _paragraphs(
            "Acquires, releases and checks a lock for Puppet: around one command, or around a whole run. It is called "
            "by the module distlock, and by prerun_command and postrun_command.",
            _LINES,
        )
        + f"\n{_terms(tuple(puppet.USES.items()))}",
        "exit status": _paragraphs(puppet.HELP[puppet.HELP.index("\nexec exits") :]),
        "files": _terms(FILES),
    },
    "etcdlocker": {
        "synopsis": _synopsis("etcdlocker", ["[options] [--] COMMAND [ARGUMENTS]"]),
        "description": _paragraphs(
            "Acquires a distributed lock, runs a command, and releases the lock when the command ends.",
            f"Options of the command itself need the -- before it. {_LINES}",
        ),
        "exit status": _paragraphs(_of_help(etcdlocker.HELP, "Exit code:").replace("Exit code: the", "The")),
        "examples": _as_it_stands("  etcdlocker -k /my/lock -t 60 -- ls -lah"),
    },
    "distlock-etcd": {
        "description": _paragraphs(
            "Starts a real etcd on this machine, to try distlock out. It is not for production.",
            distlock_etcd.EXAMPLES[distlock_etcd.EXAMPLES.index("\nIt prints") :],
        ),
        "examples": _as_it_stands(_of_help(distlock_etcd.EXAMPLES, "  distlock-etcd")),
    },
}
