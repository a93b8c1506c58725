"""--metrics: printed for Prometheus, or written into a file that never shows figures of an earlier time as present."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from distlock_core import aio, connect
from distlock_core.cli import metrics as operation
from distlock_core.errors import AccessDenied, ConfigError
from distlock_core.model.metrics import OF_A_LOCK, OF_A_REALM, STATES, metrics_of
from distlock_core.testing import Cluster
from tests.support.doc_blocks import blocks, json_documents, recipe
from tests.support.paths import ROOT
from tests.support.realm_view import RealmView, one_line

Run = Callable[..., subprocess.CompletedProcess[str]]
PAGE = "docs/metrics.md"
AWAY = ("--endpoints=http://127.0.0.1:1", "--connect-timeout=0.1")
FILE = "/var/lib/prometheus/node-exporter/distlock.prom"


def figures(text: str) -> dict[tuple[str, ...], float]:
    """By name and the values of all labels but the realm, as Prometheus reads them."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(one.name, *(value for name, value in one.labels.items() if name != "realm")): one.value for one in samples}


def locks(text: str) -> set[str]:
    return {key[1] for key in figures(text) if key[0] == "distlock_held"}


def test_it_prints_the_locks_that_are_asked_for(run_distlock: Run, realm: RealmView) -> None:
    odd = 'we"ird\\ name'
    for name in ("es-1", "es-2", "db", odd):
        realm.put(name, '1500000000;node-1;{"expect":5}')
    realm.put("db/queue/50/7", "1500000009;node-2;{}")
    realm.put("quiet/freeze", "1500000000;boss;{}")
    before = realm.revision()
    for names, expected in (
        ([], {"es-1", "es-2", "db", odd, "quiet"}),
        (["es-*"], {"es-1", "es-2"}),
        (["db", "es-?"], {"es-1", "es-2", "db"}),
        (["free"], {"free"}),  # it is named, so it is there
        (["free", "es-1", "no-*"], {"free", "es-1"}),
        ([odd], {odd}),
    ):
        done = run_distlock("--metrics", *(f"--lock-name={name}" for name in names))
        assert (done.returncode, done.stderr) == (0, "")
        assert locks(done.stdout) == expected
        found = figures(done.stdout)
        assert (found["distlock_up",], found["distlock_etcd_reachable",]) == (1, 1)
        assert abs(found["distlock_metrics_timestamp_seconds",] - time.time()) < 60
        assert found["distlock_realm_frozen",] == 0
        if "db" in expected:
            assert found["distlock_oldest_wait_timestamp_seconds", "db"] == 1_500_000_009
            assert found["distlock_overdue_holders", "db"] == found["distlock_waiters", "db"] == 1
    assert f'realm="{realm.prefix}"' in done.stdout
    assert realm.revision() == before  # it only reads


@pytest.mark.parametrize("names", [[], ["free"], ["no-*"]])
def test_a_frozen_realm_says_so_whatever_is_asked_for(run_distlock: Run, realm: RealmView, names: list[str]) -> None:
    realm.put("__freeze", "1500000000;boss;{}")
    found = figures(run_distlock("--metrics", *(f"--lock-name={name}" for name in names)).stdout)
    assert found["distlock_realm_frozen",] == 1
    assert found.get(("distlock_frozen", "free")) == (1 if "free" in names else None)


def test_names_of_file_and_environment_are_of_locks_to_be_acquired(run_distlock: Run, realm: RealmView) -> None:
    realm.put("db", "1500000000;node-1;{}")
    assert locks(run_distlock("--metrics", env={"DISTLOCK_LOCKNAME": "other"}).stdout) == {"db"}


def test_a_file_is_replaced_whole_and_all_may_read_it(run_distlock: Run, realm: RealmView, tmp_path: Path) -> None:
    realm.put("db", "1500000000;node-1;{}")
    file = tmp_path / "distlock.prom"
    file.write_text("stale")
    before = os.umask(0o077)
    try:
        done = run_distlock(f"--metrics={file}")
    finally:
        os.umask(before)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert locks(file.read_text()) == {"db"}
    assert os.listdir(tmp_path) == ["distlock.prom"]
    # The same figures as JSON, on stdout; the file stays what Prometheus reads.
    done = run_distlock(f"-metrics={file}", "--json", "--verbose")
    document = json.loads(one_line(done.stdout))
    assert [metric["name"] for metric in document["metrics"]] == [
        name for name in (*OF_A_REALM, *OF_A_LOCK) if "wait_timestamp" not in name
    ]
    assert locks(file.read_text()) == {"db"}
    assert one_line(done.stderr) == f"distlock: wrote {file}"


