"""What SageMaker's calls need, as the Service Authorization Reference has it, dependent actions included. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kennel.local.iam.access import Access, Call
from kennel.local.iam.facts import Facts
from kennel.local.iam.kms import grants

SERVICE = "sagemaker.amazonaws.com"

_RESOURCES: Mapping[str, tuple[str, ...]] = {
    "CreateTrainingJob": ("training-job",),
    "DescribeTrainingJob": ("training-job",),
    "StopTrainingJob": ("training-job",),
    "ListTrainingJobs": (),
    "CreateHyperParameterTuningJob": ("hyper-parameter-tuning-job",),
    "DescribeHyperParameterTuningJob": ("hyper-parameter-tuning-job",),
    "StopHyperParameterTuningJob": ("hyper-parameter-tuning-job",),
    "ListTrainingJobsForHyperParameterTuningJob": ("hyper-parameter-tuning-job",),
    "ListHyperParameterTuningJobs": (),
    "CreateModel": ("model",),
    "DescribeModel": ("model",),
    "DeleteModel": ("model",),
    "ListModels": (),
    "CreateEndpointConfig": ("endpoint-config",),
    "DescribeEndpointConfig": ("endpoint-config",),
    "DeleteEndpointConfig": ("endpoint-config",),
    "ListEndpointConfigs": (),
    "CreateEndpoint": ("endpoint", "endpoint-config"),
    "UpdateEndpoint": ("endpoint", "endpoint-config"),
    "DescribeEndpoint": ("endpoint",),
    "DeleteEndpoint": ("endpoint",),
    "ListEndpoints": (),
    "UpdateEndpointWeightsAndCapacities": ("endpoint",),
    "InvokeEndpoint": ("endpoint",),
}
"""Operation → the kinds of resource that it is authorized on; none: it knows no resource."""

_NAMES = {
    "training-job": "TrainingJobName",
    "hyper-parameter-tuning-job": "HyperParameterTuningJobName",
    "model": "ModelName",
    "endpoint-config": "EndpointConfigName",
    "endpoint": "EndpointName",
}


def accesses(call: Call, facts: Facts) -> list[Access] | None:
    """What the caller must be allowed; None for an operation that is not known here."""
    given = call.parameters
    if call.operation in ("AddTags", "ListTags", "DeleteTags"):
        return [Access(action=f"sagemaker:{call.operation}", resource=given["ResourceArn"], context=_tags(given))]
    kinds = _RESOURCES.get(call.operation)
    if kinds is None:
        return None
    context = {**_tags(given), **_conditions(call, facts)}
    arns = [arn(call, kind, given[_NAMES[kind]]) for kind in kinds] or ["*"]
    needed = [Access(action=f"sagemaker:{call.operation}", resource=one, context=context) for one in arns]
    if given.get("Tags"):
        needed.append(Access(action="sagemaker:AddTags", resource=arns[0], context=context))
    job = given.get("TrainingJobDefinition", given)
    if role := job.get("RoleArn") or given.get("ExecutionRoleArn"):
        passing = {"iam:PassedToService": SERVICE, "iam:AssociatedResourceArn": arns[0]}
        needed.append(Access(action="iam:PassRole", resource=role, context=passing))
    if key := _volume_key(given):
        needed += grants(facts.key_arn(key), call, via="sagemaker")
    rollback = given.get("DeploymentConfig", {}).get("AutoRollbackConfiguration", {})
    for alarm in rollback.get("Alarms", []):
        seen = call.arn("cloudwatch", f"alarm:{alarm['AlarmName']}")
        needed.append(Access(action="cloudwatch:DescribeAlarms", resource=seen))
    return needed


def arn(call: Call, kind: str, name: str) -> str:
    """The ARN of a resource of SageMaker, whose names are in lower case there."""
    return call.arn("sagemaker", f"{kind}/{name.lower()}")


def _volume_key(given: Mapping[str, Any]) -> str:
    """The key of the volumes that a request asks for: of a job's hosts or an endpoint's instances."""
    job = given.get("TrainingJobDefinition", given)
    return str(job.get("ResourceConfig", {}).get("VolumeKmsKeyId") or given.get("KmsKeyId") or "")


def _tags(given: Mapping[str, Any]) -> dict[str, str | list[str]]:
    tags = given.get("Tags") or []
    return {
        "aws:TagKeys": [tag["Key"] for tag in tags] or list(given.get("TagKeys", [])),
        **{f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tags},
    }


def _conditions(call: Call, facts: Facts) -> dict[str, str | list[str]]:
    """SageMaker's condition keys that the request gives a value."""
    job = call.parameters.get("TrainingJobDefinition", call.parameters)
    variants = call.parameters.get("ProductionVariants", [])
    types = [job.get("ResourceConfig", {}).get("InstanceType"), *(one.get("InstanceType") for one in variants)]
    vpc, output = job.get("VpcConfig", {}), job.get("OutputDataConfig", {})
    found: dict[str, str | list[str] | None] = {
        "sagemaker:InstanceTypes": [kind for kind in types if kind],
        "sagemaker:VpcSubnets": vpc.get("Subnets"),
        "sagemaker:VpcSecurityGroupIds": vpc.get("SecurityGroupIds"),
        "sagemaker:NetworkIsolation": _flag(job.get("EnableNetworkIsolation")),
        "sagemaker:InterContainerTrafficEncryption": _flag(job.get("EnableInterContainerTrafficEncryption")),
        "sagemaker:VolumeKmsKey": facts.key_arn(key) if (key := _volume_key(call.parameters)) else None,
        "sagemaker:OutputKmsKey": facts.key_arn(key) if (key := output.get("KmsKeyId")) else None,
    }
    return {key: value for key, value in found.items() if value}


def _flag(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()
