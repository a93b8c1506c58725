"""The hints of an error in the words of Salt, Ansible, Puppet and Bolt, with each one's ways to show and unlock a lock.

If a task or state has named another realm than the node's settings, the advice names it too.
"""

from __future__ import annotations

import json
import re

from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.errors import DistlockError
from distlock_core.hints import in_words, sentence
from distlock_core.settings.realm_options import REALM_SETTINGS, as_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Final

    from distlock_core.hints import Hint


class Tool(Value):
    """One tool's wording of hints. `realm` returns the words that select the realm of the given settings."""

    table: Mapping[str, str]
    quoted: Callable[[str], str]
    realm: Callable[[Mapping[str, Any]], str]

    def said(self, error: object) -> str:
        """An error or another message, followed by its advice, in one line."""
        if not isinstance(error, DistlockError):
            return str(error)
        return in_words(error.message, error.hints, self.table, self.quoted, realm=self._realm(error.realm_settings))

    def advice(self, hint: Hint, realm_settings: Mapping[str, Any]) -> str:
        """One hint as a sentence. `realm_settings`: those of the call, that lead to the same realm."""
        return sentence(hint, self.table, self.quoted, realm=self._realm(realm_settings))

    def _realm(self, given: Mapping[str, Any]) -> str:
        return self.realm({key: value for key, value in given.items() if key in (*REALM_SETTINGS, "profile")})


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


def _named_realm(given: Mapping[str, Any]) -> str:
    return "".join(f" {key}={_for_shell(_words(value))}" for key, value in given.items())


def _ansible_realm(given: Mapping[str, Any]) -> str:
    return "".join(f", {key}: {_for_yaml(_words(value))}" for key, value in given.items())


_SALT = {
    "show": "See: distlock.show {lock}{realm}",
    "show_key": "See: etcdctl get --prefix {key}",
    "enter": "To release it anyway: distlock.unlock {lock} owner={owner} token={token}{realm}",
    "unlock_dead_run": ("If you are sure that it has ended: distlock.unlock {lock} owner={owner} token={token}{realm}"),
    "break": "To break it: distlock.break {lock} token={token} reason=WHY{realm}",
    "unlock_step": "To release it anyway: distlock.unlock {lock} owner={owner} token={token}{realm}",
    "unlock_later": "When etcd is back: distlock.unlock {lock} owner={owner} token={token}{realm}",
    "choose_token": "Choose one (TOKEN is one of {tokens}): distlock.unlock {lock} owner={owner} token=TOKEN{realm}",
    "change_token": "To change it anyway, name it with token ({tokens})",
    "same_owner": "Give both the same owner, so that the inner one can enter it",
    "same_slots": "Use the same number everywhere: slots: {slots}",
    "thaw": "To thaw it: distlock.thaw {lock}{realm}",
    "thaw_realm": "To thaw it: distlock.thaw{realm}",
    "replace_freeze": "To replace it: force=True",
    "policy": "See: distlock.policy {lock}{realm}",
    "open_window": "Its window is in its policy: distlock.policy {lock}{realm}",
    "resolve": (
        "Check with distlock.show {lock}{realm}; if that run holds it: distlock.unlock {lock} owner={owner}{realm}"
    ),
    "raw_prefix": ("If the Go original uses this prefix: raw_prefix: True under distlock: in minion config or pillar"),
    "set_endpoints": "No endpoint is configured: set endpoints under distlock: in minion config or pillar",
}
# At the master: each function is called by salt-run, and `show` has the policy.
_SALT_RUN = {
    **{code: words.replace("distlock.", "salt-run distlock.") for code, words in _SALT.items()},
    "policy": "See: salt-run distlock.show {lock}{realm}",
    "open_window": "Its window is in its policy: salt-run distlock.show {lock}{realm}",
    "raw_prefix": "If the Go original uses this prefix: raw_prefix: True under distlock: in the master's config",
    "set_endpoints": "No endpoint is configured: set endpoints under distlock: in the master's config",
}
_UNLOCKED = "distlock.distlock.distlock with state: unlocked, name: {lock}, "
_ANSIBLE = {
    "show": "See: distlock.distlock.distlock_info with name: {lock}{realm}",
    "show_key": "See: etcdctl get --prefix {key}",
    "enter": "To enter it anyway: token: {token}",
    "unlock_dead_run": ("If you are sure that it has ended: " + _UNLOCKED + "owner: {owner}, token: {token}{realm}"),
    "break": (
        "To break it: distlock.distlock.distlock with state: broken, name: {lock}, token: {token}, reason: WHY{realm}"
    ),
    "unlock_step": "To release it anyway: " + _UNLOCKED + "owner: {owner}, token: {token}{realm}",
    "unlock_later": "When etcd is back: " + _UNLOCKED + "owner: {owner}, token: {token}{realm}",
    "choose_token": ("Choose one (TOKEN is one of {tokens}): " + _UNLOCKED + "owner: {owner}, token: TOKEN{realm}"),
    "change_token": "To change it anyway, name it with token ({tokens})",
    "same_owner": "Give both the same owner, so that the inner one can enter it",
    "same_slots": "Use the same number everywhere: slots: {slots}",
    "thaw": "To thaw it: distlock.distlock.distlock_freeze with state: thawed, name: {lock}{realm}",
    "thaw_realm": "To thaw it: distlock.distlock.distlock_freeze with state: thawed{realm}",
    "replace_freeze": "To replace it: force: true",
    "policy": "See: distlock.distlock.distlock_info with name: {lock}{realm}",
    "open_window": "Its window is in its policy: distlock.distlock.distlock_info with name: {lock}{realm}",
    "resolve": (
        "Check with distlock.distlock.distlock_info with name: {lock}{realm}; if that run holds it: "
        + _UNLOCKED
        + "owner: {owner}{realm}"
    ),
    "raw_prefix": "If the Go original uses this prefix: raw_prefix: true in the config file",
    "set_endpoints": (
        "No endpoint is configured: set endpoints in the task, distlock_endpoints for a strategy or lookup, or "
        "DISTLOCK_ENDPOINTS on the controller"
    ),
}
# A play enters no hold by its token: its strategies have no such option.
_PLAY = {
    **_ANSIBLE,
    "enter": _ANSIBLE["unlock_step"],
    "same_slots": "Use the same number everywhere: distlock_slots: {slots}",
}
_UNLOCK = "distlock --unlock --lock-name={lock} "
_PUPPET = {
    "show": "See: distlock --show --lock-name={lock}{realm}",
    "show_key": "See: etcdctl get --prefix {key}",
    "enter": "To release it anyway: " + _UNLOCK + "--token={token}{realm}",
    "unlock_dead_run": "If you are sure that it has ended: " + _UNLOCK + "--token={token}{realm}",
    "break": "To break it: distlock --break --lock-name={lock} --token={token}{realm}",
    "unlock_step": "To release it anyway: " + _UNLOCK + "--token={token}{realm}",
    "unlock_later": "When etcd is back: " + _UNLOCK + "--token={token}{realm}",
    "choose_token": "Choose one (TOKEN is one of {tokens}): " + _UNLOCK + "--token=TOKEN{realm}",
    "change_token": "To change it anyway, name it with its token ({tokens})",
    "same_owner": "Give both the same owner, so that the inner one can enter it",
    "same_slots": "Use the same number everywhere: slots => {slots}",
    "thaw": "To thaw it: distlock --thaw --lock-name={lock}{realm}",
    "thaw_realm": "To thaw it: distlock --thaw{realm}",
    "replace_freeze": "To replace it: --force",
    "policy": "See: distlock --policy --lock-name={lock}{realm}",
    "open_window": "To open it at all times: distlock --policy --lock-name={lock} --window=Mon-Sun{realm}",
    "resolve": (
        "Check with distlock --show --lock-name={lock}{realm}; if that run holds it: "
        "distlock --unlock --lock-name={lock}{realm}"
    ),
    "raw_prefix": "If the Go original uses this prefix: raw_prefix: true in the config file",
    "set_endpoints": "No endpoint is configured: set endpoints => [...] of the class distlock, or of this resource",
}

