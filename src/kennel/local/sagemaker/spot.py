"""Managed spot training: how long a training job may take, and what its request must say of that. Pure.

Source: StoppingCondition in the API reference, and "Managed Spot Training Lifecycle" in the developer guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kennel.local.wire import ServiceError

_DEFAULT_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds that a job may train, all attempts together, and seconds from its creation; None: as long as it takes."""

    run: float
    wait: float | None = None

    def exceeded(self, *, trained: float, waited: float) -> Literal["MaxRuntimeExceeded", "MaxWaitTimeExceeded"] | None:
        """The secondary status of a job that has taken too long."""
        if self.wait is not None and waited > self.wait:
            return "MaxWaitTimeExceeded"
        return "MaxRuntimeExceeded" if trained > self.run else None


def limits(request: Mapping[str, Any]) -> Limits:
    """The limits of a training job, or of a tuning job's definition. Raises ServiceError for those that AWS refuses."""
    condition = request["StoppingCondition"]
    run = condition.get("MaxRuntimeInSeconds", _DEFAULT_SECONDS)
    wait = condition.get("MaxWaitTimeInSeconds")
    if not request.get("EnableManagedSpotTraining", False):
        if wait is not None:
            raise ServiceError(
                "ValidationException",
                "Invalid MaxWaitTimeInSeconds. It is only supported when EnableManagedSpotTraining is set to true",
            )
    elif wait is None or wait < run:
        raise ServiceError(
            "ValidationException",
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to MaxRuntimeInSeconds",
        )
    return Limits(run=run, wait=wait)
