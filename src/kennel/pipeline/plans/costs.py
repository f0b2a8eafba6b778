"""What requests may cost at most, and what stays costs by the month. Pure. All in USD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kennel.config import Config
from kennel.pipeline.instance_types import has_local_storage
from kennel.pipeline.plans.prices import HOURS_PER_MONTH, Prices
from kennel.pipeline.plans.requests import Request

_HOUR = 3600
_DEFAULT_SECONDS = 24 * _HOUR
"""MaxRuntimeInSeconds where none is given (StoppingCondition in SageMaker's reference)."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What stays besides endpoint and function, and is paid for: how many of each."""

    interface_endpoints: int = 0
    """Counted in each of their zones: one in two zones is two."""

    kms_keys: int = 0
    alarms: int = 0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One state whose jobs are paid for."""

    state: str
    instance_type: str
    jobs: int
    instances: int
    """Of each job."""

    max_seconds: int
    """Of each job."""

    spot: bool
    """Spare capacity costs less, by how much is not known before: the maximum is that of on-demand use."""

    cost: float | None
    """At most; None if the type has no price."""


@dataclass(frozen=True, kw_only=True)
class Monthly:
    """One thing that costs as long as it stays."""

    name: str
    details: str
    at_minimum: float | None
    """A month at the endpoint's minimum capacity; None if there is no price."""

    at_maximum: float | None


def steps(requests: tuple[Request, ...], prices: Prices) -> tuple[Step, ...]:
    """A step for each state that starts jobs, in the order of the requests."""
    return tuple(
        _step(request.state, definition, jobs, prices) for request in requests for definition, jobs in _jobs(request)
    )


def monthly(config: Config, standing: Standing, prices: Prices) -> tuple[Monthly, ...]:
    """What stays after a run. Requests, traffic and what is stored come on top."""
    return (
        _endpoint(config, prices),
        *_provisioned(config, prices),
        *_per_piece(standing, prices),
    )


def _jobs(request: Request) -> Iterator[tuple[Mapping[str, Any], int]]:
    """The definitions of the training jobs that the request leads to, and how many jobs each may have."""
    asked = request.parameters
    match request.operation:
        case "CreateTrainingJob":
            yield asked, 1
        case "CreateHyperParameterTuningJob":
            limit = asked["HyperParameterTuningJobConfig"]["ResourceLimits"]["MaxNumberOfTrainingJobs"]
            single = asked.get("TrainingJobDefinition")
            for definition in (*([single] if single else []), *asked.get("TrainingJobDefinitions", ())):
                yield definition, limit


def _step(state: str, definition: Mapping[str, Any], jobs: int, prices: Prices) -> Step:
    hosts = definition["ResourceConfig"]
    kind, count = hosts["InstanceType"], hosts["InstanceCount"]
    seconds = definition.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _DEFAULT_SECONDS)
    price = prices.sagemaker.get(kind)
    volume_gb = 0 if has_local_storage(kind) else hosts.get("VolumeSizeInGB", 0)
    volume = volume_gb * prices.month.sagemaker_volume_gb / HOURS_PER_MONTH
    return Step(
        state=state,
        instance_type=kind,
        jobs=jobs,
        instances=count,
        max_seconds=seconds,
        spot=bool(definition.get("EnableManagedSpotTraining", False)),
        cost=None if price is None else jobs * count * (seconds / _HOUR) * (price + volume),
    )


def _endpoint(config: Config, prices: Prices) -> Monthly:
    kind, low, high = config.endpoint.instance_type, config.scaling.min_capacity, config.scaling.max_capacity
    price = prices.sagemaker.get(kind)
    span = f"{low}" if low == high else f"{low} to {high}"
    return Monthly(
        name="endpoint",
        details=f"{span} × {kind}",  # noqa: RUF001  (times)
        at_minimum=None if price is None else low * price * HOURS_PER_MONTH,
        at_maximum=None if price is None else high * price * HOURS_PER_MONTH,
    )


def _provisioned(config: Config, prices: Prices) -> Iterator[Monthly]:
    count, memory = config.function.provisioned_concurrency, config.function.memory_mb
    if count:
        cost = count * memory / 1024 * prices.function.provisioned_idle_gb_second * _HOUR * HOURS_PER_MONTH
        details = f"{count} × {memory} MB"  # noqa: RUF001  (times)
        yield Monthly(name="provisioned concurrency", details=details, at_minimum=cost, at_maximum=cost)


def _per_piece(standing: Standing, prices: Prices) -> Iterator[Monthly]:
    pieces = (
        ("interface endpoints", standing.interface_endpoints, prices.hour.interface_endpoint * HOURS_PER_MONTH),
        ("KMS keys", standing.kms_keys, prices.month.kms_key),
        ("alarms", standing.alarms, prices.month.cloudwatch_alarm),
    )
    for name, count, price in pieces:
        if count:
            yield Monthly(name=name, details=f"{count}", at_minimum=count * price, at_maximum=count * price)
