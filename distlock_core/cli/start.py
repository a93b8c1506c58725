"""The entry points of the console scripts.

Only the handling of Ctrl-C is imported at the top: until it is set up, Ctrl-C raises an exception, with a traceback,
anywhere in the modules that are being loaded. And the garbage collector, which would search these modules a dozen
times while they are loaded, and find nothing.
"""

from __future__ import annotations

import gc
import sys

from distlock_core.cli.program import let_ctrl_c_end_it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

GARBAGE_THRESHOLD = 10_000  # allocated objects before the garbage collector runs; a plain call allocates fewer


def distlock() -> NoReturn:
    """The console script `distlock`."""
    _prepare()
    from distlock_core.cli.distlock import main

    main()


def distlock_etcd() -> NoReturn:
    """The console script `distlock-etcd`."""
    _prepare()
    from distlock_core.cli.distlock_etcd import main

    sys.exit(main())


def distlock_puppet() -> NoReturn:
    """The console script `distlock-puppet`."""
    _prepare()
    from distlock_core.cli.puppet.main import main

    main()


def etcdlocker() -> NoReturn:
    """The console script `etcdlocker`."""
    _prepare()
    from distlock_core.cli.etcdlocker import main

    main()


def _prepare() -> None:
    let_ctrl_c_end_it()
    gc.set_threshold(GARBAGE_THRESHOLD)
