"""What a container of SageMaker or a function in a VPC needs of its role before its own code begins. Pure.

These calls are made by AWS's agents with the role's credentials and never reach the local AWS as requests: a network
interface, an image pulled, a log, metrics ("How to use SageMaker execution roles" lists them).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kennel import references
from kennel.local.iam.access import Access, Call
from kennel.local.iam.facts import Facts
from kennel.local.iam.kms import grants
from kennel.local.iam.others import PULLING, log_access
from kennel.local.iam.sagemaker import SERVICE

_ECR_HOST = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com")


def of_container(call: Call, facts: Facts, *, image: str, group: str, namespace: str, registry: str) -> list[Access]:
    """A container of `image` that logs to `group` and publishes metrics to `namespace`.

    `registry` is where the account's own repositories are.
    """
    log = [
        log_access(call, action, group, stream)
        for action, stream in (
            ("CreateLogGroup", ""),
            ("DescribeLogStreams", ""),
            ("CreateLogStream", "stream"),
            ("PutLogEvents", "stream"),
        )
        # a group that is there need not be made
        if action != "CreateLogGroup" or not facts.log_group_exists(group)
    ]
    metrics = Access(action="cloudwatch:PutMetricData", context={"cloudwatch:namespace": namespace})
    repository = repository_arn(call, image, registry)
    pulled = [Access(action=f"ecr:{action}", resource=repository) for action in PULLING if repository]
    login = [Access(action="ecr:GetAuthorizationToken")] if repository else []
    return [*login, *pulled, *log, metrics]


def repository_arn(call: Call, image: str, registry: str) -> str:
    """The ARN of the ECR repository that an image is in; empty if it is in none."""
    try:
        reference = references.parse(image)
    except ValueError:
        return ""
    if found := _ECR_HOST.fullmatch(reference.registry):
        return f"arn:aws:ecr:{found['region']}:{found['account']}:repository/{reference.repository}"
    if reference.registry in ("", registry):
        return call.arn("ecr", f"repository/{reference.repository}")
    return ""


def in_vpc(call: Call, facts: Facts, *, service: str, subnets: Sequence[str], groups: Sequence[str]) -> list[Access]:
    """Network interfaces of `service` (`sagemaker.amazonaws.com`) in the subnets; nothing where there are none."""
    if not subnets:
        return []
    interface = call.arn("ec2", "network-interface/*")
    first = subnets[0]
    context = {
        "ec2:Subnet": call.arn("ec2", f"subnet/{first}"),
        "ec2:Vpc": facts.vpc_arn(first),
        "ec2:AuthorizedService": service,
    }
    created_on = [
        interface,
        *(call.arn("ec2", f"subnet/{subnet}") for subnet in subnets),
        *(call.arn("ec2", f"security-group/{group}") for group in groups),
    ]
    if service != SERVICE:
        # Lambda asks for these before there is an interface: of none in particular ("Giving Lambda functions access to
        # resources in an Amazon VPC" wants `*/*` for them)
        whatever = call.arn("ec2", "*/*")
        leaving = [(name, whatever) for name in ("DeleteNetworkInterface", *_ADDRESSES)]
        looking: tuple[str, ...] = ("DescribeNetworkInterfaces", "DescribeSubnets")
    else:
        leaving = [(name, interface) for name in ("DeleteNetworkInterface", *_PERMISSIONS)]
        looking = _LOOKING
    return [
        *(Access(action="ec2:CreateNetworkInterface", resource=arn, context=context) for arn in created_on),
        *(Access(action=f"ec2:{name}", resource=arn, context=context) for name, arn in leaving),
        *(Access(action=f"ec2:{name}") for name in looking),
    ]


_ADDRESSES = ("AssignPrivateIpAddresses", "UnassignPrivateIpAddresses")
_PERMISSIONS = ("CreateNetworkInterfacePermission", "DeleteNetworkInterfacePermission")
_LOOKING = (
    "DescribeDhcpOptions",
    "DescribeNetworkInterfaces",
    "DescribeSecurityGroups",
    "DescribeSubnets",
    "DescribeVpcs",
)


class Account(Protocol):
    """What is asked here of `kennel.local.iam.roles.Roles`."""

    facts: Facts
    registry: str

    def call(self, service: str, operation: str, **parameters: Any) -> Call:
        """An API call in this account and region."""
        ...


def of_training_job(account: Account, job: Mapping[str, Any], *, group: str) -> list[Access]:
    """A training job, as DescribeTrainingJob has it: its network, its container, the key of its volumes."""
    call = account.call("sagemaker", "CreateTrainingJob")
    key = job["ResourceConfig"].get("VolumeKmsKeyId", "")
    image = job["AlgorithmSpecification"]["TrainingImage"]
    return [
        *_network(account, job),
        *_container(account, image, group=group, namespace="/aws/sagemaker/TrainingJobs"),
        *(grants(account.facts.key_arn(key), call, via="sagemaker")[:1] if key else []),
    ]


def of_model(account: Account, model: Mapping[str, Any], *, group: str) -> list[Access]:
    """A model behind an endpoint, as DescribeModel has it: its network and its container."""
    image = model["PrimaryContainer"]["Image"]
    return [
        *_network(account, model),
        *_container(account, image, group=group, namespace="/aws/sagemaker/Endpoints"),
    ]


def _network(account: Account, described: Mapping[str, Any]) -> list[Access]:
    vpc = described.get("VpcConfig", {})
    return in_vpc(
        account.call("ec2", "CreateNetworkInterface"),
        account.facts,
        service=SERVICE,
        subnets=vpc.get("Subnets", []),
        groups=vpc.get("SecurityGroupIds", []),
    )


def _container(account: Account, image: str, *, group: str, namespace: str) -> list[Access]:
    call = account.call("sagemaker", "CreateContainer")
    return of_container(call, account.facts, image=image, group=group, namespace=namespace, registry=account.registry)
