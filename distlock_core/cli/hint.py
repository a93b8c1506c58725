"""The hints of an error as commands, each of which reaches the error's lock when it is pasted into a shell."""

from __future__ import annotations

from distlock_core.base.text import for_shell, printable
from distlock_core.cli.reach import etcdctl_options, options, own_words
from distlock_core.hints import sentence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.errors import DistlockError
    from distlock_core.hints import Hint

COMMANDS = {
    "show": "See: distlock --show --lock-name={lock}{reach}",
    "show_key": "See: etcdctl{etcdctl} get --prefix {key}",
    "enter": "To enter it anyway: --token={token}",
    "unlock_dead_run": "If you are sure that it has ended: distlock --unlock --lock-name={lock} --token={token}{reach}",
    "unlock_force": "To break it: distlock --unlock --force --lock-name={lock}{reach}",
    "unlock_step": "To release it anyway: distlock --unlock --token={token} --lock-name={lock}{reach}",
    "unlock_later": "When etcd is back: distlock --unlock --lock-name={lock} --token={token}{reach}",
    "choose_token": "Choose one with --token ({tokens})",
    "change_token": "To change it anyway, name it with --token ({tokens})",
    "same_owner": "Give both the same --id, so that the inner one can enter it",
    "same_slots": "Use the same number everywhere: --slots={slots}",
    "thaw": "To thaw it: distlock --thaw --lock-name={lock}{reach}",
    "thaw_realm": "To thaw it: distlock --thaw{reach}",
    "replace_freeze": "To replace it: --force",
    "settle": (
        "Check with distlock --show --lock-name={lock}{reach}; if that run holds it: "
        "distlock --unlock --lock-name={lock}{reach}"
    ),
    "raw_prefix": "If the Go original uses this prefix: --raw-prefix",
    "set_endpoints": (
        "No endpoint is configured: set --endpoints or DISTLOCK_ENDPOINTS; to try things out, distlock-etcd starts an "
        "etcd"
    ),
}


def advice(hint: Hint) -> str:
    """One hint as a sentence with a command."""
    return sentence(hint, {**COMMANDS, **own_words()}, _quoted, reach=options(), etcdctl=etcdctl_options())


def in_commands(error: DistlockError) -> str:
    """An error's message and its hints, in one line."""
    try:
        return ". ".join([error.message, *map(advice, error.hints)])
    except OSError:
        return error.message  # no descriptor is left for an import: give the message without advice


def _quoted(text: str) -> str:
    return for_shell(printable(text))
