"""A stand-in for an Elasticsearch in racks: nodes go down for an upgrade, and each that does so wrongly is noted."""

from __future__ import annotations

from pathlib import Path

from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "rollouts" / "elasticsearch"
WORK = """#!/bin/sh
mkdir {folder}/down/$2 || echo "$1: two nodes of $2" >> {folder}/faults
[ "$(ls {folder}/down | wc -l)" -le 2 ] || echo "$1: more than two nodes" >> {folder}/faults
echo $1 >> {folder}/upgraded
sleep 1
rmdir {folder}/down/$2
"""
CURL = """#!/bin/sh
down=$(ls {folder}/down | wc -l)
test $down = 0 && echo "green 6 0 0 0" || echo "yellow $((6 - down)) 0 0 $down"
"""


class ElasticCluster:
    """`work NODE RACK` upgrades a node; `gate` is the example's gate with a curl that knows which nodes are down."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "down").mkdir()
        (folder / "bin").mkdir()
        self.work, self.gate = folder / "bin/work", folder / "bin/gate"
        self._program("work", WORK.format(folder=folder))
        self._program("curl", CURL.format(folder=folder))
        self._program("gate", f'#!/bin/sh\nPATH="{folder}/bin:$PATH" exec {EXAMPLE / "cluster-is-green"}\n')

    def _program(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    @property
    def faults(self) -> list[str]:
        return self._lines("faults")

    @property
    def upgraded(self) -> list[str]:
        """The nodes that were upgraded, in alphabetical order."""
        return sorted(self._lines("upgraded"))

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []
