"""distlock-etcd: a real etcd on this machine, to try distlock out. Not for production."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, Callable, NoReturn

from distlock_core.embedded.binary import BinaryNotFound, etcd_version, find_etcd
from distlock_core.embedded.cluster import Cluster
from distlock_core.embedded.member import NotReady, NotStarted
from distlock_core.embedded.ports import free_ports, is_free

DEFAULT_PORT = 2379  # distlock's default, too
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

EXAMPLES = """\
examples:
  distlock-etcd
      one member, at distlock's default endpoint if that is free; then, in
      another terminal:
      distlock --lock-name=try -- sleep 5
  distlock-etcd --members 3 --data-dir ./etcd-data
      a cluster of three, whose data is there again the next time
  distlock-etcd --port 23790 > etcd.env &
      . ./etcd.env

It prints the line that sets DISTLOCK_ENDPOINTS on stdout, when etcd is ready,
and runs until Ctrl-C or SIGTERM. Without --data-dir everything that it made is
then removed.
"""


class _Stop(BaseException):
    """One of _SIGNALS has arrived."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(1, f"distlock-etcd: {message}. See: distlock-etcd --help\n")


class _Once(argparse.Action):
    """Stores a value, and refuses a second one."""

    def __call__(self, parser: argparse.ArgumentParser, space: argparse.Namespace, *given: Any) -> None:
        told = space.__dict__.setdefault("told", set())
        if self.dest in told:
            parser.error(f"option {self.option_strings[0]} is given twice: use it once")
        told.add(self.dest)
        setattr(space, self.dest, given[0])


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal. Return 0 after a signal, 1 after a failure, which is reported in one line on stderr."""
    args = parser().parse_args(argv)
    for number in _SIGNALS:
        signal.signal(number, _stop)
    try:
        return _run(args)
    except (BinaryNotFound, NotStarted, NotReady) as e:
        return _fail(str(e).splitlines()[0])  # the rest is etcd's log
    except OSError as e:
        return _fail(f"{e.filename}: {e.strerror}" if e.filename else str(e))
    except _Stop:
        return 0


def _run(args: argparse.Namespace) -> int:
    etcd = args.binary or find_etcd(args.etcd_version)
    version = etcd_version(etcd)
    cluster = _start(args, etcd)
    try:
        what = "1 member" if args.members == 1 else f"{args.members} members"
        _say(f"etcd {version} with {what}, for trial and tests, not for production. Ctrl-C ends it.")
        if f":{DEFAULT_PORT}" not in cluster.endpoints[0]:
            _say(f"it is not at distlock's default endpoint (port {DEFAULT_PORT}): use the line on stdout")
        print(f"export DISTLOCK_ENDPOINTS={','.join(cluster.endpoints)}", flush=True)
        while True:
            time.sleep(0.5)
            for member in cluster.members:
                if member.pid is None:
                    return _fail(f"{member.name} ({member.client_url}) has ended by itself; ending the others")
    finally:
        # The shutdown has begun and is bounded in time: a second Ctrl-C must not interrupt it.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        cluster.stop()


def _start(args: argparse.Namespace, etcd: str) -> Cluster:
    def start(port: int | None) -> Cluster:
        return Cluster.start(
            args.members, etcd=etcd, data_dir=args.data_dir, port=port, fsync=args.data_dir is not None
        )

    port = _choose_port(args.port, args.data_dir)
    try:
        return start(port)
    except NotStarted as e:
        if args.port is not None or port is None or "address already in use" not in str(e):
            raise
        return start(free_ports(1)[0])  # another process took the default port meanwhile


def _choose_port(wanted: int | None, data_dir: str | None) -> int | None:
    """The first member's client port. None: the cluster uses the previous port of `data_dir`, or a random one."""
    if wanted is not None:
        if not is_free(wanted):
            raise OSError(f"port {wanted} on 127.0.0.1 is in use, or not allowed; leave --port out for a free one")
        return wanted
    if data_dir is not None and Cluster.has_ports(data_dir):
        return None
    return DEFAULT_PORT if is_free(DEFAULT_PORT) else None


def parser() -> argparse.ArgumentParser:
    """The parser of its command line."""
    made = _Parser(
        prog="distlock-etcd",
        description="Start a real etcd on this machine to try distlock out. Not for production.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "--members",
        action=_Once,
        type=_between(1, 9),
        default=1,
        metavar="N",
        help="number of members, 1 to 9 (default: 1)",
    )
    made.add_argument(
        "--data-dir", action=_Once, type=_folder, metavar="DIR", help="keep the data here (default: temporary)"
    )
    made.add_argument(
        "--port",
        action=_Once,
        type=_between(1, 65535),
        metavar="N",
        help=f"the first member's client port (default: the one that DIR had, {DEFAULT_PORT} if free, or a random one)",
    )
    which = made.add_mutually_exclusive_group()
    which.add_argument(
        "--etcd-version", action=_Once, metavar="X.Y", help="which etcd, if several are installed, such as 3.4"
    )
    which.add_argument("--binary", action=_Once, type=_file, metavar="FILE", help="the etcd to run")
    return made


def _between(lowest: int, highest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        # Long digit strings are refused before int(), whose error for more than 4300 digits is unclear.
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {lowest} to {highest}")
        return int(text)

    return number


def _folder(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("it is empty")
    return os.path.abspath(text)


def _file(text: str) -> str:
    path = _folder(text)
    if not os.path.isfile(path):
        raise argparse.ArgumentTypeError(f"there is no file {path}")
    return path


def _stop(_number: int, _frame: object) -> NoReturn:
    raise _Stop


def _fail(message: str) -> int:
    _say(message)
    return 1


def _say(message: str) -> None:
    print(f"distlock-etcd: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
