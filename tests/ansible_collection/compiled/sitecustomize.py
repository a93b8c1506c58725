"""Keeps what Python has compiled out of a zip for its next run: Ansible sends modules to a host as zips of sources.

To compile them is most of what a task costs there. Python imports this file by itself where it finds it on its path.
"""

from __future__ import annotations

import _imp
import marshal
import os
import zipimport
from types import CodeType

FOLDER = os.environ.get("COMPILED_PYTHON")
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


if FOLDER:
    zipimport._compile_source = compiled  # type: ignore[attr-defined]
