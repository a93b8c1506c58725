"""A call of distlock loads no unused module, since it may run thousands of times."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import distlock_core
from distlock_core.testing import Cluster
from tests.support.paths import ROOT as CHECKOUT

# Each of these costs a short-lived process some milliseconds, most of them more than all of distlock.
HEAVY = {
    "argparse",
    "asyncio",
    "collections",
    "concurrent",
    "ctypes",
    "dataclasses",
    "email",
    "enum",
    "functools",
    "http.client",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "re",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "typing",
    "urllib",
    "uuid",
    "yaml",
}
# All that a plain run needs beyond `os`: C code, and what `from __future__` loads.
FROM_THE_STANDARD_LIBRARY = {
    "__future__",
    "_collections",
    "_json",
    "_queue",
    "_signal",
    "_socket",
    "binascii",
    "errno",
    "gc",
    "select",
    "time",
}
OWN = 84  # modules; each costs a start one or two percent of bare Python
PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from distlock_core.command import supervisor
supervisor.SHORT = 60.0  # seconds that a command may take before its lock is watched, which takes a thread
from distlock_core.cli.distlock import main
sys.exit(main())
"""
DISTLOCK = os.path.join(os.path.dirname(sys.executable), "distlock")
ROOT = os.path.dirname(os.path.dirname(distlock_core.__file__))


def loaded(env: dict[str, str], *arguments: str) -> set[str]:
    """The modules that a Python program loads; it must end well."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.MULTILINE))


def heavy(modules: set[str]) -> set[str]:
    return {module for module in modules if any(f"{module}.".startswith(f"{name}.") for name in HEAVY)}


def test_a_run_loads_nothing_that_it_does_not_use(distlock_env: dict[str, str]) -> None:
    # Without `site`: what an environment loads into every Python is not distlock's, and would hide what is.
    program = ["-S", "-c", PROGRAM.format(root=ROOT)]
    modules = loaded(distlock_env, *program, "--lock-name=x", "--", "/bin/true")
    assert "distlock_core.command.spawn" in modules
    own = {module for module in modules if module.startswith("distlock_core")}
    assert heavy(modules) == set()
    assert modules - own - loaded(distlock_env, "-S", "-c", "import os") <= FROM_THE_STANDARD_LIBRARY
    assert len(own) <= OWN
    assert "distlock_core.lock.reentry" not in own  # without --id there is nothing to enter again
    assert "distlock_core.cli.help" not in modules
    assert not any(module.startswith("distlock_core.testing") for module in modules)


def test_the_installed_command_loads_nothing_more_than_bare_python_of_what_is_heavy(
    distlock_env: dict[str, str],
) -> None:
    # The script of a pip older than 26 loads `re`, and `re` loads others. Those of newer ones and of uv load nothing.
    by_script = "import re" if "import re\n" in Path(DISTLOCK).read_text() else "pass"
    bare = loaded(distlock_env, "-c", by_script)
    installed = loaded(distlock_env, DISTLOCK, "--lock-name=x", "--lock")
    assert "distlock_core.lock.lock" in installed
    assert heavy(installed - bare) == set()


def test_waiting_without_a_terminal_loads_nothing_heavy(
    distlock_env: dict[str, str], etcd: Cluster, realm_prefix: str
) -> None:
    etcd.etcdctl("put", f"{realm_prefix}x", "1;other;{}")
    program = ["-S", "-c", PROGRAM.format(root=ROOT)]
    arguments = ["--lock-name=x", "--timeout=2", "--busy-exit-code=0", "--", "/bin/true"]
    modules = loaded(distlock_env, *program, *arguments)
    assert heavy(modules) == set()


def test_a_config_file_as_the_docs_have_it_loads_nothing_heavy(distlock_env: dict[str, str], tmp_path: Path) -> None:
    page = (CHECKOUT / "docs/cli.md").read_text(encoding="utf-8")
    example = re.findall(r"<!-- config -->\n```yaml\n(.*?)```", page, re.DOTALL)[0]
    config = tmp_path / "distlock.yaml"
    config.write_text(re.sub(r"^(endpoints|prefix):.*\n(?:  - .*\n)*", "", example, flags=re.MULTILINE) + "id: web-1\n")
    program = ["-S", "-c", PROGRAM.format(root=ROOT)]
    modules = loaded({**distlock_env, "DISTLOCK_CONFIG": str(config)}, *program, "--lock-name=x", "--", "/bin/true")
    assert "distlock_core.settings.plain_yaml" in modules
    assert heavy(modules) == set()
