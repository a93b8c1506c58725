"""Tree: what is done to a command's processes, and to no others."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.processes import BOUND

# A process with a second thread, an earlier child, and a command that has a second thread and a child in a session of
# its own. It lets the command make way, and prints all their nice values.
MAKES_WAY = """
import json, os, subprocess, sys, threading
from distlock_core.base.deadline import now
from distlock_core.process.identity import stat_of
from distlock_core.process.tree import Tree
LINE = "import os, subprocess, sys, threading\\n"
LINE += "threading.Thread(target=sys.stdin.read, daemon=True).start()\\n"
LINE += "child = subprocess.Popen(['sleep', '300'], start_new_session=True)\\n"
LINE += "print(child.pid, flush=True)\\nsys.stdin.read()\\nchild.kill()\\nchild.wait()"
ended = threading.Event()
threading.Thread(target=ended.wait).start()
stranger = subprocess.Popen(["sleep", "300"])
command = subprocess.Popen([sys.executable, "-c", LINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
grandchild = int(command.stdout.readline())
def nice(pid):
    return sorted(os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir(f"/proc/{pid}/task"))
strangers = frozenset({(stranger.pid, stat_of(stranger.pid).started)})
Tree(command.pid, subreaper=True, strangers=strangers).make_way(now() + 10)
print(json.dumps([nice(os.getpid()), nice(stranger.pid), nice(command.pid), nice(grandchild)]))
ended.set()
stranger.kill()
stranger.wait()
command.stdin.close()
command.wait()
"""


def test_a_tree_makes_way_and_nobody_else_does() -> None:
    done = subprocess.run([sys.executable, "-c", MAKES_WAY], capture_output=True, text=True, timeout=BOUND, check=False)
    assert done.stderr == ""
    assert json.loads(done.stdout) == [[0, 0], [0], [19, 19], [19]]
