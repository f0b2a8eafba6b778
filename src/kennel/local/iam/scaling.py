"""What Application Auto Scaling's calls need for a SageMaker endpoint. Pure.

It asks for the caller's permissions on what it will touch later with its own service-linked role: the endpoint and
its alarms ("Application Auto Scaling identity-based policy examples" in its user guide).
"""

from __future__ import annotations

from kennel.local.iam.access import Access, Call
from kennel.local.iam.facts import Facts
from kennel.local.iam.sagemaker import arn

_PRINCIPAL = "sagemaker.application-autoscaling.amazonaws.com"
_LINKED_ROLE = f"role/aws-service-role/{_PRINCIPAL}/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
_ON_TARGET = (
    "RegisterScalableTarget",
    "DeregisterScalableTarget",
    "PutScalingPolicy",
    "DeleteScalingPolicy",
)
_READING = ("DescribeScalableTargets", "DescribeScalingPolicies", "DescribeScalingActivities")


def accesses(call: Call, facts: Facts) -> list[Access] | None:
    """What the caller must be allowed; None for an operation that is not known here."""
    action = f"application-autoscaling:{call.operation}"
    if call.operation in _READING:
        return [Access(action=action)]
    if call.operation not in _ON_TARGET:
        return None
    given = call.parameters
    resource_id = str(given["ResourceId"])
    target = Access(
        action=action,
        resource=call.arn("application-autoscaling", f"scalable-target/{resource_id}"),
        context={
            "application-autoscaling:service-namespace": str(given["ServiceNamespace"]),
            "application-autoscaling:scalable-dimension": str(given["ScalableDimension"]),
        },
    )
    if not resource_id.startswith("endpoint/"):
        return None
    alarms: tuple[str, ...] = ("DescribeAlarms", "DeleteAlarms")
    match call.operation:
        case "RegisterScalableTarget":
            return [target, *_endpoint(call, facts, resource_id.split("/")[1]), _linked_role(call)]
        case "PutScalingPolicy":
            alarms = ("PutMetricAlarm", *alarms)
    return [target, *_alarms(call, resource_id, *alarms)]


def _endpoint(call: Call, facts: Facts, name: str) -> list[Access]:
    endpoint, config = arn(call, "endpoint", name), facts.endpoint_config(name)
    needed = [
        Access(action="sagemaker:DescribeEndpoint", resource=endpoint),
        Access(action="sagemaker:UpdateEndpointWeightsAndCapacities", resource=endpoint),
    ]
    if config:
        described = arn(call, "endpoint-config", config)
        needed.append(Access(action="sagemaker:DescribeEndpointConfig", resource=described))
    return needed


def _linked_role(call: Call) -> Access:
    """The role that scales later. AWS makes it once; the local AWS asks every time, so that one run proves it."""
    return Access(
        action="iam:CreateServiceLinkedRole",
        resource=f"arn:aws:iam::{call.account}:{_LINKED_ROLE}",
        context={"iam:AWSServiceName": _PRINCIPAL},
    )


def _alarms(call: Call, resource_id: str, *actions: str) -> list[Access]:
    alarms = [call.arn("cloudwatch", f"alarm:TargetTracking-{resource_id}-Alarm{which}") for which in ("High", "Low")]
    return [Access(action=f"cloudwatch:{action}", resource=alarm) for action in actions for alarm in alarms]
