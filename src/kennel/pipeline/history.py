"""Reads the history of an execution, as Step Functions returns it, into a table of states. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_FAULTS = ("TaskFailed", "TaskTimedOut", "TaskSubmitFailed", "TaskStartFailed")


@dataclass(kw_only=True)
class StateRun:
    """One visit of one state. `ended` is None while it runs; `error` is the last fault, if no retry mended it."""

    name: str
    kind: str
    started: datetime
    ended: datetime | None = None
    faulted: bool = False
    broken_off: bool = False  # the execution ended in it
    error: str = ""
    cause: str = ""

    @property
    def status(self) -> str:
        """`running`, `succeeded`, `caught` or `failed`."""
        if self.ended is None:
            return "running"
        if self.kind == "Fail" or self.broken_off:
            return "failed"
        return "caught" if self.faulted else "succeeded"

    @property
    def seconds(self) -> float:
        """How long it took, or 0 while it runs."""
        return (self.ended - self.started).total_seconds() if self.ended else 0.0


def read(events: Iterable[dict[str, Any]]) -> list[StateRun]:
    """The states in the order in which they were entered. Choice, Pass and Wait states are among them."""
    runs: list[StateRun] = []
    for event in events:
        kind, at = event["type"], event["timestamp"]
        if kind.endswith("StateEntered"):
            name = event["stateEnteredEventDetails"]["name"]
            runs.append(StateRun(name=name, kind=kind.removesuffix("StateEntered"), started=at))
        elif not runs:
            continue
        elif kind in _FAULTS:
            details: dict[str, Any] = next((value for key, value in event.items() if key.endswith("EventDetails")), {})
            runs[-1].faulted = True
            runs[-1].error, runs[-1].cause = details.get("error", kind), details.get("cause", "")
        elif kind == "TaskSucceeded":
            runs[-1].faulted, runs[-1].error, runs[-1].cause = False, "", ""  # a retry went through
        elif kind.endswith("StateExited"):
            runs[-1].ended = at
        elif kind in ("ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut") and runs[-1].ended is None:
            runs[-1].ended = at
            runs[-1].broken_off = True
    return runs


_AFTERMATH = ("RestorePreviousEndpoint", "DeleteEndpoint", "Notify", "Failed")
"""States that clean up after a failure; the one to name came before them."""


def failing_state(runs: list[StateRun]) -> StateRun | None:
    """The state that made the execution fail: the last one before the clean-up that did more than decide."""
    for run in reversed(runs):
        if run.name not in _AFTERMATH and (run.kind != "Choice" or run.broken_off):
            return run
    return runs[-1] if runs else None
