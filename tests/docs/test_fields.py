"""The fields of a lock have the same names wherever they are documented: JSON, Ansible's module and its lists."""

from __future__ import annotations

import re
from typing import Any

import yaml

from distlock_core.cli.json_output import frozen_json, locks_json
from distlock_core.etcd.values import KeyValue
from distlock_core.lock.wait_story import WAITED
from distlock_core.model.freeze import Freeze
from distlock_core.model.record import Record
from distlock_core.model.state import LockState
from tests.support.doc_blocks import json_documents
from tests.support.paths import ROOT

LOCK = set(locks_json(LockState("x", (), 0))[0])
SHARED = {"waiters", "waiting", "last", "policy", "frozen", "freezes"}  # by all holders of a lock
MODULES = ROOT / "ansible/plugins/modules"


def returned(module: str) -> dict[str, Any]:
    """The documented result of a module."""
    (text,) = re.findall(r'^RETURN = r"""\n(.*?)"""', (MODULES / f"{module}.py").read_text(), re.DOTALL | re.MULTILINE)
    documented: dict[str, Any] = yaml.safe_load(text)
    return documented


def test_the_documents_on_the_page_have_every_field() -> None:
    found = {kind: document for document in json_documents() for kind in document if document.get("event") != "frozen"}
    frozen = set(frozen_json(Freeze(None, Record(None, None, {}), KeyValue(b"", b"", 0, 0, 0))))
    for kind in ("frozen", "thawed"):
        assert set(found[kind][kind]) == frozen | {"lock", "prefix"}
    (event,) = [document for document in json_documents() if document.get("event") == "frozen"]
    assert set(event) == frozen | {"event", "lock", "revision"}
    holder = LOCK - SHARED
    waited = [lock for one in json_documents() if "waiting" in one for lock in one["waiting"]["locks"]]
    assert set(found["reached"]["reached"]) == {"until", "waited", "waited_for", "revision", "locks"}
    for lock in (*found["locks"]["locks"], *found["reached"]["reached"]["locks"], *waited):
        assert set(lock) == LOCK
    for kind in ("unlocked", "updated"):
        assert set(found[kind][kind]) == holder
    about = {"by", "why", "dry_run", "process", "machine", "keeper_process"}
    assert set(found["broken"]["broken"]) == holder | about
    assert set(found["event"]) == holder | {"event", "revision", "ended"}
    assert {"lock", "token", *WAITED} < set(found["acquired"]["acquired"])


def test_ansibles_list_documents_the_fields_of_the_json() -> None:
    assert set(returned("distlock_info")["locks"]["contains"]) == LOCK


def test_ansibles_module_names_its_fields_as_the_json_does() -> None:
    assert set(returned("distlock")) <= LOCK | {*WAITED, "kind", "locks"}
