"""What AWS refuses of a training job's request, or of a tuning job's definition, beyond its shape. Pure."""

from __future__ import annotations

from typing import Any

from kennel.local.sagemaker import checkpoints
from kennel.local.sagemaker.job_log import compiled
from kennel.local.sagemaker.spot import limits
from kennel.local.sagemaker.storage import split_uri
from kennel.local.wire import ServiceError

_MOST_HOSTS = 32
"""Hosts of one job, at most: each is a process or a container on this machine. AWS has a quota, too."""


def check(request: dict[str, Any]) -> None:
    """Raises ServiceError in AWS's words."""
    algorithm = request.get("AlgorithmSpecification", {})
    if "TrainingImage" not in algorithm:
        raise ServiceError("ValidationException", "AlgorithmSpecification needs a TrainingImage here")
    for metric in algorithm.get("MetricDefinitions", []):
        compiled(metric["Regex"], metric["Name"])
    resources = request.get("ResourceConfig", {})
    if not {"InstanceType", "InstanceCount"} <= resources.keys():
        raise ServiceError("ValidationException", "ResourceConfig needs InstanceType and InstanceCount here")
    count = resources["InstanceCount"]
    if count < 1:
        raise ServiceError(
            "ValidationException",
            f"1 validation error detected: Value '{count}' at 'resourceConfig.instanceCount' failed to satisfy "
            "constraint: Member must have value greater than or equal to 1",
        )
    if count > _MOST_HOSTS:
        raise ServiceError(
            "ResourceLimitExceeded",
            f"The account-level service limit '{resources['InstanceType']} for training job usage' is "
            f"{_MOST_HOSTS} Instances, with a request delta of {count} Instances.",
        )
    if "StoppingCondition" not in request:
        raise ServiceError("ValidationException", "StoppingCondition is missing")
    limits(request)
    if "CheckpointConfig" in request:
        checkpoints.check(request["CheckpointConfig"])
    split_uri(request["OutputDataConfig"]["S3OutputPath"])
    names = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
    if twice := {name for name in names if names.count(name) > 1 or name in (".", "..")}:
        raise ServiceError("ValidationException", f"Channel names must be unique names: {', '.join(sorted(twice))}")
    for channel in request.get("InputDataConfig", []):
        s3_source(channel)


def s3_source(channel: dict[str, Any]) -> dict[str, Any]:
    """Where a channel's data is. Raises ServiceError for what is no prefix in S3."""
    source: dict[str, Any] | None = channel["DataSource"].get("S3DataSource")
    if source is None or source["S3DataType"] != "S3Prefix":
        raise ServiceError(
            "ValidationException",
            f"channel {channel['ChannelName']}: the local AWS reads S3DataSource of type S3Prefix",
        )
    return source
