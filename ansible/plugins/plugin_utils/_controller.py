# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only the controller knows: its environment, and the run that a task is part of."""

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
    """The settings that DISTLOCK_* say here, and the config file that DISTLOCK_CONFIG names. Raises `ConfigError`."""
    config = os.environ.get("DISTLOCK_CONFIG") or os.devnull  # the default file is each host's own
    settings = load({}, {**os.environ, "DISTLOCK_CONFIG": config})
    found = {word: settings.by_key(word) for word in settings.given if word != "config"}
    if found.pop("nowait", False):
        found["timeout"] = 0
    return found


def fill_in(arguments, options, setting):
    """Add to the arguments of a task what is said for those `options` on this controller only.

    `setting` has the word of the setting, where it is not the option's. What this controller shows to etcd to be let
    in goes along only where this controller also says which etcd that is, and the task brings nothing of that kind.
    """
    said = said_by_environment()
    asked = any(arguments.get(word) or said.get(word) for word in ("endpoints", "discovery_srv"))
    if not asked or any(arguments.get(word) for word in CREDENTIALS):
        said = {word: value for word, value in said.items() if word not in CREDENTIALS}
    for word, value in said.items():
        option = next((option for option, key in setting.items() if key == word), word)
        if option in options and arguments.get(option) is None:
            arguments[option] = value


def suffix_of_run(pid):
    """What the default owners of a run end with: where it runs, its pid, and something random.

    The random part tells apart runs in containers, which may have one host name and one pid. It is that of the folder
    for temporary files that Ansible makes for each run, so all processes of the run have the same.
    """
    folder = os.path.basename(constants.DEFAULT_LOCAL_TMP)
    return f"{hostname()}:{pid}.{hashlib.sha256(folder.encode()).hexdigest()[:8]}"


class Run:
    """The run of ansible-playbook that this worker is part of. Its main process is the one that has forked me."""

    def __init__(self):
        parent = multiprocessing.parent_process()
        self.pid = os.getpid() if parent is None else parent.pid
        self.suffix = suffix_of_run(self.pid)
        self.owner = f"ansible:{self.suffix}"

    @property
    def told(self):
        """What the module is told of the run: the trace of its main process, and which locks are held around it."""
        around = {word: os.environ[word] for word in (HELD, TOKEN) if os.environ.get(word)}
        return {"taker": trace_of(self.pid), **around}

    def owner_for(self, host):
        return f"ansible:{host}@{self.suffix}"

    @property
    def family(self):
        """The reading end of a pipe whose writing end main process and workers have, and no program that they start.

        It is the one by which the workers send their results; who only asks for its end takes nothing out of it.
        """
        queue = getattr(Display(), "_final_q", None)
        reader = getattr(queue, "_reader", None)
        if reader is None:
            raise ConfigError("until: run_end needs the queue of Ansible's workers, and this Ansible has none")
        return reader.fileno()
