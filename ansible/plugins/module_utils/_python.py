# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Imported by the modules before distlock_core: a clear error if the host's Python is too old."""

# AnsibleModule.fail_json() may not work with such a Python.
# pylint: disable=ansible-bad-function

from __future__ import annotations

import json
import sys

if sys.version_info < (3, 9):
    found = f"{sys.executable} is {sys.version_info[0]}.{sys.version_info[1]}"
    message = f"distlock needs Python 3.9 or later on the host, and {found}: set ansible_python_interpreter"
    print(json.dumps({"failed": True, "changed": False, "kind": "config", "msg": message}))
    sys.exit(1)
