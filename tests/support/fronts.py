"""The words that each tool has for the settings of a lock, as its source says."""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path
from typing import Any

import yaml

from distlock_core import Realm, acquire_if_needed
from distlock_core.cli.option_rules import GOES_WITH
from distlock_core.settings.options import SETTINGS
from tests.support.paths import ROOT

ABOUT_A_LOCK = ("run", "lock", "unlock")  # operations of the command
EVERYWHERE = ("list", "get", "watch", "prune")  # an option that goes with all of these is not about one lock
# What the settings are called elsewhere, in order of preference.
ALSO = {
    "lockname": ("name", "lock_name"),
    "id": ("owner",),
    "timeout": ("lock_timeout",),
    "unless": ("onlyif",),
    "only_if": ("onlyif",),
}


def settings_of_a_lock() -> list[str]:
    """The settings about one acquisition, in the order of the table; not those of the connection, or of the output."""
    keys = {setting.option: setting.key for setting in SETTINGS}
    about = [one for one, found in GOES_WITH.items() if {*ABOUT_A_LOCK} & {*found} and not {*EVERYWHERE} <= {*found}]
    named = ["lockname", *(keys.get(one, one.replace("-", "_")) for one in about if one != "lock-name")]
    order = [setting.key for setting in SETTINGS]
    return sorted(named, key=lambda key: order.index(key) if key in order else len(order))


def words() -> dict[str, set[str]]:
    """By front: the words that it has."""
    role = yaml.safe_load(_read("ansible/roles/guarded/meta/argument_specs.yml"))["argument_specs"]["main"]["options"]
    strategies = yaml.safe_load(_constant("ansible/plugins/doc_fragments/strategy.py", "OWN"))["options"]
    connection = set(yaml.safe_load(_connection()))
    module = yaml.safe_load(_constant("ansible/plugins/modules/distlock.py", "DOCUMENTATION"))["options"]
    python = {*inspect.signature(Realm.lock).parameters, *inspect.signature(acquire_if_needed).parameters}
    modules, states = "salt/_modules/distlock.py", "salt/_states/distlock.py"
    run = "distlock_run.py"
    return {
        "Python": python,
        "Salt `locked`, `unlocked`": _arguments(states, "locked") | _arguments(states, "unlocked"),
        "Salt `lock`, `unlock`": _arguments(modules, "lock") | _arguments(modules, "unlock"),
        "Salt `run`": _arguments(f"salt/_states/{run}", "run") & _arguments(f"salt/_modules/{run}", "run"),
        "Ansible `distlock`": {*module, *connection},
        "Ansible `guarded`": {name.removeprefix("guarded_") for name in role},
        "Ansible strategies": {name.removeprefix("distlock_") for name in strategies} | connection,
        "Puppet `exec`": _parameters("exec.pp"),
        "Puppet `run_lock`": _parameters("run_lock.pp"),
        "Puppet `protect`": _parameters("protect.pp"),
        "Puppet `distlock`": set(re.findall(r"newparam\(:(\w+)", _read("puppet/lib/puppet/type/distlock.rb"))),
        "Puppet tasks": {word for name in ("lock", "unlock") for word in _task(name)["parameters"]},
    }


def _arguments(path: str, function: str) -> set[str]:
    for node in ast.parse(_read(path)).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            return {one.arg for one in node.args.args}
    raise AssertionError(f"{path} has no {function}()")


def _constant(path: str, name: str) -> str:
    for node in ast.parse(_read(path)).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return str(ast.literal_eval(node.value))
    raise AssertionError(f"{path} has no {name}")


def _connection() -> Any:
    text = _read("ansible/plugins/module_utils/_arguments.py")
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_CONNECTION":
            return yaml.safe_dump(list(ast.literal_eval(node.value)))
    raise AssertionError("no _CONNECTION")


def _parameters(file: str) -> set[str]:
    head = _read(f"puppet/manifests/{file}").partition("\n) {")[0]
    return set(re.findall(r"^  [A-Z].*? \$(\w+)(?: =.*)?,$", head, re.MULTILINE))


def _task(name: str) -> Any:
    return json.loads(_read(f"puppet/tasks/{name}.json"))


def _read(path: str) -> str:
    return Path(ROOT, path).read_text(encoding="utf-8")
