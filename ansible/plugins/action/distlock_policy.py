# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The controller's part of the module distlock_policy: its environment, as for distlock_info."""

from __future__ import annotations

from ansible_collections.distlock.distlock.plugins.action.distlock_info import ActionModule

__all__ = ["ActionModule"]
