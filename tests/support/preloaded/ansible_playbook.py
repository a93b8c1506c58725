"""`ansible-playbook`, imported with the settings that the server has in its environment, and with Ansible's plugins.

Nothing of the collection is imported here: each run does that itself.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
from types import CodeType

from ansible import cli, constants
from ansible.cli.playbook import main
from ansible.config import manager
from ansible.plugins import loader
from ansible.utils.collection_loader import _collection_finder as collection_finder

from tests.support.preloaded.server import become_requested

# Ansible imports these in the course of a run.
DURING_A_RUN = (
    "ansible.executor.process.worker",
    "ansible.executor.task_executor",
    "ansible.module_utils.connection",
    "ansible.playbook.included_file",
    "ansible.playbook.role.include",
    "ansible.playbook.role_include",
    "ansible.playbook.task_include",
    "ansible.playbook.handler_task_include",
    "multiprocessing.popen_fork",
    "multiprocessing.synchronize",
    "multiprocessing.shared_memory",
    "pty",
    "tomllib",
    "xml.dom.minidom",
    "xml.etree.ElementTree",
)


kept = importlib.import_module("sitecustomize")  # that of the test session, which keeps what is compiled


def compile_once(source: str | bytes, filename: str, **_: object) -> CodeType:
    """In place of `compile`: Ansible's workers compile what their task needs of a collection, each for itself."""
    code: CodeType = kept.compiled(filename, source.encode() if isinstance(source, str) else source)
    return code


def import_plugins() -> None:
    """Of the kinds that each run imports all of, and reads the documentation of."""
    loader.init_plugin_loader()
    every_run = (loader.connection_loader, loader.shell_loader, loader.become_loader, loader.callback_loader)
    for kind in (*every_run, loader.vars_loader):
        list(kind.all(class_only=True))
    for name in constants.INVENTORY_ENABLED:
        loader.inventory_loader.get(name)


for name in DURING_A_RUN:
    try:
        importlib.import_module(name)
    except ImportError:
        pass  # another version of Ansible or Python
if kept.FOLDER:
    collection_finder.compile = compile_once
import_plugins()
become_requested()
# As in sitecustomize: Python reads a module byte by byte from its standard input where this is set.
os.environ.pop("PYTHONUNBUFFERED", None)
cli.init_plugin_loader = lambda _=None: None  # that is done
# The folder for the files of this run alone, which Ansible makes at its start.
atexit.unregister(manager.cleanup_tmp_file)
constants.DEFAULT_LOCAL_TMP = manager.ensure_type(os.path.dirname(constants.DEFAULT_LOCAL_TMP), "tmppath")
sys.exit(main())
