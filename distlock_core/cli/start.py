"""The console scripts.

Nothing but what ends them by Ctrl-C is imported at the top: before it, Ctrl-C is an exception of Python's, with a
traceback, anywhere among the modules that are being loaded.
"""

from __future__ import annotations

import sys

from distlock_core.cli.program import let_ctrl_c_end_it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def distlock() -> NoReturn:
    """The console script `distlock`."""
    let_ctrl_c_end_it()
    from distlock_core.cli.distlock import main

    main()


def distlock_etcd() -> NoReturn:
    """The console script `distlock-etcd`."""
    let_ctrl_c_end_it()
    from distlock_core.cli.distlock_etcd import main

    sys.exit(main())


def distlock_puppet() -> NoReturn:
    """The console script `distlock-puppet`."""
    let_ctrl_c_end_it()
    from distlock_core.cli.puppet.main import main

    main()


def etcdlocker() -> NoReturn:
    """The console script `etcdlocker`."""
    let_ctrl_c_end_it()
    from distlock_core.cli.etcdlocker import main

    main()
