#!/usr/bin/env python3
"""Make a virtual environment with this checkout and some of its extras, or bring an existing one up to date.

    python3 tools/environment.py .envs/trial embedded

It prints what it installs, replaces an incomplete environment, and names what is missing on the machine.
Packages that only build with a C compiler are left out where there is none; with CI=true in the environment that is an
error. FOLDER/.ready says that nothing was left out. The standard library is all that it needs.

Every version is fixed: by tools/pinned.txt for what builds, and by tools/constraints/ for the rest (`make pins`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINNED = ROOT / "tools" / "pinned.txt"
CONSTRAINTS = ROOT / "tools" / "constraints"
NO_VENV = (
    "{python} cannot make virtual environments: its module ensurepip is missing. "
    "On Debian and Ubuntu: apt-get install python3-venv"
)
# These come as source only, with extension modules in C.
NEED_A_COMPILER = {"salt": "apt-get install gcc libc6-dev python3-dev"}
# Run with -I: the metadata that an older build left in the working directory must not hide the installed ones.
REQUIREMENTS = """
import importlib.metadata, json, sys
print(json.dumps(importlib.metadata.requires("distlock-core") or []))
"""


class Failed(Exception):
    """It cannot go on; the message is for people."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the environment is, or is to be made")
    parser.add_argument("extras", nargs="*", help="extras of pyproject.toml, such as embedded, salt or dev")
    arguments = parser.parse_args()
    try:
        make(arguments.folder.absolute(), arguments.extras)
    except (Failed, OSError) as error:
        print(f"environment: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"environment: {' '.join(map(str, error.cmd))} failed (exit code {error.returncode})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("environment: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


def make(folder: Path, extras: list[str]) -> None:
    """Leave the environment complete. Raises `Failed`."""
    began = time.monotonic()
    wanted, left_out = buildable(extras)
    say(f"{shown(folder)}: installing this checkout{''.join(f', {extra}' for extra in wanted)}")
    if not is_whole(folder):
        create(folder)
    python = folder / "bin" / "python"
    pip(python, "install", "--require-hashes", "--requirement", str(PINNED))
    # In compat mode, since the default one adds an import hook that doubles the start-up time of Python itself.
    build = ["--no-deps", "--no-build-isolation", "--config-settings", "editable_mode=compat"]
    pip(python, "install", *build, "--editable", str(ROOT))
    needed = requirements(python, wanted)
    if needed:
        pip(python, "install", *constraints(python), *needed)
    subprocess.run([str(python), "-m", "compileall", "-q", str(ROOT / "distlock_core")], check=True)
    ready = folder / ".ready"
    if left_out:
        ready.unlink(missing_ok=True)  # so that make comes here again, when there may be a compiler
    else:
        ready.touch()
    for extra in left_out:
        say(f"left out: {extra}, which builds only with a C compiler. To have it: {NEED_A_COMPILER[extra]}, then again")
    say(f"{shown(folder)}: ready after {time.monotonic() - began:.0f} s")


def buildable(extras: list[str]) -> tuple[list[str], list[str]]:
    """Split the extras into those that can be installed here, and those that need what is missing."""
    include = Path(sysconfig.get_path("include")) / "Python.h"
    if include.exists() and any(map(shutil.which, ("cc", "gcc", "clang"))):
        return extras, []
    missing = [extra for extra in extras if extra in NEED_A_COMPILER]
    if missing and os.environ.get("CI") == "true":
        raise Failed(f"{', '.join(missing)} needs a C compiler and Python.h: {NEED_A_COMPILER[missing[0]]}")
    return [extra for extra in extras if extra not in missing], missing


def is_whole(folder: Path) -> bool:
    """True when the environment has an interpreter that runs, and pip."""
    try:
        answer = subprocess.run([folder / "bin" / "python", "-m", "pip", "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return answer.returncode == 0


def create(folder: Path) -> None:
    """Make the environment anew. Raises `Failed` where Python lacks what that takes."""
    try:
        import ensurepip  # noqa: F401 - venv finds out too late, and leaves half an environment behind
    except ImportError:
        raise Failed(NO_VENV.format(python=sys.executable)) from None
    if folder.exists():
        if not (folder / "pyvenv.cfg").exists() and any(folder.iterdir()):
            raise Failed(f"{folder} is no virtual environment: it is left alone")
        say(f"{shown(folder)}: incomplete, made anew")
        shutil.rmtree(folder)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)


def requirements(python: Path, extras: list[str]) -> list[str]:
    """What the checkout needs with these extras, as pip takes it; what it names of itself is left out."""
    found = json.loads(subprocess.run([str(python), "-I", "-c", REQUIREMENTS], capture_output=True, check=True).stdout)
    needed = []
    for requirement in found:
        what, _, marker = requirement.partition(";")
        extra = re.search(r"""\bextra\s*==\s*['"]([\w-]+)['"]""", marker)
        if extra and extra.group(1) not in extras:
            continue
        rest = re.sub(r"""(\s*\band\s+)?\bextra\s*==\s*['"][\w-]+['"](\s+and\b)?""", "", marker).strip()
        needed.append(f"{what.strip()} ; {rest}" if rest else what.strip())
    return needed


def constraints(python: Path) -> list[str]:
    """What makes pip keep to the pins of this Python; a Python that has none gets the newest of everything."""
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    path = CONSTRAINTS / f"python{version}.txt"
    if path.exists():
        return ["--constraint", str(path)]
    say(f"no versions are pinned for Python {version}: the newest are installed. To pin them: make pins")
    return []


def pip(python: Path, *arguments: str) -> None:
    """Run pip, and show what it is at: on a terminal in one line that is kept up to date."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    on_terminal = sys.stderr.isatty()
    said = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            step = re.match(r"\s*(Collecting|Downloading|Building wheels? for|Installing collected)\s+(\S+)", line)
            if step and on_terminal:
                sys.stderr.write(f"\r\033[K  {step.group(1)} {step.group(2)[-60:]}")
                sys.stderr.flush()
    if on_terminal:
        sys.stderr.write("\r\033[K")
    if process.returncode != 0:
        sys.stderr.writelines(said[-40:])
        raise Failed(f"pip has failed with exit code {process.returncode}: what it said stands above")


def shown(folder: Path) -> str:
    return os.path.relpath(folder)


def say(message: str) -> None:
    print(f"environment: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
