"""What runs our code or the data's: isolated, in the network, encrypted. No scanner looks here. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kennel.pipeline import asl
from kennel.pipeline.rules.fault import Fault, unless

_CREATES = ("CreateTrainingJob", "CreateHyperParameterTuningJob", "CreateModel")
_JOBS = _CREATES[:2]
_WITH_KEY = re.compile(r"States\.JsonMerge\(\$[\w.]+, \$[\w.]+\.VolumeEncryption, false\)")
"""VolumeEncryption is {"VolumeKmsKeyId": …}, or empty for instance types whose disks the hardware encrypts."""


def isolated(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """Code that was trained on photos from anywhere has nothing to call: not even AWS, whose keys it would have."""
    for name, request in _requests(definition, *_CREATES):
        yield from unless(
            request.get("EnableNetworkIsolation") is True,
            name,
            "runs with a network",
            hint="Set EnableNetworkIsolation to true, not to a path.",
        )


def in_network(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """Data and model come through the VPC, whose endpoint's policy says from where: the original's was never used."""
    for name, request in _requests(definition, *_CREATES):
        config = request.get("VpcConfig", {})
        yield from unless(
            all(asl.parameter(config, member) for member in ("Subnets", "SecurityGroupIds")),
            name,
            "runs outside the VPC",
            hint="Give its request a VpcConfig with Subnets and SecurityGroupIds.",
        )


def encrypted_between_hosts(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """Gradients tell what the photos were."""
    for name, request in _requests(definition, *_JOBS):
        yield from unless(
            request.get("EnableInterContainerTrafficEncryption") is True,
            name,
            "talks in the clear between its hosts",
            hint="Set EnableInterContainerTrafficEncryption to true, not to a path.",
        )


def encrypted_volumes(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """Training data, and the model of an endpoint, lie on a disk that is encrypted with the stack's key."""
    for name, request in _requests(definition, *_JOBS):
        hosts = request.get("ResourceConfig", {})
        yield from unless(
            asl.parameter(hosts, "VolumeKmsKeyId") is not None
            or bool(_WITH_KEY.fullmatch(str(request.get("ResourceConfig.$")))),
            name,
            "keeps its data on a disk without the stack's key",
            hint="Merge VolumeEncryption of the input into ResourceConfig.",
        )
    for name, request in _requests(definition, "CreateEndpointConfig"):
        yield from unless(
            asl.parameter(request, "KmsKeyId") is not None,
            name,
            "keeps the model on a disk without the stack's key",
            hint="Set KmsKeyId.",
        )


def encrypted_output(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """The model is encrypted with the stack's key when it is written, whatever the bucket's default is by then."""
    for name, request in _requests(definition, *_JOBS):
        yield from unless(
            asl.parameter(request.get("OutputDataConfig", {}), "KmsKeyId") is not None,
            name,
            "writes its output without the stack's key",
            hint="Set KmsKeyId in OutputDataConfig.",
        )


def _requests(definition: Mapping[str, Any], *operations: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """State and request of these calls; of a tuning job, the definition of the training jobs that it starts."""
    for name, task in asl.calls(definition, *operations):
        request = task.get("Parameters", {})
        yield name, request.get("TrainingJobDefinition", request)
