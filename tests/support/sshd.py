"""An sshd on loopback for tests, and a node behind it: a bare Python without distlock."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from distlock_core.embedded.ports import free_ports
from distlock_core.process.table import descendants
from distlock_core.process.tree import Tree
from tests.support.needs import need
from tests.support.processes import wait_until


class Sshd:
    """Keys, configuration and log in a folder; only the program of the system's sshd is used."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("/usr/sbin/sshd") or need("sshd", "apt-get install openssh-server")
        need("ssh", "apt-get install openssh-client")
        for name in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True, timeout=30)
        self.folder = folder
        (self.port,) = free_ports(1)
        self.python = folder / "bare" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "bare")], check=True, timeout=60)
        config = {
            "ListenAddress": f"127.0.0.1:{self.port}",
            "HostKey": folder / "host_key",
            "AuthorizedKeysFile": folder / "user_key.pub",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "MaxStartups": "100",
            "Subsystem": "sftp internal-sftp",
        }
        (folder / "sshd_config").write_text("".join(f"{word} {value}\n" for word, value in config.items()))
        if os.getuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where it goes to have nothing around it; empty
        self._process = subprocess.Popen(
            [program, "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "sshd.log")],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self._answers, "sshd")

    def inventory(self, hosts: list[str]) -> Path:
        """Each of these hosts is this machine, over ssh."""
        options = {
            "ansible_connection": "ssh",
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": self.folder / "user_key",
            "ansible_python_interpreter": self.python,
            "ansible_remote_tmp": self.folder / "remote",
            "ansible_ssh_common_args": "'-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
            # One connection for all tasks, as by default in Ansible; it ends with the sshd.
            f"-o ControlMaster=auto -o ControlPersist=60 -o ControlPath={self.folder}/mux'",
        }
        path = self.folder / "inventory.ini"
        words = " ".join(f"{word}={value}" for word, value in options.items())
        path.write_text("".join(f"{host} {words}\n" for host in hosts))
        return path

    def stop(self) -> None:
        """End it, and the sessions of a run that was cut off."""
        Tree(self._process.pid, subreaper=False).send(signal.SIGTERM, descendants(self._process.pid))
        self._process.terminate()
        self._process.wait(10)

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "sshd.log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True
