"""Looks up a name, or follows all names: the client for the services in service.py.

python examples/name_server/names.py db    # its address now
python examples/name_server/names.py       # every name, and every change of it, until Ctrl-C
"""

from __future__ import annotations

import argparse
import sys

from distlock_core import LockNotFound, Realm, connect


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="?")
    parser.add_argument("--endpoints", default="http://127.0.0.1:2379")
    parser.add_argument("--prefix", default="/names/")
    args = parser.parse_args()
    realm = connect(args.endpoints, args.prefix)
    return follow(realm) if args.name is None else look_up(realm, args.name)


def look_up(realm: Realm, name: str) -> int:
    try:
        print(realm.get(name))
    except LockNotFound:
        print(f"no service has the name {name}", file=sys.stderr)
        return 1
    return 0


def follow(realm: Realm) -> int:
    directory: dict[str, str | None] = {}
    with realm.watch() as changes:
        for change in changes:
            if change.kind == "released":
                directory.pop(change.lock)
            else:
                directory[change.lock] = change.value
            print(" ".join(f"{name}={address}" for name, address in sorted(directory.items())) or "-", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
