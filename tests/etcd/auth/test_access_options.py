"""The settings of access to etcd, each in every form in which it can be given; and what is never shown."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Callable, NamedTuple

import pytest
import yaml

from distlock_core import ConfigError
from distlock_core.etcd.address import parse_endpoint
from distlock_core.etcd.auth.access import Access
from distlock_core.settings.load import load
from distlock_core.settings.options import SETTINGS, Settings
from distlock_core.testing import Cluster, Tls
from tests.support.access_settings import OF_ACCESS
from tests.support.secured_site import BOUND, Run, Site, Spawn, line_of, one_line, wait_until

SECRET = "hunter2-'\"`$;#%-of-node"
COVERED = {"discovery_srv"}  # test_discovery has it in every form


class Give(NamedTuple):
    """A way of giving settings: as options, as variables, or in the config file."""

    way: str
    path: Path

    def __call__(self, **given: Any) -> tuple[list[str], dict[str, str | None]]:
        """The arguments and the environment that give them."""
        if self.way == "file":
            self.path.write_text(yaml.safe_dump(given))
            self.path.chmod(0o600)
            return [], {"DISTLOCK_CONFIG": str(self.path)}
        settings = {setting.key: setting for setting in SETTINGS}
        if self.way == "option":
            return [f"--{settings[key].option}={value}" for key, value in given.items()], {}
        return [], {settings[key].variable: str(value) for key, value in given.items()}


def every_way(*keys: str) -> pytest.MarkDecorator:
    """The test runs once for every form of these settings."""
    COVERED.update(keys)
    ways = [("option", "option"), ("env", "variable"), ("file", "file")]
    scopes = [setting.scope.split() for setting in SETTINGS if setting.key in keys]
    fitting = [way for word, way in ways if all(word in scope for scope in scopes)]
    return pytest.mark.parametrize("give", fitting, indirect=True)


@pytest.fixture
def give(request: pytest.FixtureRequest, tmp_path: Path) -> Give:
    return Give(request.param, tmp_path / "distlock.yaml")


def at(site: Site) -> dict[str, str | None]:
    """Where etcd is, and nothing of how it is spoken to."""
    return {"DISTLOCK_ENDPOINTS": ",".join(site.cluster.endpoints), "DISTLOCK_PREFIX": site.prefix}


@every_way("cacert", "cert", "key")
def test_cacert_cert_and_key_are_files(picky: Cluster, realm_prefix: str, run_distlock: Run, give: Give) -> None:
    site = Site(picky, realm_prefix)
    options, env = give(**site.settings)
    done = run_distlock("--lock-name=x", *options, "--", "echo", "in", env={**at(site), **env})
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")


@every_way("tls_server_name")
def test_tls_server_name_is_the_name_that_counts(tls_newest: Site, run_distlock: Run, give: Give) -> None:
    for name, code, seconds in (("localhost", 0, 30), ("another", 1, 2)):
        options, given = give(tls_server_name=name)
        limit = f"--connect-timeout={seconds}"
        done = run_distlock("--list", "--quiet", limit, *options, env={**tls_newest.env, **given})
        assert done.returncode == code
    assert "its certificate is not one for another)" in one_line(done.stderr)


@pytest.fixture(scope="module")
def no_gateway(start_etcd: Callable[..., Cluster]) -> Cluster:
    """An etcd with its JSON gateway disabled."""
    return start_etcd(extra_args=["--enable-grpc-gateway=false"])


@every_way("transport")
def test_transport_selects_the_driver(no_gateway: Cluster, realm_prefix: str, run_distlock: Run, give: Give) -> None:
    env: dict[str, str | None] = {"DISTLOCK_ENDPOINTS": no_gateway.endpoints[0]}
    for transport, code, seconds in (("grpc", 0, 30), ("http", 1, 2)):
        options, given = give(transport=transport)
        limit = f"--connect-timeout={seconds}"
        done = run_distlock("--list", "--quiet", limit, *options, env={**env, **given})
        assert done.returncode == code, done.stderr
    assert "it has no JSON gateway (404)" in one_line(done.stderr)
    options, given = give(transport="carrier pigeon")
    assert "expected auto or http or grpc" in one_line(run_distlock("--list", *options, env={**env, **given}).stderr)


@pytest.fixture(scope="module")
def users(start_etcd: Callable[..., Cluster]) -> Cluster:
    """An etcd with users and without TLS, and the user `node` with an odd password."""
    cluster = start_etcd()
    cluster.enable_auth()
    cluster.add_user("node", SECRET, [("readwrite", "/")])
    return cluster


@pytest.fixture
def site(users: Cluster, realm_prefix: str) -> Site:
    return Site(users, realm_prefix)


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return str(path)


@every_way("user", "password_file")
def test_user_and_password_file(site: Site, run_distlock: Run, give: Give, password_file: str) -> None:
    options, env = give(user="node", password_file=password_file)
    done = run_distlock("--lock-name=x", *options, "--", "echo", "in", env={**at(site), **env})
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")


@every_way("password")
def test_password_is_a_variable_or_in_the_file_and_never_an_option(site: Site, run_distlock: Run, give: Give) -> None:
    options, env = give(password=SECRET)
    done = run_distlock("--lock-name=x", "--user=node", *options, "--", "echo", "in", env={**at(site), **env})
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "")
    done = run_distlock("--list", f"--password={SECRET}", env=at(site))
    assert one_line(done.stderr).startswith("distlock: unknown option ")
    assert "--password" not in re.findall(r"--password(?!-file)", run_distlock("--help").stdout)


def test_every_setting_of_access_is_exercised_here() -> None:
    assert COVERED == OF_ACCESS


def test_a_password_file_is_read_again_at_each_login(site: Site, password_file: str) -> None:
    realm = site.realm(user="node", password=None, password_file=password_file)
    lock = realm.lock("x", ttl=30).acquire(0)
    try:
        site.cluster.etcdctl("user", "passwd", "node", "--interactive=false", input="another\n")
        Path(password_file).write_text("another")
        assert lock.verify()
        lock.release()
    finally:
        site.cluster.etcdctl("user", "passwd", "node", "--interactive=false", input=f"{SECRET}\n")


# Which of them counts.


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., str]:
    """file(mode=0o600, user="node") -> the path of a config file."""

    def write(mode: int = 0o600, **given: Any) -> str:
        path = tmp_path / "distlock.yaml"
        path.write_text(yaml.safe_dump(given))
        path.chmod(mode)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("in_file", "variables", "options", "expected"),
    [
        ({"password": "a"}, {}, {}, ("a", None)),
        ({"password": "a"}, {"DISTLOCK_PASSWORD": "b"}, {}, ("b", None)),
        ({"password": "a"}, {"DISTLOCK_PASSWORD_FILE": "{f}"}, {}, (None, "{f}")),
        ({"password": "a"}, {}, {"password_file": "{f}"}, (None, "{f}")),
        ({"password_file": "/absent"}, {"DISTLOCK_PASSWORD": "b"}, {}, ("b", None)),
        ({}, {"DISTLOCK_PASSWORD": "b"}, {"password_file": "{f}"}, (None, "{f}")),
        ({"password": "a", "password_file": "/absent"}, {}, {}, ("a", None)),
    ],
)
def test_password_and_password_file_are_one_setting(
    file: Callable[..., str],
    password_file: str,
    in_file: dict[str, str],
    variables: dict[str, str],
    options: dict[str, str],
    expected: tuple[str | None, str | None],
) -> None:
    path = file(user="node", **in_file)
    environ = {key: value.format(f=password_file) for key, value in variables.items()}
    given = {key: value.format(f=password_file) for key, value in options.items()}
    settings = load({"config": path, **given}, environ)
    found = tuple(word and word.format(f=password_file) for word in expected)
    assert (settings.password, settings.password_file) == found


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"DISTLOCK_USER": "node"}, "a user is set, and no password: "),
        ({"DISTLOCK_PASSWORD": SECRET}, "a password is set, and no user for it"),
        ({"DISTLOCK_USER": "node", "DISTLOCK_PASSWORD_FILE": "/absent"}, "password file /absent: cannot be read: No "),
        ({"DISTLOCK_USER": "node", "DISTLOCK_PASSWORD_FILE": "/etc"}, "password file /etc: cannot be read: Is a "),
        ({"DISTLOCK_USER": "node", "DISTLOCK_PASSWORD_FILE": os.devnull}, "password file /dev/null: it is empty"),
        ({"DISTLOCK_USER": "node", "DISTLOCK_PASSWORD_FILE": __file__}, "expected one line with the password"),
        ({"DISTLOCK_KEY": "/some.key"}, "a key is set, and no certificate for it"),
        ({"DISTLOCK_USER": f"node:{SECRET}"}, "DISTLOCK_USER: expected a user's name alone"),
    ],
)
def test_contradicting_settings_are_refused_without_showing_the_password(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"config": os.devnull}, environ)
    assert said in caught.value.message
    assert SECRET not in caught.value.message


# Secrets, which are never shown.


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("password: [hunter2]\n", "password: expected a string, in quotes, found something else"),
        ("password: !hunter2 x\n", "not valid YAML here: a tag (!...) has no meaning; quote it"),
        ("password: *hunter2\n", "not valid YAML: found undefined alias '...'"),
        ("password:hunter2:\n", "unknown key 'password'"),
        ("password: 'hunter2\n", "not valid YAML"),
        ("user: 'node:hunter2'\n", "user: expected a user's name alone"),
        (
            "endpoints: ['http://node:hunter2@127.0.0.1:2379']\n",
            "an endpoint's URL must not contain a user or password",
        ),
    ],
)
@pytest.mark.parametrize("json_", [False, True])
def test_a_wrong_password_setting_is_refused_without_showing_it(
    run_distlock: Run, tmp_path: Path, text: str, said: str, json_: bool
) -> None:
    path = tmp_path / "distlock.yaml"
    path.write_text(text)
    env: dict[str, str | None] = {"DISTLOCK_ENDPOINTS": None, "DISTLOCK_CONFIG": str(path)}
    done = run_distlock("--list", *(["--json"] if json_ else []), env=env)
    assert done.returncode == 1
    assert said in (json.loads(done.stdout)["error"]["message"] if json_ else one_line(done.stderr))
    assert not re.search("hunter2|123456|42798", done.stdout + done.stderr)


def test_no_text_form_shows_the_password() -> None:
    settings = load({"config": os.devnull}, {"DISTLOCK_USER": "node", "DISTLOCK_PASSWORD": SECRET})
    assert isinstance(settings, Settings)
    for shown in (repr(settings), str(settings), f"{settings}", repr(Access(user="node", password=SECRET))):
        assert "hunter2" not in shown
        assert "node" in shown or "***" in shown


def test_an_endpoint_with_a_password_is_refused_without_it() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_endpoint(f"http://node:{SECRET}@10.0.0.1:2379")
    assert "hunter2" not in caught.value.message


def test_it_is_in_no_process_list_no_record_no_log_and_no_output(
    site: Site, spawn_distlock: Spawn, run_distlock: Run, tmp_path: Path
) -> None:
    env = {**at(site), "DISTLOCK_USER": "node", "DISTLOCK_PASSWORD": SECRET}
    log = tmp_path / "keeper.log"
    process = subprocess.Popen(["sleep", "300"])
    try:
        options = ("--lock-name=x", "--lock", f"--while-pid={process.pid}", f"--log-file={log}", "--verbose")
        done = run_distlock(*options, env=env)
        assert done.returncode == 0, done.stderr
        holder = site.realm().show("x").holders[0]
        holding = spawn_distlock(
            "--lock-name=y", "--ttl=30", "--verbose", "--", "sh", "-c", "echo in; exec sleep 300", env=env
        )
        waiting = spawn_distlock("--lock-name=x", "--json", "--", "true", env=env)
        assert line_of(holding) == "in"
        wait_until(lambda: site.realm().show("x").waiting, "it is in line")
        shown = [
            Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            for pid in (holder.keeper, holding.pid, waiting.pid)
        ]
        shown += [run_distlock(*words, env=env).stdout for words in (("--list", "--json"), ("--lock-name=x", "--show"))]
        shown.append(site.cluster.etcdctl("get", "--prefix", site.prefix))
        assert [place for place, text in enumerate(shown) if not text] == []
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: log.exists() and "released" in log.read_text(), "the keeper has let go")
    shown += [log.read_text(), done.stdout, done.stderr]
    waiting.wait(BOUND)
    holding.terminate()
    shown += [*holding.communicate(timeout=BOUND), *waiting.communicate(timeout=BOUND)]
    assert not [text for text in shown if "hunter2" in text]


# Who may read it.


@pytest.mark.parametrize(("mode", "who"), [(0o644, "everybody"), (0o640, "its group"), (0o600, ""), (0o400, "")])
def test_a_config_file_with_a_password_that_others_may_read_is_warned_about(
    site: Site, run_distlock: Run, file: Callable[..., str], mode: int, who: str
) -> None:
    path = file(mode, user="node", password=SECRET)
    warning = f"{path} has a password in it, and {who} may read or change it. To keep it: chmod 600 {path}"
    env = {**at(site), "DISTLOCK_CONFIG": path}
    done = run_distlock("--lock-name=x", "--lock", env=env)
    assert (done.returncode, done.stderr) == (0, f"distlock: warning: {warning}\n" if who else "")
    done = run_distlock("--list", "--json", env=env)
    assert json.loads(done.stdout)["locks"][0]["lock"] == "x"
    assert done.stderr == (json.dumps({"warning": {"message": warning}}) + "\n" if who else "")
    assert run_distlock("--list", "--quiet", env=env).stderr == ""
    assert "hunter2" not in done.stdout + done.stderr


def test_a_password_file_that_others_may_read_is_warned_about(
    site: Site, run_distlock: Run, password_file: str
) -> None:
    os.chmod(password_file, 0o604)
    env = {**at(site), "DISTLOCK_USER": "node", "DISTLOCK_PASSWORD_FILE": password_file}
    done = run_distlock("--list", env=env)
    warning, nothing = done.stderr.splitlines()
    assert warning.startswith(f"distlock: warning: {password_file} has a password in it, and everybody may read")
    assert nothing.startswith("distlock: no locks under")


def test_a_config_file_without_a_password_may_be_read_by_all(tls: Tls, file: Callable[..., str]) -> None:
    assert load({"config": file(0o644, cacert=tls.authority.cacert)}, {}).warnings == ()
    overridden = load({"config": file(0o644, user="node", password="x")}, {"DISTLOCK_PASSWORD": "y"})
    assert len(overridden.warnings) == 1  # it is there to be read, whether it counts or not
