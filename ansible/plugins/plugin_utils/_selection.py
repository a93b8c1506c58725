# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds out whether the tags of a run have selected the role guarded, whose own tasks have the tag `always`.

They need it: tags on an include_role do not reach the tasks inside. But an imported role passes its tags on, and with
`always` beside them it would run whatever was selected.
"""

from __future__ import annotations

GUARDED = "distlock.distlock.guarded"


def is_deselected(task, task_vars):
    """True for a task of the role guarded that was imported with none of the tags that this run selects."""
    selected = set(task_vars.get("ansible_run_tags") or ["all"])
    if _role(task) != GUARDED or "all" in selected:
        return False
    outermost = None
    level = task
    while level is not None:
        if not getattr(level, "statically_loaded", True):
            if _role(level) != GUARDED:
                return False  # the role is inside an include, which has been selected
            outermost = level
        level = getattr(level, "_parent", None)
    if outermost is None:
        return False
    tags = {str(tag) for tag in outermost.tags} - {"always"}
    return not (tags & selected or ("tagged" in selected and tags) or ("untagged" in selected and not tags))


def _role(task):
    role = getattr(task, "_role", None)
    return None if role is None else role.get_name()
