"""A program that prints what it was started with, and exits with its last argument: for the test of the servers."""

from __future__ import annotations

import json
import os
import sys

from tests.support.preloaded.server import become_requested


def main() -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in lines)
    seen = {
        "name": status["Name"],
        "arguments": sys.argv,
        "search": sys.path[0],
        "environment": {word: value for word, value in os.environ.items() if word != "LC_CTYPE"},
        "folder": os.getcwd(),
        "parent": os.getppid(),
        "leads": [os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid()],
        "signals": [status[word] for word in ("SigBlk", "SigIgn", "SigCgt")],
        "descriptors": sorted(os.listdir("/proc/self/fd"), key=int)[:-1],  # the last one is that of the listing
        "input": sys.stdin.read(),
    }
    print(json.dumps(seen))
    print("an error", file=sys.stderr)
    return int(sys.argv[-1])


if __name__ == "__main__":
    become_requested()
    sys.exit(main())
