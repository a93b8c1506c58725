"""Start-up time of the command line by import, as measured by Python."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.processes import ToolFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.tools import Tool

RUNS = 3
SHOWN = 10


@dataclass(frozen=True)
class Import:
    """Milliseconds of the module alone, and including the modules that it was the first to import."""

    module: str
    alone: float
    with_others: float


@dataclass(frozen=True)
class Imports:
    """The imports of one run of the command line, without those of bare Python."""

    modules: int
    total: float
    bare_modules: int
    bare_total: float
    costly: list[Import]


def measure(distlock: Tool) -> Imports:
    python, *arguments = distlock.argv("imports", ["/bin/true"])
    ours = of(python, arguments, distlock.env)
    bare = of(python, ["-c", "pass"], distlock.env)
    costly = sorted(ours.values(), key=lambda each: each.alone, reverse=True)[:SHOWN]
    return Imports(len(ours), _total(ours), len(bare), _total(bare), costly)


def of(python: str, arguments: Sequence[str], env: Mapping[str, str]) -> dict[str, Import]:
    """Each module's lowest time of several runs, as anything above it is noise."""
    best: dict[str, Import] = {}
    for _ in range(RUNS):
        run = subprocess.run(
            [python, "-X", "importtime", *arguments],
            env=dict(env), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        if run.returncode != 0:
            last = run.stderr.strip().rpartition("\n")[2]
            raise ToolFailedError(f"exit {run.returncode} under -X importtime: {last}")
        for line in run.stderr.splitlines():
            each = _parsed(line)
            if each is not None and (each.module not in best or each.alone < best[each.module].alone):
                best[each.module] = each
    return best


def _parsed(line: str) -> Import | None:
    if not line.startswith("import time:"):
        return None
    alone, with_others, module = line.partition(":")[2].split("|")
    if not alone.strip().isdigit():
        return None  # the heading
    return Import(module.strip(), int(alone) / 1000, int(with_others) / 1000)


def _total(imports: Mapping[str, Import]) -> float:
    return sum(each.alone for each in imports.values())
