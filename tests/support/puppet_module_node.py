"""A node that has the Puppet module."""

from __future__ import annotations

from pathlib import Path

from tests.support.paths import ROOT
from tests.support.puppet_node import PuppetNode, PuppetRun

MODULE = ROOT / "puppet"


class ModuleNode(PuppetNode):
    """A node whose modulepath has the module."""

    def __init__(self, folder: Path, certname: str, env: dict[str, str], modules: Path) -> None:
        super().__init__(folder, certname, env)
        self.modules = modules
        self.vardir = folder / certname / "var"
        self.env = env

    @property
    def places(self) -> list[str]:
        return ["--modulepath", str(self.modules), "--certname", self.certname]

    def start(self, manifest: str, *options: str) -> PuppetRun:
        return super().start(manifest, *(options or ("--no-noop",)), *self.places)
