# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.distlock.distlock.plugins.module_utils import _arguments as arguments
from ansible_collections.distlock.distlock.plugins.module_utils.distlock_core.settings.options import SETTINGS


def test_every_option_is_a_setting_by_the_same_word():
    assert set(arguments.CONNECTION) <= {setting.key for setting in SETTINGS}
    assert {"endpoints", "prefix", "config", "connect_timeout", "release_timeout"} <= set(arguments.CONNECTION)


def test_a_password_is_shown_nowhere_and_all_else_may_be():
    secret = {word for word, option in arguments._CONNECTION.items() if option.get("no_log")}
    assert secret == {"password"}
    for word, option in arguments.connection_spec().items():
        assert option["no_log"] is (word in secret)


def test_plugins_read_an_option_from_variable_environment_and_configuration():
    option = arguments.documented(sources=True)["connect_timeout"]
    assert option["env"] == [{"name": "DISTLOCK_CONNECT_TIMEOUT"}]
    assert option["vars"] == [{"name": "distlock_connect_timeout"}]
    assert option["ini"] == [{"section": "distlock", "key": "connect_timeout"}]
    assert "env" not in arguments.documented()["connect_timeout"]
