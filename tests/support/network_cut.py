"""Commands under leases, cut off from etcd by dropped packets. test_cuts.py runs it in a network namespace.

    unshare --map-root-user --net PYTHON network_cut.py DISTLOCK TTL FRACTION TRANSPORT...

etcd is on one side of a pair of interfaces, the commands are on the other. Prints as JSON what each has come to, one
element for each transport given.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

from distlock_core.testing import Cluster

HERE, THERE = "10.73.0.1", "10.73.0.2"


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def cut(chain: str) -> None:
    for which in (("INPUT", "-i"), ("OUTPUT", "-o")):
        run("iptables", chain, *which, "here", "-j", "DROP")


def main() -> None:
    distlock, ttl, fraction, transports = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
    run("ip", "link", "set", "lo", "up")
    other = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec sleep 600"], stdout=subprocess.PIPE)
    commands: list[subprocess.Popen[bytes]] = []
    try:
        assert other.stdout is not None
        other.stdout.readline()
        run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(other.pid))
        inside = ["nsenter", f"--net=/proc/{other.pid}/ns/net"]
        run("ip", "addr", "add", f"{HERE}/24", "dev", "here")
        run("ip", "link", "set", "here", "up")
        run(*inside, "ip", "addr", "add", f"{THERE}/24", "dev", "there")
        run(*inside, "ip", "link", "set", "there", "up")
        run(*inside, "ip", "link", "set", "lo", "up")
        listen = f"--listen-client-urls=http://127.0.0.1:2379,http://{HERE}:2379"
        with Cluster.start(1, port=2379, fsync=False, heartbeat_ms=100, election_ms=600, extra_args=[listen]):
            started: list[float] = []
            for number, transport in enumerate(transports):
                options = (f"--lock-name=n{number}", f"--ttl={ttl}", f"--transport={transport}", "--quiet")
                endpoint = f"--endpoints=http://{HERE}:2379"
                command = [*inside, distlock, endpoint, *options, "--", "sh", "-c", "echo started; exec sleep 600"]
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                commands.append(process)
                assert process.stdout is not None
                assert process.stdout.readline() == b"started\n"
                started.append(time.monotonic())
            # Just before most of them renew their leases: those have the least time left.
            every = ttl / 3
            moment = started[0] - 0.1
            while moment < started[-1] + 0.1:
                moment += every
            time.sleep(max(0.0, moment - time.monotonic()))
            room = ttl - ttl / 3 - ttl / 6
            cut("-I")
            time.sleep(room * fraction)
            cut("-D")
            time.sleep(ttl / 3)  # past the deadline of each, had it not been renewed
            results = []
            for number, one in enumerate(commands):
                alive = one.poll() is None
                if alive:
                    one.send_signal(signal.SIGTERM)
                said = one.communicate(timeout=60)[1].decode(errors="replace")
                results.append({"transport": transports[number], "alive": alive, "said": said})
            print(json.dumps(results))
    finally:
        for process in (*commands, other):
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()


if __name__ == "__main__":
    main()
