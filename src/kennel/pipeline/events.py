"""What happens during an execution, as values: the watcher makes them, the display and the tests read them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class StateEntered:
    """A state began."""

    name: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class StateEnded:
    """A state ended: `succeeded`, `caught` (it failed and the machine goes on elsewhere), or `failed`."""

    name: str
    status: str
    at: datetime
    seconds: float
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class JobStarted:
    """A training job runs; `tuned` is empty for the final training."""

    name: str
    tuned: Mapping[str, str]
    hosts: int


@dataclass(frozen=True, kw_only=True)
class JobEnded:
    """A training job ended; `objective` is None if it left none, `reason` says why it failed."""

    name: str
    status: str
    objective: float | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """A training job reported: an epoch's values, or, without epoch, the final ones."""

    job: str
    epoch: int | None
    values: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training job is, 0 to 1."""

    job: str
    fraction: float


@dataclass(frozen=True, kw_only=True)
class ExecutionEnded:
    """The execution is over: SUCCEEDED, FAILED, TIMED_OUT or ABORTED."""

    status: str


JobEvent = JobStarted | JobEnded | Metrics | Progress
Event = StateEntered | StateEnded | JobEvent | ExecutionEnded
