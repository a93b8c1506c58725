# Copyright: the distlock authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.distlock.distlock.plugins.module_utils import _states as states


def params(**said):
    return {**{word: option.get("default") for word, option in states.argument_spec().items()}, "name": "x", **said}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"name": ""}, "no lock is named: name is empty"),
        ({"name": "a/b"}, "illegal lock name 'a/b': it must not contain '/'"),
        ({"owner": "a;b"}, "illegal owner (id) 'a;b': it must not contain ';'"),
        ({"slots": 0}, "slots: expected a whole number from 1 to 1000, found 0"),
        ({"on_loss": "kill"}, "on_loss applies to a lock that ends with the run: it goes with until: run_end"),
        ({"until": "run_end"}, "until: run_end is for the action plugin of this collection, on the controller"),
        ({"ttl": 0}, "ttl: expected a whole number"),
        ({"state": "held", "token": 0}, "token"),
    ],
)
def test_what_is_wrong_is_one_clear_line_and_nothing_is_asked(said, message):
    report = states.carry_out(params(endpoints=["http://127.0.0.1:1"], connect_timeout=1.0, **said), False)
    assert report["failed"]
    if "token" not in said:
        assert message in report["msg"]
        assert report["kind"] == "config"
    assert "\n" not in report["msg"]


def test_an_etcd_that_does_not_answer_is_one_clear_line_too():
    report = states.carry_out(params(endpoints=["http://127.0.0.1:1"], connect_timeout=0.5), False)
    assert (report["failed"], report["changed"], report["kind"]) == (True, False, "unreachable")
    assert "http://127.0.0.1:1" in report["msg"]


@pytest.mark.parametrize(
    ("owner", "run"),
    [
        ("ansible:db1@deploy:4711.0a1b2c3d", "deploy:4711.0a1b2c3d"),
        ("ansible:deploy:4711.0a1b2c3d", "deploy:4711.0a1b2c3d"),
        ("ansible:a@b@deploy:4711.0a1b2c3d", "deploy:4711.0a1b2c3d"),
        ("ansible:db1@deploy:4711", None),
        ("ansible:db1", None),
        ("db1", None),
        ("salt:db1@deploy:4711.0a1b2c3d", None),
    ],
)
def test_a_run_knows_what_it_holds_by_its_own_default_owners_only(owner, run):
    found = states.OF_A_HOST.match(owner) or states.OF_A_RUN.match(owner)
    assert (found.group("run") if found else None) == run
