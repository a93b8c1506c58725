"""`signal`: the module of that name without its enumerations, which take as long as half of bare Python's start.

Handlers and signals are plain integers here, as they are for the kernel. `signal.Signals` is not there: see `name_of()`
in `command/signal_mask.py`.
"""

from __future__ import annotations

__all__ = ["signal"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    try:
        import _signal as signal
    except ImportError:  # a Python that builds its module `signal` in another way
        import signal
