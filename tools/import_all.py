#!/usr/bin/env python3
"""Import every module of the installed distlock_core, and fail where one cannot be imported without an extra.

    ENV/bin/python -I -W error tools/import_all.py

It is for an environment with the wheel and its dependencies alone. What needs a package of an extra is named, and has
to need exactly that package.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import distlock_core

# The packages that these modules cannot do without. All others are imported where they are used.
SALT = ("modules.distlock", "modules.distlock_freeze", "modules.distlock_policy", "modules.distlock_run")
OTHERS = ("runners.distlock", "states.distlock_run")
NEED_AN_EXTRA = {f"distlock_core.saltext.{name}": "salt" for name in (*SALT, *OTHERS)}
FEWEST = 120  # modules, or the wheel is not whole


def main() -> int:
    if not str(distlock_core.__file__).startswith(sys.prefix):
        print(f"import_all: {distlock_core.__file__} is not what is installed in {sys.prefix}", file=sys.stderr)
        return 1
    names = [found.name for found in pkgutil.walk_packages(distlock_core.__path__, "distlock_core.")]
    failures = [failure for failure in map(_failure, names) if failure]
    if len(names) < FEWEST:
        failures.append(f"only {len(names)} modules are there, and not {FEWEST} or more")
    for failure in failures:
        print(f"import_all: {failure}", file=sys.stderr)
    print(f"{len(names)} modules imported, but for {', '.join(sorted(NEED_AN_EXTRA))}, which need an extra")
    return 1 if failures else 0


def _failure(name: str) -> str | None:
    """What is wrong with the import of this module, if anything is."""
    extra = NEED_AN_EXTRA.get(name)
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if extra is not None and (error.name or "").partition(".")[0] == extra:
            return None
        return f"{name} needs {error.name}, which is no dependency"
    except Exception as error:  # noqa: BLE001 - a warning is an error here, and every module is looked at
        return f"{name}: {type(error).__name__}: {error}"
    return f"{name} can be imported without {extra}" if extra is not None else None


if __name__ == "__main__":
    sys.exit(main())
