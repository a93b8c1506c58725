"""A node that has the Puppet module."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

from tests.support.paths import ROOT
from tests.support.preloaded.client import exec_new
from tests.support.processes import Process
from tests.support.puppet_node import PuppetNode, PuppetRun

MODULE = ROOT / "puppet"


class ModuleNode(PuppetNode):
    """A node whose modulepath has the module."""

    def __init__(
        self, folder: Path, certname: str, env: dict[str, str], modules: Path, start: Callable[..., Process] = exec_new
    ) -> None:
        super().__init__(folder, certname, env, start=start)
        self.modules = modules
        self.vardir = folder / certname / "var"
        self.env = env

    @property
    def places(self) -> list[str]:
        return ["--modulepath", str(self.modules), "--certname", self.certname]

    def start(self, manifest: str, *options: str) -> PuppetRun:
        return super().start(manifest, *(options or ("--no-noop",)), *self.places)
