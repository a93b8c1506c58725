"""Renders the figures: as tables for people, as JSON for programs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.ansible_tasks import AnsibleTasks
    from bench.commits import Commits
    from bench.imports import Imports
    from bench.line import LineDrain
    from bench.listing import Listing
    from bench.residents import Resident
    from bench.waiters import Drain
    from bench.wall import Wall


@dataclass
class Report:
    """The results so far; None for a part that did not run."""

    machine: dict[str, Any]
    left_out: dict[str, str]
    idle: float = 0.0
    wall: list[Wall] | None = None
    commits: list[Commits] | None = None
    drain: list[Drain] | None = None
    lines: list[LineDrain] | None = None
    listings: list[Listing] | None = None
    imports: Imports | None = None
    residents: list[Resident] | None = None
    ansible: list[AnsibleTasks] | None = None

    def data(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def text(self) -> str:
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        blocks = [f"Measured with {machine}. The idle etcd: {self.idle:.2f} commits/s"]
        blocks += [
            *self._wall(),
            *self._commits(),
            *self._drain(),
            *self._lines(),
            *self._listings(),
            *self._imports(),
            *self._residents(),
            *self._ansible(),
        ]
        if self.left_out:
            lines = [f"  {name}: {why}" for name, why in self.left_out.items()]
            blocks.append("\n".join(["Left out, or failed on the way:", *lines]))
        return "\n\n".join(blocks)

    def _wall(self) -> list[str]:
        if self.wall is None:
            return []
        rows = [
            (each.tool, f"{each.p10:.1f}", f"{each.median:.1f}", f"{each.p90:.1f}", f"{each.ratio:.2f}")
            for each in self.wall
        ]
        title = "Lock, /bin/true, unlock: wall time of the whole process"
        return [table(title, ("", "p10 ms", "median ms", "p90 ms", "x bare Python"), rows)]

    def _commits(self) -> list[str]:
        if self.commits is None:
            return []
        rows = [(each.tool, f"{each.commits:.2f}", f"{each.leases_left:.2f}") for each in self.commits]
        return [table("Raft commits per lock and unlock, uncontended", ("", "commits", "leases left behind"), rows)]

    def _drain(self) -> list[str]:
        if self.drain is None:
            return []
        rows = [
            (
                each.tool,
                f"{each.waiters}",
                f"{each.seconds:.2f}",
                f"{each.hand_over:.1f}",
                f"{each.commits_per_acquisition:.1f}",
            )
            for each in sorted(self.drain, key=lambda each: each.waiters)
        ]
        heads = ("", "waiters", "total s", "ms/hand-over", "commits/acquisition")
        return [table("Drain of a queue of waiters, from the holder's release to the last one's end", heads, rows)]

    def _lines(self) -> list[str]:
        if not self.lines:
            return []
        first = self.lines[0]
        rows = [
            (
                f"{each.waiters}",
                f"{each.hand_over:.1f}",
                f"{each.commits:.1f}",
                f"{each.bytes_read:.0f}",
                growth(each.bytes_read, first.bytes_read, 1),
                f"{each.show * 1000:.1f}",
                growth(each.show, first.show, each.waiters / first.waiters),
            )
            for each in self.lines
        ]
        title = "A line of waiters that are threads of a few processes; growth: cost against size, 1.0 is linear"
        heads = ("waiters", "ms/hand-over", "commits/hand-over", "bytes of etcd", "growth", "show: CPU ms", "growth")
        return [table(title, heads, rows)]

    def _listings(self) -> list[str]:
        if not self.listings:
            return []
        first = self.listings[0]
        rows = [
            (
                f"{each.locks}" + (f" and {each.notes} notes" if each.notes else ""),
                f"{each.mib:.1f}",
                f"{each.loads * 1000:.1f}",
                *(f"{seconds * 1000:.1f}" for seconds in (each.realm_list, each.list, each.json)),
                f"{each.ratio:.1f}",
                growth(each.realm_list, first.realm_list, each.locks / first.locks),
            )
            for each in self.listings
        ]
        heads = ("locks", "MiB", "json.loads", "realm.list()", "--list", "--list --json", "x json.loads", "growth")
        return [table("Listing a realm: ms of CPU; growth: cost against size, 1.0 is linear", heads, rows)]

    def _imports(self) -> list[str]:
        if self.imports is None:
            return []
        found = self.imports
        title = (
            f"Imports of the command line: {found.modules} modules, {found.total:.1f} ms"
            f" (bare Python: {found.bare_modules}, {found.bare_total:.1f} ms; the clock of -X importtime slows all)"
        )
        rows = [(each.module, f"{each.alone:.1f}", f"{each.with_others:.1f}") for each in found.costly]
        return [table(title, ("", "alone ms", "with its own imports ms"), rows)]

    def _residents(self) -> list[str]:
        if self.residents is None:
            return []
        rows = [
            (f"{each.tool}, {each.part}", f"{each.private_mib:.1f}", f"{each.wake_ups:.2f}") for each in self.residents
        ]
        return [table("One process that holds, waits or keeps", ("", "private MiB", "wake-ups/s"), rows)]

    def _ansible(self) -> list[str]:
        if self.ansible is None:
            return []
        where = {True: "distlock_core installed", False: "nothing installed"}
        rows = [
            (f"{name}, {where[each.installed]}", f"{cpu:.2f}", f"{cpu / each.ping:.2f}")
            for each in self.ansible
            for name, cpu in (("ping", each.ping), ("distlock", each.distlock))
        ]
        playbook = self.ansible[0].playbook
        title = f"One Ansible task, over a local connection; the playbook around it takes {playbook:.2f} s"
        return [table(title, ("", "s of CPU", "x ping"), rows)]


def growth(cost: float, first: float, size: float) -> str:
    """Growth of the cost relative to the growth of the size: 1 for linear, the ratio of the sizes for quadratic."""
    return f"{cost / first / size:.1f}" if first > 0 else "-"


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A titled table with columns of minimal width: the first aligned left, numbers right."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))])
        for row in (heads, *rows)
    ]
    return "\n".join([title, *(f"  {line}".rstrip() for line in lines)])
