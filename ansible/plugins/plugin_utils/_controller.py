# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of the controller: its environment, and the run that a task is part of."""

from __future__ import annotations

import hashlib
import multiprocessing
import os

from ansible import constants
from ansible.utils.display import Display
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import ConfigError
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.identity import hostname, trace_of
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.process.nesting import HELD, TOKEN
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.settings.load import load

CREDENTIALS = ("user", "password", "password_file", "cert", "key")


def said_by_environment():
    """The settings from DISTLOCK_* and from the file in DISTLOCK_CONFIG, on the controller. Raises `ConfigError`."""
    config = os.environ.get("DISTLOCK_CONFIG") or os.devnull  # the default file is read on each host
    settings = load({}, {**os.environ, "DISTLOCK_CONFIG": config})
    found = {word: settings.by_key(word) for word in settings.given if word != "config"}
    if found.pop("nowait", False):
        found["timeout"] = 0
    return found


def fill_in(arguments, options, setting):
    """Add the controller's settings for these `options` to the arguments of a task.

    `setting` maps an option to its setting if their names differ. Credentials are added only if the controller also
    selects the etcd cluster, and the task has no credentials.
    """
    said = said_by_environment()
    asked = any(arguments.get(word) or said.get(word) for word in ("endpoints", "discovery_srv"))
    if not asked or any(arguments.get(word) for word in CREDENTIALS):
        said = {word: value for word, value in said.items() if word not in CREDENTIALS}
    if not (arguments.get("gate") or said.get("gate")):
        said = {word: value for word, value in said.items() if not word.startswith("gate_")}
    for word, value in said.items():
        option = next((option for option, key in setting.items() if key == word), word)
        if option in options and arguments.get(option) is None:
            arguments[option] = value


def suffix_of_run(pid):
    """The suffix of a run's default owners: host name, pid and a random part.

    The random part distinguishes runs in containers with equal host names and pids. It comes from the name of the
    run's temporary folder, so it is the same in all processes of the run.
    """
    folder = os.path.basename(constants.DEFAULT_LOCAL_TMP)
    return f"{hostname()}:{pid}.{hashlib.sha256(folder.encode()).hexdigest()[:8]}"


class Run:
    """The run of ansible-playbook that this worker belongs to. Its main process is the parent of the worker."""

    def __init__(self):
        parent = multiprocessing.parent_process()
        self.pid = os.getpid() if parent is None else parent.pid
        self.suffix = suffix_of_run(self.pid)
        self.owner = f"ansible:{self.suffix}"

    @property
    def facts(self):
        """Facts about the run for the module: the trace of its main process, and the locks held around it."""
        around = {word: os.environ[word] for word in (HELD, TOKEN) if os.environ.get(word)}
        return {"taker": trace_of(self.pid), **around}

    def owner_for(self, host):
        return f"ansible:{host}@{self.suffix}"

    @property
    def family(self):
        """The read end of a pipe whose write end is open in all workers of the run, but in no program that they start.

        The workers send their results through it. To wait for its end takes nothing out of it.
        """
        queue = getattr(Display(), "_final_q", None)
        reader = getattr(queue, "_reader", None)
        if reader is None:
            raise ConfigError("until: run_end needs the queue of Ansible's workers, and this Ansible has none")
        return reader.fileno()
