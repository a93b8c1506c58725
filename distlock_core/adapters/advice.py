"""The hints of an error in the words of Salt, Ansible and Puppet, with each tool's ways to show and unlock a lock.

If a task or state has named another realm than the node's settings, the advice names it too.
"""

from __future__ import annotations

import json
import re

from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.errors import DistlockError
from distlock_core.hints import in_words
from distlock_core.settings.reach import CARRIED, as_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final


class Tool(Value):
    """One tool's wording of hints. `reach` returns the words that select the realm of the given settings."""

    table: Mapping[str, str]
    quoted: Callable[[str], str]
    reach: Callable[[Mapping[str, Any]], str]

    def said(self, error: object) -> str:
        """An error or another message, followed by its advice, in one line."""
        if not isinstance(error, DistlockError):
            return str(error)
        reach = self.reach({key: value for key, value in error.reach.items() if key in (*CARRIED, "profile")})
        return in_words(error.message, error.hints, self.table, self.quoted, reach=reach)


def _words(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _for_shell(text: str) -> str:
    import shlex

    return shlex.quote(printable(text))


def _for_yaml(text: str) -> str:
    """A text as a value in YAML, quoted if it could be read as something else."""
    plain = re.fullmatch(r"[A-Za-z_/][\w./:@-]*", text) is not None and not text.endswith(":")
    if plain and text.lower() not in ("true", "false", "yes", "no", "on", "off", "null", "y", "n"):
        return text
    return json.dumps(printable(text), ensure_ascii=False)


def _salt_reach(given: Mapping[str, Any]) -> str:
    return "".join(f" {key}={_for_shell(_words(value))}" for key, value in given.items())


def _ansible_reach(given: Mapping[str, Any]) -> str:
    return "".join(f", {key}: {_for_yaml(_words(value))}" for key, value in given.items())


_SALT = {
    "show": "See: distlock.show {lock}{reach}",
    "show_key": "See: etcdctl get --prefix {key}",
    "enter": "To enter it all the same: token: {token}",
    "unlock_dead_run": "Where that is surely over: distlock.unlock {lock} token={token}{reach}",
    "unlock_force": "To break it: force: True, after a look",
    "unlock_step": "To release it all the same: distlock.unlock {lock} token={token}{reach}, or force: True",
    "unlock_later": "When etcd is back: distlock.unlock {lock} token={token}{reach}",
    "choose_token": "Say which one with token ({tokens})",
    "change_token": "To change it all the same, name it with token ({tokens})",
    "same_owner": "Give both the same owner to enter it again",
    "same_slots": "Use the same number everywhere: slots: {slots}",
    "settle": "Look with distlock.show {lock}{reach}, and if that run holds it: distlock.unlock {lock}{reach}",
    "raw_prefix": "Where the Go original has it like this: raw_prefix: True in the settings",
    "set_endpoints": "No endpoint is configured: set endpoints under distlock: in minion config or pillar",
}
_ANSIBLE = {
    "show": "See: distlock.distlock.distlock_info with name: {lock}{reach}",
    "show_key": "See: etcdctl get --prefix {key}",
    "enter": "To enter it all the same: token: {token}",
    "unlock_dead_run": (
        "Where that is surely over: distlock.distlock.distlock with state: unlocked, name: {lock}, "
        "token: {token}{reach}"
    ),
    "unlock_force": "To break it: force: true, after a look",
    "unlock_step": "To release it all the same: state: unlocked with token: {token}, or force: true, after a look",
    "unlock_later": (
        "When etcd is back: distlock.distlock.distlock with state: unlocked, name: {lock}, token: {token}{reach}"
    ),
    "choose_token": "Say which one with token ({tokens})",
    "change_token": "To change it all the same, name it with token ({tokens})",
    "same_owner": "Give both the same owner to enter it again",
    "same_slots": "Use the same number everywhere: slots: {slots}",
    "settle": (
        "Look with distlock.distlock.distlock_info with name: {lock}{reach}, and if that run holds it: "
        "distlock.distlock.distlock with state: unlocked, name: {lock}{reach}"
    ),
    "raw_prefix": "Where the Go original has it like this: raw_prefix: true in the config file",
    "set_endpoints": (
        "No endpoint is configured: set endpoints in the task, distlock_endpoints for a strategy or lookup, or "
        "DISTLOCK_ENDPOINTS on the controller"
    ),
}
_PUPPET = {
    "show": "See: distlock --show --lock-name={lock}{reach}",
    "show_key": "See: etcdctl get --prefix {key}",
    "enter": "To enter it all the same: token => {token}",
    "unlock_dead_run": "Where that is surely over: distlock --unlock --lock-name={lock} --token={token}{reach}",
    "unlock_force": "To break it: force => true, after a look",
    "unlock_step": (
        "To release it all the same: distlock --unlock --lock-name={lock} --token={token}{reach}, or force => true"
    ),
    "unlock_later": "When etcd is back: distlock --unlock --lock-name={lock} --token={token}{reach}",
    "choose_token": "Say which one with token ({tokens})",
    "change_token": "To change it all the same, name it with token ({tokens})",
    "same_owner": "Give both the same owner to enter it again",
    "same_slots": "Use the same number everywhere: slots => {slots}",
    "settle": (
        "Look with distlock --show --lock-name={lock}{reach}, and if that run holds it: "
        "distlock --unlock --lock-name={lock}{reach}"
    ),
    "raw_prefix": "Where the Go original has it like this: raw_prefix => true",
    "set_endpoints": "No endpoint is configured: set endpoints => [...] of the class distlock, or of this resource",
}

SALT: Final = Tool(_SALT, _for_shell, _salt_reach)
ANSIBLE: Final = Tool(_ANSIBLE, _for_yaml, _ansible_reach)
PUPPET: Final = Tool(_PUPPET, _for_shell, as_options)
