"""A training on one EC2 instance as the RunInstances request that starts it. Pure.

What is always the same is in the launch template of `infrastructure.yaml`; what the instance then does is
`containers/training/ec2-user-data.sh`.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kennel import contract
from kennel.config import Config
from kennel.errors import InvalidArguments
from kennel.pipeline.resources import Resources

SCRIPT = "containers/training/ec2-user-data.sh"
"""Below the project."""

JOB_TAG = "kennel:job"
MAX_USER_DATA_BYTES: Final = 16_384
"""EC2's limit on user data, before base64."""

SYNC_SECONDS = 30
_ROOT_DEVICE = "/dev/xvda"
MINUTES_AROUND: Final = 32
"""What an instance has beyond the training's time: to boot, to pull, to download, to end, and to upload."""

_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
"""As SageMaker's names of training jobs; such a name is a ClientToken, too."""

_HOST = "127.0.0.1"
"""The only host's name: a container without a network has no other that resolves."""


@dataclass(frozen=True, kw_only=True)
class Ec2Job:
    """One training on one instance."""

    name: str
    """Of its own: a second instance is never started for the same name."""

    image: str
    region: str
    bucket: str
    hyperparameters: Mapping[str, str]
    channels: Mapping[str, str]
    """Channel name → `s3://` prefix, or key of one object."""

    launch_template: str
    """Its id."""

    kms_key_arn: str
    """Of the disk."""

    instance_type: str
    volume_gb: int
    max_runtime_seconds: int
    """A training that runs longer is stopped."""

    spot: bool

    @property
    def output_uri(self) -> str:
        """Where model.tar.gz, train.log and status.json will lie; as for SageMaker's jobs."""
        return f"s3://{self.bucket}/models/{self.name}/output"

    @property
    def checkpoint_uri(self) -> str:
        """Where its checkpoints lie."""
        return f"s3://{self.bucket}/checkpoints/{self.name}"


def job_of(config: Config, resources: Resources, *, name: str, data_uri: str, pretrained_uri: str) -> Ec2Job:
    """The job of a configuration: the final training, on the instance of its `[ec2]`. `pretrained_uri` may be ""."""
    channels = {contract.TRAINING_CHANNEL: data_uri, contract.PRETRAINED_CHANNEL: pretrained_uri}
    return Ec2Job(
        name=name,
        image=config.images.training,
        region=config.region,
        bucket=resources.names.bucket,
        hyperparameters={**config.training.hyperparameters, "seed": str(config.seed)},
        channels={channel: uri for channel, uri in channels.items() if uri},
        launch_template=resources.launch_template,
        kms_key_arn=resources.kms_key_arn,
        instance_type=config.ec2.instance_type,
        volume_gb=config.ec2.volume_gb,
        max_runtime_seconds=config.ec2.max_runtime_seconds,
        spot=config.ec2.spot,
    )


def user_data(job: Ec2Job, script: str, *, sync_seconds: int = SYNC_SECONDS) -> str:
    """The script with the job's parameters before it, each quoted for a shell. Raises InvalidArguments."""
    if not _NAME.fullmatch(job.name):
        raise InvalidArguments(
            f"{job.name!r} is no name for a training job",
            where="train-on-ec2",
            hint="At most 63 letters, digits and hyphens, and neither first nor last a hyphen.",
        )
    for channel, uri in job.channels.items():
        if re.search(r"\s", channel) or "\n" in uri:
            raise InvalidArguments(
                "a channel's name has no spaces, and its URI no line breaks", where=f"channel {channel!r}: {uri!r}"
            )
    parameters = {
        "JOB": job.name,
        "IMAGE": job.image,
        "REGION": job.region,
        "CHANNELS": "\n".join(f"{channel} {uri}" for channel, uri in job.channels.items()),
        "HYPERPARAMETERS": _json(job.hyperparameters),
        "RESOURCE_CONFIG": _json(
            {
                "current_host": _HOST,
                "hosts": [_HOST],
                "network_interface_name": "lo",
                "current_instance_type": job.instance_type,
            }
        ),
        "INPUT_DATA_CONFIG": _json(
            {
                channel: {
                    "TrainingInputMode": "File",
                    "S3DistributionType": "FullyReplicated",
                    "RecordWrapperType": "None",
                }
                for channel in job.channels
            }
        ),
        "OUTPUT_URI": job.output_uri,
        "CHECKPOINT_URI": job.checkpoint_uri,
        "MAX_RUNTIME_SECONDS": str(job.max_runtime_seconds),
        "TIME_LIMIT_MINUTES": str(time_limit_minutes(job)),
        "SYNC_SECONDS": str(sync_seconds),
        "SPOT": "yes" if job.spot else "no",
    }
    # cloud-init takes for a script what begins so; the script's own first line is a comment then
    lines = ["#!/bin/bash", *(f"{name}={shlex.quote(value)}" for name, value in parameters.items()), script]
    rendered = "\n".join(lines)
    if (size := len(rendered.encode())) > MAX_USER_DATA_BYTES:
        raise InvalidArguments(
            f"the user data of the instance has {size} bytes, and EC2 takes {MAX_USER_DATA_BYTES}",
            where="training.hyperparameters, or the names of the channels",
            hint="Shorten them: all of them are in the user data.",
        )
    return rendered


def time_limit_minutes(job: Ec2Job) -> int:
    """After which the instance ends itself, whatever happens: the training's time, and what is around it."""
    return math.ceil(job.max_runtime_seconds / 60) + MINUTES_AROUND


def request(job: Ec2Job, script: str) -> dict[str, Any]:
    """RunInstances. Repeated with the same job it starts nothing: its token is the job's name. Raises InvalidArguments.

    boto3 encodes the user data.
    """
    tags = [{"Key": JOB_TAG, "Value": job.name}, {"Key": "Name", "Value": job.name}]
    asked: dict[str, Any] = {
        "MinCount": 1,
        "MaxCount": 1,
        "ClientToken": job.name,
        "LaunchTemplate": {"LaunchTemplateId": job.launch_template, "Version": "$Latest"},
        "InstanceType": job.instance_type,
        "UserData": user_data(job, script),
        # the template's mapping once more: one that is given takes its place, and without encryption it would have none
        "BlockDeviceMappings": [
            {
                "DeviceName": _ROOT_DEVICE,
                "Ebs": {
                    "VolumeSize": job.volume_gb,
                    "VolumeType": "gp3",
                    "Encrypted": True,
                    "KmsKeyId": job.kms_key_arn,
                    "DeleteOnTermination": True,
                },
            }
        ],
        "TagSpecifications": [{"ResourceType": kind, "Tags": tags} for kind in ("instance", "volume")],
    }
    if job.spot:
        asked["InstanceMarketOptions"] = {
            "MarketType": "spot",
            "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
        }
    return asked


def _json(value: Any) -> str:
    # as few bytes as may be: user data has a limit
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
