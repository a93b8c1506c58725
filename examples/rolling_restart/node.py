"""The command under the lock on one node: stop its etcd member, "install" the new version, start it, wait for health.

usage: node.py restart NAME SERVICES_ADDRESS ENDPOINT,ENDPOINT,...
Prints the Unix times at which it began and ended, for the demo's timeline.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
import urllib.parse

INSTALL_SECONDS = 4.0  # longer than the clients wait, so that reads fail if all three are down
HEALTHY_TIMEOUT = 20.0


def main() -> int:
    if len(sys.argv) != 5 or sys.argv[1] != "restart":
        print(__doc__, file=sys.stderr)
        return 1
    _, _, name, services, endpoints = sys.argv
    began = time.time()
    service(services, "stop", name)
    time.sleep(INSTALL_SECONDS)  # the new packages
    service(services, "start", name)
    # Keep the lock until this member is healthy again, so that the next node does not begin before.
    if not all_healthy(endpoints.split(","), HEALTHY_TIMEOUT):
        print(f"{name}: the cluster is not healthy after {HEALTHY_TIMEOUT:g} s", file=sys.stderr)
        return 1
    print(json.dumps({"began": began, "ended": time.time()}), flush=True)
    return 0


def service(address: str, verb: str, name: str) -> None:
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=20) as s:
        s.sendall(f"{verb} {name}\n".encode())
        if s.recv(16) != b"ok\n":
            raise SystemExit(f"{name}: could not {verb}")


def all_healthy(endpoints: list[str], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not all(healthy(endpoint) for endpoint in endpoints):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def healthy(endpoint: str) -> bool:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(endpoint).netloc, timeout=2)
    try:
        connection.request("GET", "/health")
        return json.loads(connection.getresponse().read()).get("health") in ("true", True)
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
