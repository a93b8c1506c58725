"""Re-entry: which holds of its own owner a process may enter again or let go of, and why not."""

from __future__ import annotations

from distlock_core.errors import NotHolder
from distlock_core.model import HELD
from distlock_core.whoami import GONE, ancestry, fate, is_same
from distlock_core.wording import held_by, look_at, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from distlock_core.model import Holder


def refuse_anothers_step(holder: Holder, taker: Mapping[str, Any] | None) -> None:
    """Raise `NotHolder` for a step that was taken for another process than mine, which may live."""
    record = holder.record
    theirs = record.details.get("taker")
    if record.state != HELD or record.text("kind") != "lock" or not isinstance(theirs, dict):
        return
    mine = [*ancestry(), *([] if taker is None else [taker])]
    if any(is_same(theirs, trace) for trace in mine) or fate(theirs)[0] == GONE:
        return
    where = f"process {theirs.get('pid')} on {printable(str(theirs.get('host')))}"
    raise NotHolder(
        f"{printable(holder.lock)} is held by {held_by(holder)}, a step that was taken for {where}, which may live: "
        f"left alone. To let go of it all the same: --unlock --token={holder.token}. {look_at(holder.lock)}"
    )
