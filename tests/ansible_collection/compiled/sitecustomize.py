"""Spares Ansible's runs work that is the same in each: Python imports this file where it finds it on its path.

Ansible sends a module to a host as a zip of sources. To put that together costs the controller half a second a run: a
run begins with those that `ASSEMBLED_MODULES` holds, in Ansible's own cache. To compile it is most of what a task costs
on the host: what was compiled is kept in `COMPILED_PYTHON`.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
import zipimport
from types import CodeType
from typing import Any

FOLDER = os.environ.get("COMPILED_PYTHON")
ASSEMBLED = os.environ.get("ASSEMBLED_MODULES")
ARGUMENTS = getattr(sys, "orig_argv", ())  # Python 3.9 does not tell
compile_source = zipimport._compile_source  # type: ignore[attr-defined]


def compiled(pathname: str, source: bytes) -> CodeType:
    kept = os.path.join(FOLDER or "", _imp.source_hash(0, source).hex())
    try:
        with open(kept, "rb") as file:
            code: CodeType = marshal.load(file)
    except OSError:
        code = compile_source(pathname, source)
        partial = f"{kept}.{os.getpid()}"
        with open(partial, "wb") as file:
            marshal.dump(code, file)
        os.replace(partial, kept)
    _imp._fix_co_filename(code, pathname)  # type: ignore[attr-defined]
    return code


def hand_out(assembled: str) -> None:
    """Fill the cache for modules of each folder that Ansible makes for a run."""
    import tempfile

    make_folder: Any = tempfile.mkdtemp

    def filled(*words: Any, prefix: str | None = None, **named: Any) -> str:
        folder: str = make_folder(*words, prefix=prefix, **named)
        if prefix is not None and prefix.startswith("ansible-local-"):
            cache = os.path.join(folder, "ansiballz_cache")
            os.mkdir(cache)
            for name in os.listdir(assembled):
                os.link(os.path.join(assembled, name), os.path.join(cache, name))
        return folder

    setattr(tempfile, "mkdtemp", filled)  # noqa: B010 - its signatures are many


# What is started from here reads the module from its standard input: unbuffered, that is a call for each of its bytes.
os.environ.pop("PYTHONUNBUFFERED", None)

if FOLDER:
    zipimport._compile_source = compiled  # type: ignore[attr-defined]
if ASSEMBLED and any(word.endswith("/ansible-playbook") for word in ARGUMENTS):
    hand_out(ASSEMBLED)
