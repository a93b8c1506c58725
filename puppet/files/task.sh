#!/bin/sh
# For the tasks of this module: hands the parameters, which are JSON on stdin, to the installed distlock.
# The shell of a task runner may have a short PATH.
PATH="${PATH:-/usr/bin:/bin}:/usr/local/bin:/opt/distlock/bin"
export PATH
if ! command -v distlock-puppet > /dev/null 2>&1; then
    echo '{"_error": {"kind": "distlock/missing", "msg": "distlock-puppet is not installed on this target: the class distlock installs it", "details": {}}}'
    exit 1
fi
exec distlock-puppet task "$1"
