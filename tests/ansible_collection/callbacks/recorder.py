"""Tells a test what each task has returned: one JSON object a line, in the file that RECORDER_FILE names."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible ships no types
    CALLBACK_VERSION = 2.0
    CALLBACK_NAME = "recorder"

    def _write(self, outcome: str, result: Any) -> None:
        if "RECORDER_FILE" not in os.environ:
            return
        line = {"task": result._task.get_name(), "host": result._host.get_name(), "outcome": outcome}
        with open(os.environ["RECORDER_FILE"], "a", encoding="utf-8") as file:
            file.write(json.dumps({**line, "result": json.loads(json.dumps(result._result, default=str))}) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write("failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._write("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._write("unreachable", result)

    def v2_runner_retry(self, result: Any) -> None:
        self._write("retry", result)