def test_an_etcd_that_is_away_leaves_no_figure_of_an_earlier_time(
    run_distlock: Run, realm: RealmView, tmp_path: Path
) -> None:
    realm.put("db", "1500000000;node-1;{}")
    file = tmp_path / "distlock.prom"
    run_distlock(f"--metrics={file}")
    assert locks(file.read_text()) == {"db"}
    began = int(time.time())
    done = run_distlock(f"--metrics={file}", *AWAY, "--unreachable-exit-code=69")
    assert (done.returncode, done.stdout) == (69, "")
    assert "no etcd answered" in one_line(done.stderr)
    found = figures(file.read_text())
    written = found.pop(("distlock_metrics_timestamp_seconds",))
    assert began <= written <= time.time()
    assert found == {("distlock_up",): 0, ("distlock_etcd_reachable",): 0}
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    # On stdout too, for what stands behind a pipe; as JSON there is the error alone.
    done = run_distlock("--metrics", *AWAY)
    assert (done.returncode, figures(done.stdout)["distlock_up",]) == (1, 0)
    done = run_distlock("--metrics", *AWAY, "--json")
    assert json.loads(one_line(done.stdout))["error"]["kind"] == "unreachable"


@pytest.mark.parametrize(
    ("error", "reachable"), [(AccessDenied("no"), 1), (ConfigError("no"), 0), (RuntimeError("a bug"), 0)]
)
def test_whatever_fails_the_file_says_so(
    run_here: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, reachable: int
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(operation, "realm", fail)
    file = tmp_path / "distlock.prom"
    file.write_text("distlock_up 1\n")
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError):
            run_here(f"--metrics={file}")
    else:
        assert run_here(f"--metrics={file}").returncode == 1
    found = figures(file.read_text())
    assert (found["distlock_up",], found["distlock_etcd_reachable",]) == (0, reachable)


def test_a_file_that_cannot_be_written_is_named(run_distlock: Run, realm: RealmView, tmp_path: Path) -> None:
    done = run_distlock(f"--metrics={tmp_path}/missing/x.prom")
    assert (done.returncode, done.stdout) == (1, "")
    assert one_line(done.stderr) == f"distlock: cannot write {tmp_path}/missing/x.prom: No such file or directory"
    done = run_distlock(f"--metrics={tmp_path}/missing/x.prom", *AWAY)
    first, second = done.stderr.splitlines()
    assert "cannot write" in first
    assert "no etcd answered" in second


@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_what_is_no_plain_file_is_left_alone(run_here: Run, tmp_path: Path, kind: str) -> None:
    """Root would replace /dev/null by a file."""
    path = tmp_path / "odd"
    {"fifo": os.mkfifo, "folder": os.mkdir, "link": lambda link: os.symlink("/dev/null", link)}[kind](path)
    before = os.lstat(path)
    done = run_here(f"--metrics={path}")
    assert done.returncode == 1
    assert one_line(done.stderr).startswith(f"distlock: --metrics={path}: it is no plain file, and would be replaced")
    assert os.lstat(path).st_ino == before.st_ino


def test_a_file_after_a_blank_is_no_command(run_here: Run) -> None:
    done = run_here("--metrics", "x.prom")
    assert "a file is named with --metrics=x.prom" in one_line(done.stderr)
    assert "expected the name of a file, found ''" in one_line(run_here("--metrics=").stderr)


def test_a_minus_is_stdout(run_distlock: Run, realm: RealmView) -> None:
    assert figures(run_distlock("--metrics=-").stdout)["distlock_up",] == 1


def test_python_has_the_same(run_distlock: Run, etcd: Cluster, realm: RealmView) -> None:
    import asyncio

    realm.put("db", "1500000000;node-1;{}")
    realm.put("x", "1500000000;node-1;{}")
    ours = connect(etcd.endpoints, realm.prefix)
    said = figures(run_distlock("--metrics", "--lock-name=d*").stdout)
    again = figures(asyncio.run(aio.AsyncRealm(ours).metrics(["d*"])).text)
    for found in (said, again):
        found.pop(("distlock_metrics_timestamp_seconds",))
    assert again == said
    assert locks(ours.metrics().text) == {"db", "x"}
    with pytest.raises(ConfigError):
        ours.metrics(["a/b"])


