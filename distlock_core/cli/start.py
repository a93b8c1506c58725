"""The entry points of the console scripts.

Only the handling of Ctrl-C is imported at the top: until it is set up, Ctrl-C raises an exception, with a traceback,
anywhere in the modules that are being loaded.
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
