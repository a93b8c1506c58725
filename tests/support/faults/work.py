"""The command under the lock: itself and a child of it write signs of life, for some seconds.

Usage: python -I -S work.py FILE WHO ATTEMPT SECONDS LOCK...

It imports nothing of the project, as it is started a thousand times.
"""

import json
import os
import sys
import time

PAUSE = 0.02  # seconds between two signs of life


def main() -> None:
    file, who, attempt, seconds, *locks = sys.argv[1:]
    history = os.open(file, os.O_WRONLY | os.O_APPEND)
    tokens = {locks[0]: int(os.environ["DISTLOCK_TOKEN"])}
    first, *others = os.environ["DISTLOCK_HELD"].splitlines()
    held = {locks[0]: first}
    for line in others:
        token, _, key = line.partition(" ")
        for lock in locks[1:]:
            if f"/{lock}" in key:
                tokens[lock], held[lock] = int(token), key
    child = os.fork()
    role = "command" if child else "child"
    end = time.clock_gettime(time.CLOCK_MONOTONIC) + float(seconds)
    while True:
        at = time.clock_gettime(time.CLOCK_MONOTONIC)
        for lock in locks:
            facts = {"lock": lock, "token": tokens[lock], "key": held[lock], "attempt": int(attempt), "role": role}
            os.write(history, (json.dumps({"at": at, "who": who, "what": "alive", **facts}) + "\n").encode())
        if at >= end:
            break
        time.sleep(PAUSE)
    if child:
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
