"""The life behind a hold: its process, its machine and its keeper, as far as they can be told from this machine."""

from __future__ import annotations

from distlock_core.base.text import printable
from distlock_core.base.value import Value
from distlock_core.lock.reentry import takers_of, what_of_run, what_of_step
from distlock_core.process.fate import ALIVE, GONE, UNKNOWN, fate, has_ended
from distlock_core.process.identity import own_place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from distlock_core.model.record import Record
    from distlock_core.model.state import Holder

HERE, RESTARTED, ELSEWHERE = "here", "restarted", "elsewhere"  # this machine; this one, restarted since; not this one


class HolderLife(Value):
    """What is known about a hold's process, machine and keeper.

    `process` and `keeper` are alive, gone or unknown; `why` says more about the process. For a step, the process is the
    one that it was taken for. `keeper` is None if there is none. `machine` is here, restarted, elsewhere or unknown.
    """

    process: str
    why: str
    machine: str
    keeper: str | None = None

    @classmethod
    def of(cls, holder: Holder, state_dir: str | None) -> HolderLife:
        """`state_dir`: this machine's notes about its acquisitions."""
        record = holder.record
        if record.text("kind") == "lock":
            process, why = what_of_step(holder, record, state_dir)
        else:
            process, why = what_of_run(holder, state_dir)
        return cls(process, why, _machine_of(record), _keeper_of(holder))

    def lines(self, holder: Holder) -> list[tuple[str, str]]:
        """The same for people, as pairs of a word and a text."""
        host = printable(holder.record.text("host"))
        process = {ALIVE: "running", GONE: "gone", UNKNOWN: "unknown"}[self.process]
        found = [("process", f"{process}: {printable(self.why)}" if self.why else process)]
        machine = {
            HERE: "this one, not restarted since",
            RESTARTED: "this one, restarted since",
            ELSEWHERE: f"another one: more is known on {host}" if host else "another one",
        }
        found.append(("machine", machine.get(self.machine, "unknown")))
        if self.keeper is not None:
            found.append(("keeper", f"process {holder.keeper}, {'running' if self.keeper == ALIVE else self.keeper}"))
        return found


def _machine_of(record: Record) -> str:
    here, there = own_place(), record.details
    if not record.text("host"):
        return UNKNOWN
    if record.text("host") != here["host"] or record.text("machine") != here["machine"]:
        return ELSEWHERE
    if not record.text("boot") or not here["boot"]:
        return UNKNOWN
    if there["boot"] == here["boot"]:
        return HERE
    # Clones and containers share names; without a machine id, another boot may be that of another machine.
    return RESTARTED if here["machine"] else UNKNOWN


def _keeper_of(holder: Holder) -> str | None:
    """The fate of the keeper of a bound lock. Its start time is not known, so that a pid in use is only unknown."""
    if holder.keeper is None:
        return None
    kept = [trace for trace in takers_of(holder.record) if trace.get("pid") is not None]
    if not kept or fate(kept[-1])[0] == UNKNOWN:
        return UNKNOWN
    return GONE if has_ended(holder.keeper) else ALIVE
