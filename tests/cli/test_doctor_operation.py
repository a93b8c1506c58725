"""--doctor, on etcds that are broken on purpose."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from distlock_core.doctor.locks import KNOWN
from distlock_core.testing import Cluster, Tls, environment
from tests.support.doc_blocks import json_documents, recipe
from tests.support.etcd_servers import NEWEST, OLDEST
from tests.support.etcd_view import Etcd, b64
from tests.support.needs import need
from tests.support.paths import ROOT
from tests.support.realm_view import BOUND, RealmView
from tests.support.scripted_server import Script

Run = Callable[..., subprocess.CompletedProcess[str]]
BIN = os.path.dirname(sys.executable)
# By check: the facts that docs/cli.md documents.
TABLE = (
    (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").partition("| check | `facts` |\n")[2].partition("\n\n")[0]
)
FACTS = {
    check: set(re.findall(r"`(\w+)`", meaning))
    for checks, meaning in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (.*) \|$", TABLE, re.MULTILINE)
    for check in re.findall(r"`(\w+)`", checks)
}


class Examined:
    """What one call has found."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert "Traceback" not in done.stderr
        assert done.stderr == ""
        self.code = done.returncode
        self.whole: dict[str, Any] = json.loads(done.stdout)["doctor"]
        self.findings: list[dict[str, Any]] = self.whole["findings"]
        assert self.code == {"ok": 0, "warn": 1, "bad": 2}[self.whole["status"]]
        for one in self.findings:
            assert set(one["facts"]) <= FACTS.get(one["check"], set()), one

    def of(self, check: str) -> list[dict[str, Any]]:
        return [one for one in self.findings if one["check"] == check]

    def status(self, check: str) -> list[str]:
        return [one["status"] for one in self.of(check)]

    def one(self, check: str) -> dict[str, Any]:
        (found,) = self.of(check)
        return found


@pytest.fixture
def examine(run_distlock: Run) -> Callable[..., Examined]:
    def run(*arguments: str, **options: Any) -> Examined:
        return Examined(run_distlock("--doctor", "--json", *arguments, **options))

    return run


Examine = Callable[..., Examined]


def test_an_ordinary_etcd_and_nothing_is_changed_in_it(examine: Examine, etcd: Cluster, realm: RealmView) -> None:
    revision = realm.revision()
    found = examine()
    assert realm.revision() == revision
    version = found.one("version")["facts"]["version"]
    assert found.one("version")["status"] == ("bad" if version == "3.5.1" else "warn" if version < "3.5" else "ok")
    assert {one["check"] for one in found.findings if one["status"] != "ok"} <= {"version"}
    assert found.one("endpoint")["facts"]["via"] == "gateway"
    assert found.one("endpoint")["about"] == etcd.endpoints[0]
    assert found.one("database")["facts"]["quota"] == 2 * 2**30
    assert found.one("ttl")["facts"]["election"] == 0.6
    low, high = found.one("clock")["facts"]["lead"]
    assert low <= 0 <= high


def test_people_get_a_line_for_each_finding_and_quiet_only_those_that_matter(
    run_distlock: Run, realm: RealmView
) -> None:
    realm.put("db", '1500000000;node-9;{"state":"kept","reason":"yum failed"}')
    done = run_distlock("--doctor", "--lock-name=db")
    lines = done.stdout.splitlines()
    assert any(line.startswith("ok      quorum ") for line in lines)
    at = next(at for at, line in enumerate(lines) if line.startswith("WARN    kept "))
    assert lines[at + 1].strip() == "look at what failed on that node, then release it"
    assert lines[at + 3].strip().startswith("To break it: distlock --break --lock-name=db --token=")
    assert lines[-1].split(":")[0] in ("WARN", "BAD")
    quiet = run_distlock("--doctor", "--lock-name=db", "--quiet")
    assert quiet.returncode == done.returncode
    assert not [line for line in quiet.stdout.splitlines() if line.startswith(("ok ", "skipped "))]
    assert any(line.startswith("WARN    kept ") for line in quiet.stdout.splitlines())


