"""Known faults of etcd that concern distlock, by version: the table that each member's version is compared with."""

from __future__ import annotations

from distlock_core.base.value import Value
from distlock_core.doctor.finding import BAD, WARN

TYPE_CHECKING = False
if TYPE_CHECKING:
    Version = tuple[int, ...]

FROM_THE_FIRST = (0,)


class Fault(Value):
    """A fault of the versions from `first` on, up to, but without, `fixed`. `status` is that of a finding."""

    first: Version
    fixed: Version
    status: str
    words: str
    remedy: str  # what distlock does about it, "" for nothing


FAULTS = (
    Fault(FROM_THE_FIRST, (3, 4), BAD, "it is too old: distlock needs etcd 3.4 or later", ""),
    Fault((3, 5, 0), (3, 5, 3), BAD, "it can corrupt its data", ""),
    Fault(
        (3, 5, 0),
        (3, 5, 5),
        WARN,
        "it crashes if a client disconnects during a read-only transaction",
        "distlock keeps such a connection open, other clients may not",
    ),
    Fault((3, 4), (3, 4, 31), WARN, "a leader that was paused and resumed can end a renewed lease", ""),
    Fault((3, 5, 0), (3, 5, 13), WARN, "a leader that was paused and resumed can end a renewed lease", ""),
    Fault((3, 4), (3, 4, 36), WARN, "a watch can miss a deletion", "distlock reads again every 10 s"),
    Fault((3, 5, 0), (3, 5, 18), WARN, "a watch can miss a deletion", "distlock reads again every 10 s"),
)
# The oldest version of each series without any of these faults.
GOOD = {(3, 4): "3.4.36", (3, 5): "3.5.18"}
BEST = "3.5.18"


def parsed(version: str) -> Version | None:
    """`3.5.21-rc.1+git` as (3, 5, 21), None if it is no version."""
    digits = version.partition("-")[0].partition("+")[0].split(".")
    if not 2 <= len(digits) <= 4 or not all(one.isascii() and one.isdigit() and len(one) < 6 for one in digits):
        return None
    return tuple(map(int, digits))


def faults_of(version: Version) -> list[Fault]:
    """The known faults of a version, the worst first."""
    found = [fault for fault in FAULTS if fault.first <= version < fault.fixed]
    return sorted(found, key=lambda fault: fault.status != BAD)


def better_than(version: Version) -> str:
    """The version to update to: of the same series, if it has one without these faults."""
    return GOOD.get((version[0], version[1]), BEST)
