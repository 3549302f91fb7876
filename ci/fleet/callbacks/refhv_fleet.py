# SPDX-License-Identifier: MIT
"""Ansible's events as JSON, one a line, for `refhv fleet`: {"host", "task", "state", "says"}.

state: ok, failed, unreachable, again (a poll whose answer is not the last).
"""

import json

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: refhv_fleet
type: stdout
short_description: events as JSON, one a line
description: What `refhv fleet` reads.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "refhv_fleet"

    def _event(self, result, state: str) -> None:
        # _host, _task and _result: no release of Ansible has public names for all three.
        told = result._result
        says = told.get("msg") or told.get("stderr") or told.get("stdout") or ""
        if state in ("ok", "again"):
            says = told.get("stdout") or ""
        line = {"host": result._host.get_name(), "task": result._task.get_name().rpartition(" : ")[2], "state": state,
                "says": str(says).strip()[:100_000]}
        self._display.display(json.dumps(line), screen_only=True)

    def v2_runner_on_ok(self, result) -> None:
        self._event(result, "ok")

    def v2_runner_on_failed(self, result, ignore_errors: bool = False) -> None:
        self._event(result, "failed")

    def v2_runner_on_unreachable(self, result) -> None:
        self._event(result, "unreachable")

    def v2_runner_retry(self, result) -> None:
        self._event(result, "again")