def test_what_stands_in_a_realm_is_found(examine: Examine, realm: RealmView, in_etcd: Etcd) -> None:
    realm.put("kept", '1500000000;node-9;{"state":"kept","reason":"yum failed"}')
    realm.put("late", '1500000000;node-9;{"expect":10}')
    realm.put("go", "1500000000;go-client;plain text")
    realm.put("strange", "no record")
    realm.put("kept/queue/50/exclusive/0000000000000001", "1500000000;node-8;{}")
    realm.put("late/freeze", '1500000000;admin;{"reason":"audit","from_the_future":1}')
    realm.put("__freeze", '1500000000;admin;{"reason":"network"}')
    realm.put("__policy/kept", '1500000000;admin;{"quorum":3}')
    realm.put("__internal_lock/694d", "")
    lease = int(in_etcd.ask("/v3/lease/grant", {"TTL": "60"})["ID"])
    realm.put("mute", f'1500000000;node-7;{{"run":"r","beat":15,"beat_lease":{lease}}}')
    sign = {"key": b64(f"{realm.prefix}mute/alive/r"), "value": b64('1;node-7;{"every":15,"ttl":600}')}
    in_etcd.ask("/v3/kv/put", {**sign, "lease": str(lease)})
    found = examine(env={"DISTLOCK_LOCKNAME": "late"})  # of a lock to be acquired: the whole realm is examined
    assert found.code == 2
    assert (found.one("kept")["about"], found.one("kept")["status"]) == ("kept", "warn")
    assert [hint["code"] for hint in found.one("kept")["hints"]] == ["show", "break"]
    assert found.one("overdue")["about"] == "late"
    assert found.one("record")["about"] == "strange"
    assert found.one("silent")["about"] == "mute"
    assert "SILENT" in found.one("silent")["message"]
    assert sorted(str(one["about"]) for one in found.of("frozen")) == ["None", "late"]
    assert found.one("ticket")["status"] == "bad"
    assert "of node-8 never ends: it has no lease" in found.one("ticket")["message"]
    assert (found.one("policy")["about"], found.one("policy")["status"]) == ("kept", "bad")
    assert found.one("go_mutex")["status"] == "bad"
    assert found.one("go_clients")["facts"]["locks"] == ["go"]
    assert found.one("versions")["facts"]["fields"] == ["from_the_future"]
    assert found.one("locks")["facts"] == {"held": 5, "waiting": 1}
    one = examine("--lock-name=late")
    assert (one.one("overdue")["about"], one.status("kept"), one.status("ticket")) == ("late", ["ok"], ["ok"])
    assert one.one("locks")["facts"] == {"held": 1, "waiting": 0}


def test_three_members_one_two_and_three_of_them_gone(start_etcd: Callable[..., Cluster], examine: Examine) -> None:
    with start_etcd(3, version=OLDEST) as cluster:
        where = f"--endpoints={','.join(cluster.endpoints)}"
        first, second, third = cluster.members
        first.kill()
        cluster.leader()
        found = examine(where)
        assert found.code == 1
        assert found.status("endpoint") == ["warn", "ok", "ok"]
        assert found.status("version") == ["warn", "warn"]
        assert found.one("cluster")["facts"]["unseen"] == [first.name]
        assert (found.status("quorum"), found.status("locks")) == (["ok"], ["ok"])
        second.kill()
        begun = time.monotonic()
        found = examine(where, "--connect-timeout=3")
        assert time.monotonic() - begun < 8
        assert found.code == 2
        assert found.status("endpoint") == ["warn", "warn", "ok"]
        assert (found.status("quorum"), found.status("rights"), found.status("locks")) == (
            ["bad"],
            ["skipped"],
            ["skipped"],
        )
        third.pause()
        found = examine(where, "--connect-timeout=1")
        third.resume()
        assert found.status("endpoint") == ["bad", "bad", "bad"]
        assert "timed out" in found.of("endpoint")[2]["message"]
        assert found.status("settings") == ["ok"]


