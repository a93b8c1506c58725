"""The environment of all measured tools: as after a plain install, without any settings from outside."""

from __future__ import annotations

import os
import secrets
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Environment:
    """The same for all tools."""

    folder: Path  # temporary
    python: str
    distlock: str  # the console script
    variables: dict[str, str]
    prefix: str  # of all keys in etcd

    @classmethod
    def make(cls, folder: Path) -> Environment:
        # This etcd has no other users; the random part is a safeguard in case it is ever run against one that has.
        python = _plain_python(folder)
        return cls(folder, python, _script(folder), _clean_variables(folder), f"/bench-{secrets.token_hex(4)}/")


def _plain_python(folder: Path) -> str:
    """The interpreter of a fresh virtual environment with this tree's package and what this environment has.

    An editable install may put a finder into every start of its interpreter, which doubles the time of bare Python, and
    which nobody has on a node. So the packages are named by plain paths here, as fast as if they were installed.
    """
    home = folder / "venv"
    venv.create(home, symlinks=True)
    only_ours = folder / "packages"
    only_ours.mkdir()
    (only_ours / "distlock_core").symlink_to(ROOT / "distlock_core")
    (site,) = home.glob("lib/python*/site-packages")
    others = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (site / "bench.pth").write_text("\n".join([str(only_ours), *others]) + "\n")
    return str(home / "bin" / "python")


def _script(folder: Path) -> str:
    """The console script as uv and pip write it; that of older versions (such as pip 23) imports `re`, too."""
    script = folder / "distlock"
    script.write_text("import sys\nfrom distlock_core.cli.start import distlock\nsys.exit(distlock())\n")
    return str(script)


def _clean_variables(folder: Path) -> dict[str, str]:
    """The environment variables, without those that configure a lock or an interpreter, and with an empty home."""
    steering = ("DISTLOCK", "ETCD", "LOCKNAME", "NODE_OPTIONS", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return {**kept, "HOME": str(folder), "no_proxy": "127.0.0.1"}
