# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: holder
short_description: Returns the owners of a lock in etcd
version_added: 0.1.0
author: the distlock authors (@distlock)
description:
  - Returns the owners of locks. The controller asks etcd. It changes nothing.
  - The answer may be outdated by the next task. To be sure, acquire the lock.
options:
  _terms:
    description: Names of the locks.
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - distlock.distlock.connection.plugin
seealso:
  - module: distlock.distlock.distlock_info
"""

EXAMPLES = r"""
- name: Show the holder
  ansible.builtin.debug:
    msg: "{{ lookup('distlock.distlock.holder', 'percona_prod') | default('nobody', true) }}"

- name: Stop if anybody holds one of them
  ansible.builtin.assert:
    that: query('distlock.distlock.holder', 'percona_prod', 'percona_test') | length == 0
    quiet: true
"""

RETURN = r"""
_raw:
  description:
    - The owners, one for each holder. A lock that nobody holds adds nothing, a lock with several slots may add several.
    - An owner that cannot be named is C(an unknown owner).
  type: list
  elements: str
"""

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.distlock.distlock.plugins.module_utils._arguments import CONNECTION
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.advice import ANSIBLE
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.adapters.settings import read_settings
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.connection import realm_of
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.errors import DistlockError
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.model.wording import owner_of
from ansible_collections.distlock.distlock.plugins.plugin_utils._facts import rendered_without_facts


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        try:
            words = ["distlock_" + word for word in CONNECTION]
            said = rendered_without_facts(words, variables or {}, self._templar)
            self.set_options(var_options=said, direct=kwargs)
            realm = realm_of(read_settings({word: self.get_option(word) for word in CONNECTION}, "ansible"))
            with realm:
                return [owner_of(holder.owner) for name in terms for holder in realm.show(str(name)).holders]
        except DistlockError as error:
            # Without a cause: Ansible would show the message of each error in the chain.
            raise AnsibleLookupError(ANSIBLE.said(error)) from None