# The page, and the examples.


def test_the_page_names_every_metric_with_its_labels() -> None:
    rows = re.findall(r"^\| `(distlock_\w+)` \| (.*?) \|", (ROOT / PAGE).read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == [*OF_A_REALM, *OF_A_LOCK]
    for name, labels in rows:
        expected = ["realm"] if name in OF_A_REALM else ["realm", "lock"]
        expected += ["state"] if name == "distlock_holders" else []
        assert labels == ", ".join(f"`{label}`" for label in expected)


def test_the_document_of_the_json_has_its_fields() -> None:
    (document,) = [one for one in json_documents() if "metrics" in one]
    (metric,) = document["metrics"]
    (ours, *_) = [one for one in metrics_of("/", [], 0, frozen=False).fields() if one["name"] == "distlock_up"]
    assert set(metric) == set(ours)
    assert set(metric["samples"][0]) == set(ours["samples"][0])
    assert metric["help"] == OF_A_LOCK[metric["name"]]


def test_the_example_of_the_page_prints_what_it_shows(distlock_env: dict[str, str], realm: RealmView) -> None:
    take, show = re.findall(r"^\$ (.+)$", recipe("metrics of a lock"), re.MULTILINE)
    output = recipe("metrics of a lock").partition(show)[2].strip()
    env = {**distlock_env, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}

    def run(command: str) -> str:
        return subprocess.run(
            ["bash", "-c", command], env=env, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    assert run(take) == ""
    said = run(show).strip().replace(realm.prefix, "/distlock/")
    assert re.sub(r"\d{10}", "T", said) == re.sub(r"\d{10}", "T", output)


def test_the_timer_and_the_line_of_cron_write_the_file(run_distlock: Run, realm: RealmView, tmp_path: Path) -> None:
    unit = (ROOT / "examples/systemd/distlock-metrics.service").read_text()
    cron = (ROOT / "examples/cron/distlock-metrics").read_text()
    shown = {block.language: block.text for block in blocks() if block.page == PAGE}
    assert shown["ini"] in unit
    assert shown["crontab"] in cron
    assert "OnCalendar=minutely" in (ROOT / "examples/systemd/distlock-metrics.timer").read_text()
    (started,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    (line,) = re.findall(r"^(?:\* ){5}root (.+)$", cron, re.MULTILINE)
    for number, command in enumerate((started, line.removesuffix(" 2>/dev/null"))):
        file = tmp_path / f"{number}.prom"
        program, *words = [word.replace(FILE, str(file)) for word in shlex.split(command)]
        assert program == "/usr/local/bin/distlock"
        assert run_distlock(*words).returncode == 0
        assert figures(file.read_text())["distlock_up",] == 1
    (accepted,) = re.findall(r"^SuccessExitStatus=(\d+)$", unit, re.MULTILINE)
    away = shlex.split(started)[1:]
    assert run_distlock(*[word.replace(FILE, str(file)) for word in away], *AWAY).returncode == int(accepted)
    assert figures(file.read_text())["distlock_up",] == 0


def test_the_alerts_are_about_metrics_and_labels_that_exist() -> None:
    text = (ROOT / "examples/prometheus/distlock.rules.yml").read_text()
    (shown,) = [block.text for block in blocks() if block.page == PAGE and block.language == "yaml"]
    rules: list[dict[str, Any]] = yaml.safe_load(text)["groups"][0]["rules"]
    assert [rule for rule in yaml.safe_load(shown) if rule not in rules] == []
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "annotations"}
        (name,) = re.findall(r"\bdistlock_\w+", rule["expr"])
        labels = {"realm"} if name in OF_A_REALM else {"realm", "lock"}
        assert name in {**OF_A_REALM, **OF_A_LOCK}
        assert re.fullmatch(r"(time\(\) - )?\w+(\{state=\"(\w+)\"\})? (>|==) \d+", rule["expr"])
        assert set(re.findall(r'state="(\w+)"', rule["expr"])) <= set(STATES)
        assert ("time()" in rule["expr"]) == name.endswith("_timestamp_seconds")
        assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= labels
