"""A counter in etcd that is incremented under a lock: why a resource should compare the fencing token.

    distlock --lock-name=visits --ttl=10 -- python examples/counter.py /counters/visits [--unfenced]

It reads the counter, works for a while, and writes the next number. If its distlock was stopped in the meantime for
longer than the ttl, another holder has counted too, and this number is out of date. With the token, the transaction
that writes it also compares whether this holder still has the lock, and nothing is written; without, a count is lost.

The lock has to be held in the same etcd. A resource elsewhere can remember the greatest token that it has seen, and
refuse a smaller one.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import time
import urllib.request
from typing import Any

ENDPOINT = os.environ.get("DISTLOCK_ENDPOINTS", "http://127.0.0.1:2379").partition(",")[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("counter", help="the key of the counter")
    parser.add_argument("--endpoint", default=ENDPOINT)
    parser.add_argument("--work", type=float, default=0.0, help="seconds between reading and writing")
    parser.add_argument("--unfenced", action="store_true", help="do not compare the token")
    args = parser.parse_args()

    found = call(args.endpoint, "/v3/kv/range", {"key": coded(args.counter)}).get("kvs")
    count = int(base64.b64decode(found[0]["value"])) if found else 0
    print(f"read {count}", flush=True)
    time.sleep(args.work)
    lock, token = os.environ["DISTLOCK_HELD"].splitlines()[0], os.environ["DISTLOCK_TOKEN"]
    # A lock's token is the create_revision of its key, unless the hold of a dead run was entered again (--id).
    still_held = {"key": coded(lock), "target": "CREATE", "result": "EQUAL", "create_revision": token}
    write = {"requestPut": {"key": coded(args.counter), "value": coded(str(count + 1))}}
    transaction = {"compare": [] if args.unfenced else [still_held], "success": [write]}
    if not call(args.endpoint, "/v3/kv/txn", transaction).get("succeeded"):
        print(f"token {token} does not hold the lock any more: nothing was written", file=sys.stderr)
        return 1
    print(f"wrote {count + 1}", flush=True)
    return 0


def call(endpoint: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(endpoint + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=10) as reply:
        answer: dict[str, Any] = json.load(reply)
        return answer


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


if __name__ == "__main__":
    sys.exit(main())