def test_a_full_database(start_etcd: Callable[..., Cluster], examine: Examine) -> None:
    with start_etcd(extra_args=["--quota-backend-bytes=100000"]) as cluster:
        for _ in range(100):  # the size of the database is known to etcd a moment later only
            try:
                cluster.etcdctl("put", "/x", "x" * 60_000)
            except RuntimeError:
                break
        else:
            pytest.fail("etcd never refused a write")
        found = examine(f"--endpoints={cluster.endpoints[0]}", "--prefix=/distlock/")
    assert found.one("alarms")["status"] == "bad"
    assert "NOSPACE" in found.one("alarms")["message"]
    assert "etcdctl alarm disarm" in found.one("alarms")["advice"]
    assert found.one("database")["status"] in ("warn", "bad")  # etcd refuses what would exceed it
    assert found.one("database")["facts"]["quota"] == 100_000
    assert found.status("locks") == ["ok"]


def test_users_and_their_roles(etcd_cell: Callable[[str, str], Cluster], examine: Examine, realm_prefix: str) -> None:
    cluster = etcd_cell(NEWEST, "auth")
    assert cluster.tls is not None
    where = [f"--endpoints={cluster.endpoints[0]}", f"--prefix={realm_prefix}"]
    known = f"u{realm_prefix[3:9]}"
    for name, right, prefix in (("all", "readwrite", ""), ("one", "readwrite", "db"), ("not", "readwrite", "other/")):
        access = cluster.add_user(f"{known}-{name}", f"pw-{name}", [(right, realm_prefix + prefix)])
        if name == "not":
            access = cluster.add_user(f"{known}-none", "pw-none", [("read", "/elsewhere/")])
        found = examine(*where, "--lock-name=db", env=environment(access))
        assert found.status("user") == ["ok"]
        if name == "all":
            assert found.status("rights") == ["ok"]
            assert all(key["granted"] for key in found.one("rights")["facts"]["keys"])
            continue
        rights = found.one("rights")
        assert rights["status"] == "bad"
        lacking = {(key["right"], key["key"]) for key in rights["facts"]["keys"] if not key["granted"]}
        assert ("write", f"{realm_prefix}__last/db") in lacking
        assert (("read", f"{realm_prefix}db") in lacking) == (name == "not")
        assert found.status("locks") == ["skipped"]
        assert f"pw-{name}" not in json.dumps(found.whole)
    wrong = examine(*where, env=environment({**cluster.tls.settings, "user": "root", "password": "wr0ng"}))
    assert wrong.one("user")["status"] == "bad"
    assert "wrong password" in wrong.one("user")["message"]
    assert "wr0ng" not in json.dumps(wrong.whole)
    without = examine(*where, env=environment(cluster.tls.settings))
    assert "It wants a user" in without.one("user")["message"]
    plain = examine(f"--endpoints={cluster.endpoints[0].replace('https', 'http')}", env=environment(access))
    assert "it speaks TLS there" in plain.one("endpoint")["message"]
    assert plain.one("endpoint")["advice"].startswith("write this endpoint as https://127.0.0.1:")


def test_certificates_that_have_ended_and_that_are_about_to(
    start_etcd: Callable[..., Cluster], tls: Tls, examine: Examine
) -> None:
    expired = tls._replace(server=tls.authority.issue(days=-1))
    client = tls.authority.issue(names=(), days=10)
    settings = {"cacert": tls.authority.cacert, "cert": client.cert, "key": client.key}
    with start_etcd(tls=expired) as cluster:
        found = examine(f"--endpoints={cluster.endpoints[0]}", env=environment(settings))
    assert found.one("endpoint")["status"] == "bad"
    assert "its certificate has expired" in found.one("endpoint")["message"]
    server = found.one("server_certificate")
    assert (server["status"], server["about"]) == ("bad", cluster.endpoints[0])
    assert "has expired" in server["message"]
    assert server["facts"]["issuer"] == "distlock test CA"
    assert found.one("client_certificate")["status"] == "warn"
    assert "ends in 9d23h" in found.one("client_certificate")["message"]
    assert found.one("authority_certificate")["status"] == "warn"


