"""A process that has imported a program, and becomes it anew in a child for each request.

A child has arguments, environment, folder, session and standard streams as if it had been started on its own, and
the client of this server as its parent.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import socket
import sys
from typing import Any

PR_SET_NAME = 15
REQUEST = 1 << 20  # bytes; more than a kernel lets a program have as arguments and environment


def become_requested() -> None:
    """Serve the socket whose descriptor is the first argument. Returns in each child, and in no other process."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    gc.collect()
    gc.freeze()  # a collection in a child would copy every page
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, REQUEST, 3)
        if not data:
            os._exit(0)
        may_run, go = os.pipe()
        told, tell = os.pipe()
        # The parent of an orphan is the next subreaper above it, which the client is until it has the answer.
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child:
                os.write(tell, str(child).encode())
                os._exit(0)
            os.close(go)
            os.read(may_run, 1)  # until it has its new parent
            for descriptor in (may_run, told, tell, requests.detach()):
                os.close(descriptor)
            _become(json.loads(data), descriptors)
            return
        os.waitpid(between, 0)
        requests.send(os.read(told, 64))
        for descriptor in (may_run, go, told, tell, *descriptors):
            os.close(descriptor)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    if request["session"]:
        os.setsid()
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    for descriptor in streams:
        os.close(descriptor)
    # Its name in process lists, as that of a script that is executed.
    ctypes.CDLL(None).prctl(PR_SET_NAME, os.path.basename(request["args"][0]).encode())
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv[:] = request["args"]
    sys.path[0] = os.path.dirname(sys.argv[0])