_TASK_UNLOCK = "bolt task run distlock::unlock name={lock} "
# Of Bolt's tasks. The reader adds the targets.
_BOLT = {
    **_PUPPET,
    "show": "See: bolt task run distlock::show name={lock}{realm}",
    "enter": "To enter it anyway: token={token}",
    "unlock_dead_run": "If you are sure that it has ended: " + _TASK_UNLOCK + "token={token}{realm}",
    "break": "To break it: bolt task run distlock::break name={lock} token={token} reason=WHY{realm}",
    "unlock_step": "To release it anyway: " + _TASK_UNLOCK + "token={token}{realm}",
    "unlock_later": "When etcd is back: " + _TASK_UNLOCK + "token={token}{realm}",
    "choose_token": "Choose one (TOKEN is one of {tokens}): " + _TASK_UNLOCK + "token=TOKEN{realm}",
    "same_slots": "Use the same number everywhere: slots={slots}",
    "thaw": "To thaw it: bolt task run distlock::thaw name={lock}{realm}",
    "thaw_realm": "To thaw it: bolt task run distlock::thaw{realm}",
    "replace_freeze": "To replace it: force=true",
    "policy": "See: bolt task run distlock::show name={lock}{realm}",
    "open_window": "Its window is in its policy: bolt task run distlock::show name={lock}{realm}",
    "resolve": (
        "Check with bolt task run distlock::show name={lock}{realm}; if that run holds it: "
        + _TASK_UNLOCK
        + "owner={owner}{realm}"
    ),
    "set_endpoints": "No endpoint is configured: set endpoints in the task, or in the target's config file",
}

SALT: Final = Tool(_SALT, _for_shell, _named_realm)
SALT_RUN: Final = Tool(_SALT_RUN, _for_shell, _named_realm)  # the runner
ANSIBLE: Final = Tool(_ANSIBLE, _for_yaml, _ansible_realm)
PLAY: Final = Tool(_PLAY, _for_yaml, _ansible_realm)  # a strategy
PUPPET: Final = Tool(_PUPPET, _for_shell, as_options)
BOLT: Final = Tool(_BOLT, _for_shell, _named_realm)