@pytest.mark.parametrize(("shift", "grade", "words"), [("+30s", "warn", "behind"), ("-2h", "bad", "ahead of")])
def test_a_clock_that_is_wrong(distlock_env: dict[str, str], shift: str, grade: str, words: str) -> None:
    done = subprocess.run(
        [need("faketime"), "-f", shift, f"{BIN}/distlock", "--doctor", "--json"],
        env={**distlock_env, "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    found = Examined(done)
    assert found.one("clock")["status"] == grade
    assert words in found.one("clock")["message"]
    assert "NTP" in found.one("clock")["advice"]


def test_endpoints_that_are_no_etcd_and_one_of_another_cluster(
    etcd: Cluster, oldest_etcd: Cluster, examine: Examine, script: Callable[..., Script]
) -> None:
    def web(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    server = script(web)
    closed = f"http://127.0.0.1:{free_port()}"
    found = examine(f"--endpoints={etcd.endpoints[0]},{server.url},{closed},{oldest_etcd.endpoints[0]}")
    assert [one["status"] for one in found.of("endpoint")] == ["ok", "bad", "warn", "ok"]
    assert "it answers, but not as etcd does (HTTP 200)" in found.of("endpoint")[1]["message"]
    assert "connection refused" in found.of("endpoint")[2]["message"]
    assert found.one("cluster")["status"] == "bad"
    assert len(found.one("cluster")["facts"]["clusters"]) == 2
    assert {one["facts"]["version"][:3] for one in found.of("version")} == {NEWEST[:3], OLDEST}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_member_without_a_gateway(start_etcd: Callable[..., Cluster], examine: Examine) -> None:
    with start_etcd(extra_args=["--enable-grpc-gateway=false"]) as cluster:
        found = examine(f"--endpoints={cluster.endpoints[0]}")
        refused = examine(f"--endpoints={cluster.endpoints[0]}", "--transport=http")
    assert found.one("endpoint")["facts"]["via"] == "grpc"
    assert (found.status("quorum"), found.status("clock"), found.status("locks")) == (["ok"], ["ok"], ["ok"])
    assert refused.one("endpoint")["status"] == "bad"
    assert "it has no JSON gateway (404)" in refused.one("endpoint")["message"]


def test_settings_that_are_wrong_are_left_out_and_the_rest_is_examined(
    examine: Examine, etcd: Cluster, tmp_path: Path
) -> None:
    config = tmp_path / "distlock.yaml"
    config.write_text("timeout: abc\n")
    found = examine(env={"DISTLOCK_CONFIG": str(config), "DISTLOCK_TTL": "soon", "DISTLOCK_PREFX": "/x/"})
    problems = [one["message"] for one in found.of("setting") if one["status"] == "bad"]
    assert problems == [
        "DISTLOCK_TTL: expected a whole number of seconds from 1 to 31622400, found 'soon'",
        f"config file {config}: timeout: expected a number of seconds, found 'abc'",
    ]
    (warning,) = [one["message"] for one in found.of("setting") if one["status"] == "warn"]
    assert "DISTLOCK_PREFX" in warning
    assert (found.status("quorum"), found.status("locks")) == (["ok"], ["ok"])
    # Where the endpoints are among what is wrong, no other etcd is asked in their place.
    unknown = examine(env={"DISTLOCK_CONFIG": str(config), "DISTLOCK_ENDPOINTS": None})
    assert unknown.status("endpoint") == unknown.status("locks") == ["skipped"]
    realmless = examine(env={"DISTLOCK_CONFIG": str(config), "DISTLOCK_PREFIX": None})
    assert (realmless.status("quorum"), realmless.status("rights"), realmless.status("locks")) == (
        ["ok"],
        ["skipped"],
        ["skipped"],
    )
    bad = examine("--endpoints=ftp://127.0.0.1")
    assert "unknown scheme 'ftp'" in bad.of("setting")[0]["message"]
    missing = examine("--config=/no/such.yaml")
    assert "config file /no/such.yaml: does not exist" in missing.of("setting")[0]["message"]
    assert etcd.endpoints[0] in json.dumps(missing.whole)


def test_a_password_in_an_endpoint_is_refused_and_not_shown(run_distlock: Run) -> None:
    env: dict[str, str | None] = {"DISTLOCK_ENDPOINTS": "http://127.0.0.1:1,http://root:s3cret@127.0.0.1:2"}
    for form in ("--verbose", "--json"):
        done = run_distlock("--doctor", form, env=env)
        assert "must not contain a user or password" in done.stdout
        assert "s3cret" not in done.stdout + done.stderr
    (shown,) = [one for one in json.loads(done.stdout)["doctor"]["settings"] if one["key"] == "endpoints"]
    assert (shown["value"], shown["secret"], shown["where"]) == (None, True, "DISTLOCK_ENDPOINTS")


def test_where_each_setting_comes_from_and_who_can_read_the_files(examine: Examine, tmp_path: Path) -> None:
    config, password = tmp_path / "distlock.yaml", tmp_path / "password"
    config.write_text("user: someone\npassword: s3cret\nttl: 30\ngate: 'curl -H token:s3cret http://127.0.0.1'\n")
    config.chmod(0o640)
    variables = {"DISTLOCK_CONFIG": str(config), "DISTLOCK_SLOTS": "2", "DISTLOCK_LOCKNAME": "other"}
    found = examine("--connect-timeout=4", env=variables)
    assert "s3cret" not in json.dumps(found.whole)
    by_key = {one["key"]: one for one in found.whole["settings"]}
    assert (by_key["lockname"]["value"], by_key["lockname"]["where"]) == ("other", "DISTLOCK_LOCKNAME")
    assert by_key["ttl"] == {
        "key": "ttl",
        "value": 30,
        "secret": False,
        "source": "file",
        "where": f"{config} line 3",
    }
    assert (by_key["slots"]["source"], by_key["slots"]["where"]) == ("environment", "DISTLOCK_SLOTS")
    assert (by_key["connect_timeout"]["source"], by_key["connect_timeout"]["value"]) == ("argument", 4)
    assert (by_key["rank"]["source"], by_key["rank"]["value"]) == ("default", 50)
    assert (by_key["password"]["value"], by_key["password"]["secret"]) == (None, True)
    facts = found.one("config_file")["facts"]
    assert (facts["mode"], facts["has_password"], facts["owner"]) == ("0640", True, "root")
    (open_file,) = [one for one in found.of("setting") if one["status"] == "warn"]
    assert "chmod 600" in open_file["message"]
    assert found.one("user")["status"] == "warn"  # etcd asks for no user here
    password.write_text("s3cret\n")
    password.chmod(0o600)
    one = examine("--user=me", f"--password-file={password}").one("password_file")
    assert (one["status"], one["facts"]["mode"]) == ("ok", "0600")


def test_a_config_file_that_this_user_cannot_read(distlock_env: dict[str, str], tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file to another user")
    config = tmp_path / "distlock.yaml"
    config.write_text("ttl: 30\n")
    config.chmod(0o600)
    os.chown(config, 65534, -1)
    # Root without the right to pass over permissions: any other user could not reach this checkout.
    confined = [need("setpriv"), "--bounding-set=-dac_override,-dac_read_search"]
    done = subprocess.run(
        [*confined, f"{BIN}/distlock", "--doctor", "--json"],
        env={**distlock_env, "DISTLOCK_CONFIG": str(config)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    found = Examined(done)
    assert found.code == 2
    assert "Permission denied" in found.of("setting")[0]["message"]
    file = found.one("config_file")
    assert (file["status"], file["facts"]["mode"], file["about"]) == ("bad", "0600", str(config))
    assert (found.status("quorum"), found.status("locks")) == (["ok"], ["ok"])


@pytest.mark.parametrize("arguments", [["--bogus"], ["--nowait"], ["true"], ["--lock-name"]])
def test_bad_usage_is_no_warning(run_distlock: Run, arguments: list[str]) -> None:
    done = run_distlock("--doctor", *arguments)
    assert done.returncode == 3
    assert done.stderr.startswith("distlock: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_signal_ends_it(spawn_distlock: Callable[..., Any], script: Callable[..., Script]) -> None:
    is_asked = threading.Event()

    def silent(connection: socket.socket) -> None:
        is_asked.set()
        connection.recv(1)

    server = script(silent)
    process = spawn_distlock("--doctor", f"--endpoints={server.url}", "--connect-timeout=20")
    assert is_asked.wait(BOUND)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) in (143, -signal.SIGTERM)


def test_the_json_is_that_of_the_page(examine: Examine) -> None:
    (page,) = (document["doctor"] for document in json_documents() if "doctor" in document)
    found = examine().whole
    assert set(found) == set(page)
    assert set(found["findings"][0]) == set(page["findings"][0])
    assert set(found["settings"][0]) == set(page["settings"][0])


def test_the_fields_that_count_as_known_are_those_of_the_page_about_keys() -> None:
    page = (ROOT / "docs" / "etcd.md").read_text(encoding="utf-8")
    section = page.partition("## The record\n")[2].partition("\n## ")[0]
    assert sorted(field for field in KNOWN if f"`{field}`" not in page) == []
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    documented = {field for row in rows for field in re.findall(r"`(\w+)`", row)}
    assert len(documented) > 20
    assert documented - KNOWN == set(), "a field of records that the doctor takes for that of a newer version"


def test_the_pages_example_looks_like_that(run_distlock: Run, oldest_etcd: Cluster, realm_prefix: str) -> None:
    command, *expected = recipe("doctor").splitlines()
    oldest_etcd.etcdctl(
        "put", f"{realm_prefix}percona_prod", '1500000000;node-9;{"state":"kept","reason":"yum failed"}'
    )
    done = run_distlock(*shlex.split(command)[2:], env={"DISTLOCK_ENDPOINTS": oldest_etcd.endpoints[0]})
    where = re.escape(f" --endpoints={oldest_etcd.endpoints[0]} --prefix={realm_prefix}")

    def alike(line: str) -> str:
        line = re.sub(where, "", line).replace(oldest_etcd.endpoints[0], "http://127.0.0.1:2379")
        return re.sub(r"\(\d+d\d\dh\)|--token=\d+|\d+ ok", "N", line).rstrip()

    assert [alike(line) for line in done.stdout.splitlines()] == [alike(line) for line in expected]
    (plugin,) = recipe("doctor for monitoring").splitlines()
    checked = run_distlock(*shlex.split(plugin)[1:], env={"DISTLOCK_ENDPOINTS": oldest_etcd.endpoints[0]})
    assert (checked.returncode, checked.stdout) == (1, done.stdout)


def test_the_page_has_every_check_and_the_facts_of_each() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", page, re.MULTILINE)
    documented = {name.strip("`") for cell in rows for name in cell.split(", ")}
    made = {"server_certificate", "client_certificate", "authority_certificate"}
    made |= {"config_file", "password_file", "key_file"}
    for file in (ROOT / "distlock_core" / "doctor").glob("*.py"):
        made |= set(re.findall(r'\b(?:Finding|skipped|_about)\(\s*"(\w+)"', file.read_text(encoding="utf-8")))
    assert made == documented
    assert FACTS.keys() <= documented
