"""The hints of an error as commands, each of which reaches the error's lock when it is pasted into a shell."""

from __future__ import annotations

from distlock_core.base.text import for_shell, printable
from distlock_core.cli.command_line import AdviceData
from distlock_core.hints import sentence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.errors import DistlockError
    from distlock_core.hints import Hint

COMMANDS = {
    "show": "See: distlock --show --lock-name={lock}{realm}",
    "show_key": "See: etcdctl{etcdctl} get --prefix {key}",
    "enter": "To enter it anyway: --token={token}",
    "unlock_dead_run": "If you are sure that it has ended: distlock --break --lock-name={lock} --token={token}{realm}",
    "break": "To break it: distlock --break --lock-name={lock} --token={token}{realm}",
    "unlock_step": "To release it anyway: distlock --unlock --token={token} --lock-name={lock}{realm}",
    "unlock_later": "When etcd is back: distlock --unlock --lock-name={lock} --token={token}{realm}",
    "choose_token": "Choose one with --token ({tokens})",
    "change_token": "To change it anyway, name it with --token ({tokens})",
    "same_owner": "Give both the same --id, so that the inner one can enter it",
    "same_slots": "Use the same number everywhere: --slots={slots}",
    "thaw": "To thaw it: distlock --thaw --lock-name={lock}{realm}",
    "thaw_realm": "To thaw it: distlock --thaw{realm}",
    "replace_freeze": "To replace it: --force",
    "policy": "See: distlock --policy --lock-name={lock}{realm}",
    "open_window": "To open it at all times: distlock --policy --lock-name={lock} --window=Mon-Sun{realm}",
    "resolve": (
        "Check with distlock --show --lock-name={lock}{realm}; if that run holds it: "
        "distlock --unlock --lock-name={lock}{realm}"
    ),
    "raw_prefix": "If the Go original uses this prefix: --raw-prefix",
    "set_endpoints": (
        "No endpoint is configured: set --endpoints or DISTLOCK_ENDPOINTS; to try things out, distlock-etcd starts an "
        "etcd"
    ),
}


def advice(hint: Hint) -> str:
    """One hint as a sentence with a command."""
    endpoints = AdviceData.etcdctl_endpoints
    etcdctl = f" --endpoints={for_shell(endpoints)}" if endpoints else ""
    return sentence(hint, {**COMMANDS, **AdviceData.words}, _quoted, realm=realm_options(), etcdctl=etcdctl)


def realm_options() -> str:
    """The options that lead `distlock` to the realm of this call, for a shell, each with a leading blank.

    They are options and variables of this call, so that the command works even when it is pasted into another shell.
    The default config file needs no option.
    """
    import os

    from distlock_core.settings.readers import read_bool, utf8
    from distlock_core.settings.realm_options import as_options, from_environment

    found = from_environment({name: utf8(text) for name, text in os.environ.items() if name.startswith("DISTLOCK_")})
    if "raw_prefix" in found:
        found["raw_prefix"] = read_bool(found["raw_prefix"])
    return as_options({**found, **AdviceData.given})


def in_commands(error: DistlockError) -> str:
    """An error's message and its hints, in one line."""
    try:
        return ". ".join([error.message, *map(advice, error.hints)])
    except OSError:
        return error.message  # no descriptor is left for an import: give the message without advice


def _quoted(text: str) -> str:
    return for_shell(printable(text))
