"""A real puppetserver on loopback, with all its files in one folder."""

from __future__ import annotations

import http.client
import os
import pwd
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from distlock_core.embedded.ports import free_ports

START_TIMEOUT = 420.0  # seconds; half a minute on an idle machine
STOP_TIMEOUT = 20.0
SYSTEM = Path("/etc/puppet/puppetserver")  # Debian's files, which need no change
JAR = Path("/usr/share/puppetserver/puppetserver.jar")
USER = "puppet"

PUPPET_CONF = """\
[main]
certname = localhost
user = {user}
group = {group}
ssldir = {folder}/ssl
cadir = {folder}/ca
keylength = 2048
autosign = true
basemodulepath = /nonexistent
environment_timeout = 0
reports = none
storeconfigs = false
"""

SERVICE = """\
jruby-puppet: {{
    ruby-load-path: [/usr/lib/puppetserver/ruby/vendor_ruby]
    gem-home: {folder}/gems
    gem-path: ["{folder}/gems", "/usr/lib/puppetserver/vendored-jruby-gems"]
    server-conf-dir: {folder}/conf
    server-code-dir: {folder}/code
    server-var-dir: {folder}/var
    server-run-dir: {folder}/run
    server-log-dir: {folder}/log
    max-active-instances: 1
}}
webserver: {{
    client-auth: want
    ssl-host: 127.0.0.1
    ssl-port: {port}
}}
global: {{ logging-config: {folder}/logback.xml }}
"""

LOGBACK = """\
<configuration><appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder>
<pattern>%d %-5p %m%n</pattern></encoder></appender>
<root level="info"><appender-ref ref="OUT"/></root></configuration>
"""


class PuppetServer:
    """Started by the constructor, ended by `stop()`. Its manifest is `site`, which is read again at every run."""

    def __init__(self) -> None:
        # As root it runs as the user that its package has made, who must be able to get here.
        self.folder = Path(tempfile.mkdtemp(prefix="distlock-puppetserver-"))
        (self.port,) = free_ports(1)
        self.site = self.folder / "code/environments/production/manifests/site.pp"
        self._user = pwd.getpwnam(USER) if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        self._write()
        as_user: dict[str, Any] = (
            {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
        )
        with (self.folder / "out").open("wb") as out:
            self._process = subprocess.Popen(
                self._command(),
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                **(as_user if os.getuid() == 0 else {}),
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def log(self) -> str:
        return (self.folder / "out").read_text(errors="replace")

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self) -> None:
        group = "puppet" if os.getuid() == 0 else str(self._user.pw_gid)
        files = {
            "conf/puppet.conf": PUPPET_CONF.format(folder=self.folder, user=self._user.pw_name, group=group),
            "conf.d/own.conf": SERVICE.format(folder=self.folder, port=self.port),
            "logback.xml": LOGBACK,
            "code/environments/production/manifests/site.pp": "",
        }
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in ("auth.conf", "ca.conf", "metrics.conf", "web-routes.conf"):
            shutil.copyfile(SYSTEM / "conf.d" / name, self.folder / "conf.d" / name)
        for name in ("gems", "var", "run", "log", "agents"):
            (self.folder / name).mkdir()
        if os.getuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)

    def _command(self) -> list[str]:
        return [
            *("java", "-Xms256m", "-Xmx1g", "-XX:TieredStopAtLevel=1", "-Djruby.lib=/usr/share/jruby/lib"),
            "-Djruby.logger.class=com.puppetlabs.jruby_utils.jruby.Slf4jLogger",
            *(
                "-jar",
                str(JAR),
                "--config",
                str(self.folder / "conf.d"),
                "--bootstrap-config",
                str(SYSTEM / "services.d"),
            ),
        ]

    def _wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            assert self._process.poll() is None, self.log[-4000:]
            assert time.monotonic() < deadline, self.log[-4000:]
            time.sleep(0.5)  # it sends no event

    def _answers(self) -> bool:
        anyone = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=10, context=anyone)
        try:
            connection.request("GET", "/status/v1/simple")
            return connection.getresponse().read() == b"running"
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
