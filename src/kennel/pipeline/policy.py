"""Least privilege, derived: what the state machine's role must be allowed follows from its Task states. Pure.

A Task calls one API; the API touches certain resources, and some APIs ask for further permissions of their caller
(sources beside each). The result is what `StateMachineRole` in `infrastructure.yaml` says, word for word: its
resources carry the template's own placeholders (`${AWS::Region}`, `${Key.Arn}`). A test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Statement = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Some actions on some resources; grants with the same `sid` become one statement."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: tuple[tuple[str, str, str], ...] = ()
    """Operator, condition key, value."""


def derived(definition: Mapping[str, Any]) -> list[Statement]:
    """The statements of the state machine's policy, in alphabetical order of their Sids.

    `definition` is the parsed pipeline.asl.json. Raises KeyError for a Task whose API is not known here.
    """
    merged: dict[str, list[Grant]] = {}
    for grant in _grants(definition):
        merged.setdefault(grant.sid, []).append(grant)
    return [_statement(sid, merged[sid]) for sid in sorted(merged)]


def _statement(sid: str, grants: list[Grant]) -> Statement:
    conditions = {grant.condition for grant in grants}
    if len(conditions) > 1:
        raise ValueError(f"{sid} has several conditions")
    actions = sorted({action for grant in grants for action in grant.actions})
    resources = sorted({resource for grant in grants for resource in grant.resources})
    statement: Statement = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}
    if condition := next(iter(conditions)):
        statement["Condition"] = {operator: {key: value} for operator, key, value in condition}
    return statement


def _grants(definition: Mapping[str, Any]) -> Iterator[Grant]:
    yield from _MACHINE
    for state in definition["States"].values():
        if state["Type"] == "Task":
            service, _, action = state["Resource"].removeprefix("arn:aws:states:::").rpartition(":")
            call, _, pattern = action.partition(".")
            yield from _CALLS[service.removeprefix("aws-sdk:"), call]
            if pattern == "sync":
                yield from _WAITING[call]
            yield from _passed(state["Parameters"])


def _passed(parameters: Any) -> Iterator[Grant]:
    """What the request itself hands over: roles, and the key that encrypts volumes or output."""
    for name, value in _members(parameters):
        if name in ("RoleArn.$", "ExecutionRoleArn.$"):
            yield Grant(
                sid="PassRolesToSageMaker",
                actions=("iam:PassRole",),
                resources=(
                    f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:role/${{AWS::StackName}}-{_ROLES[value]}",
                ),
                condition=(("StringEquals", "iam:PassedToService", "sagemaker.amazonaws.com"),),
            )
        if name == "KmsKeyId.$":
            # SageMaker: "the caller needs kms:CreateGrant and kms:DescribeKey on the key" of volumes
            yield Grant(
                sid="EncryptVolumes",
                actions=("kms:CreateGrant",),
                resources=("${Key.Arn}",),
                condition=(("Bool", "kms:GrantIsForAWSResource", "true"),),
            )
            yield Grant(sid="UseKey", actions=("kms:DescribeKey",), resources=("${Key.Arn}",))


def _members(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield name, below
            yield from _members(below)
    elif isinstance(value, list):
        for below in value:
            yield from _members(below)


def _arn(service: str, resource: str) -> str:
    return f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{resource}"


def _sagemaker(sid: str, actions: Iterable[str], *resources: str) -> Grant:
    return Grant(
        sid=sid,
        actions=tuple(f"sagemaker:{action}" for action in actions),
        resources=tuple(_arn("sagemaker", resource) for resource in resources),
    )


def _scaling(*actions: str) -> Grant:
    return Grant(
        sid="ScaleEndpoint",
        actions=tuple(f"application-autoscaling:{action}" for action in actions),
        resources=(_arn("application-autoscaling", "scalable-target/*"),),
        condition=(("StringEquals", "application-autoscaling:service-namespace", "sagemaker"),),
    )


_ROLES = {"$.Training.RoleArn": "training", "$.Model.RoleArn": "serving"}
"""Where the input holds a role, and which one that is."""

_OF_STACK = "${AWS::StackName}-*"
_ENDPOINT = "endpoint/${AWS::StackName}"
_FUNCTION = _arn("lambda", "function:${AWS::StackName}-classify")
_JOBS = (f"training-job/{_OF_STACK}", f"hyper-parameter-tuning-job/{_OF_STACK}")

# Application Auto Scaling acts for its caller ("Identity-based policy examples for Application Auto Scaling"): it looks
# at the endpoint, sets its capacity, makes the alarms of target tracking, and once per account its own role
_SCALING = (
    _scaling("PutScalingPolicy", "RegisterScalableTarget"),
    _sagemaker("UseEndpoint", ("DescribeEndpoint", "UpdateEndpointWeightsAndCapacities"), _ENDPOINT),
    _sagemaker("ConfigureEndpoint", ("DescribeEndpointConfig",), f"endpoint-config/{_OF_STACK}"),
    Grant(
        sid="WatchTraffic",
        actions=("cloudwatch:DeleteAlarms", "cloudwatch:DescribeAlarms", "cloudwatch:PutMetricAlarm"),
        resources=(_arn("cloudwatch", "alarm:TargetTracking-endpoint/${AWS::StackName}/*"),),
    ),
    Grant(
        sid="LetAutoScalingAct",
        actions=("iam:CreateServiceLinkedRole",),
        resources=(
            "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/aws-service-role/sagemaker.application-autoscaling."
            "amazonaws.com/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint",
        ),
        condition=(("StringEquals", "iam:AWSServiceName", "sagemaker.application-autoscaling.amazonaws.com"),),
    ),
)

# objects are encrypted with the stack's key, and so is what the topic holds
_KEY = Grant(sid="UseKey", actions=("kms:Decrypt", "kms:GenerateDataKey"), resources=("${Key.Arn}",))


def _on_function(action: str) -> tuple[Grant, ...]:
    return (Grant(sid="UseFunction", actions=(f"lambda:{action}",), resources=(_FUNCTION, f"{_FUNCTION}:*")),)


_CALLS: Mapping[tuple[str, str], tuple[Grant, ...]] = {
    ("sagemaker", "createTrainingJob"): (_sagemaker("RunTrainingJobs", ("CreateTrainingJob",), _JOBS[0]),),
    ("sagemaker", "createHyperParameterTuningJob"): (
        _sagemaker("RunTuningJobs", ("CreateHyperParameterTuningJob",), _JOBS[1]),
    ),
    ("sagemaker", "createModel"): (_sagemaker("CreateModels", ("CreateModel",), f"model/{_OF_STACK}"),),
    ("sagemaker", "createEndpointConfig"): (
        _sagemaker("ConfigureEndpoint", ("CreateEndpointConfig",), f"endpoint-config/{_OF_STACK}"),
    ),
    # both calls are authorized on both kinds of resource
    ("sagemaker", "createEndpoint"): (
        _sagemaker("DeployEndpoint", ("CreateEndpoint",), _ENDPOINT, f"endpoint-config/{_OF_STACK}"),
    ),
    ("sagemaker", "updateEndpoint"): (
        _sagemaker("DeployEndpoint", ("UpdateEndpoint",), _ENDPOINT, f"endpoint-config/{_OF_STACK}"),
        # the "execution role" must see the alarms, says "Auto-Rollback Configuration and Monitoring", and not whose
        # role that is: so the model's may, too
        Grant(
            sid="WatchRollout",
            actions=("cloudwatch:DescribeAlarms",),
            resources=(_arn("cloudwatch", "alarm:${AWS::StackName}-endpoint-*"),),
        ),
    ),
    ("sagemaker", "describeEndpoint"): (_sagemaker("UseEndpoint", ("DescribeEndpoint",), _ENDPOINT),),
    ("sagemaker", "deleteEndpoint"): (
        _sagemaker("UseEndpoint", ("DeleteEndpoint",), _ENDPOINT),
        _scaling("DeregisterScalableTarget"),  # of an endpoint that scales ("Deleting endpoints that use autoscaling")
    ),
    ("applicationautoscaling", "registerScalableTarget"): _SCALING,
    ("applicationautoscaling", "putScalingPolicy"): _SCALING,
    ("lambda", "updateFunctionConfiguration"): _on_function("UpdateFunctionConfiguration"),
    ("lambda", "getFunctionConfiguration"): _on_function("GetFunctionConfiguration"),
    ("lambda", "publishVersion"): _on_function("PublishVersion"),
    ("lambda", "updateAlias"): _on_function("UpdateAlias"),
    ("lambda", "putFunctionConcurrency"): _on_function("PutFunctionConcurrency"),
    ("lambda", "putProvisionedConcurrencyConfig"): _on_function("PutProvisionedConcurrencyConfig"),
    ("lambda", "invoke"): _on_function("InvokeFunction"),
    ("s3", "putBucketNotificationConfiguration"): (
        Grant(sid="SubscribeToUploads", actions=("s3:PutBucketNotification",), resources=("${Bucket.Arn}",)),
    ),
    ("s3", "getObject"): (
        Grant(sid="KeepDeployment", actions=("s3:GetObject",), resources=("${Bucket.Arn}/deployments/*",)),
        _KEY,
    ),
    ("s3", "putObject"): (
        Grant(sid="KeepDeployment", actions=("s3:PutObject",), resources=("${Bucket.Arn}/deployments/*",)),
        _KEY,
    ),
    ("sns", "publish"): (Grant(sid="Notify", actions=("sns:Publish",), resources=("${FailureTopic}",)), _KEY),
}


def _watched(sid: str, job: str, resource: str, rule: str) -> tuple[Grant, ...]:
    """`.sync`: Step Functions describes, stops and tags the job, and hears of its end by a rule that it manages.

    Source: "IAM policies for calling SageMaker AI with Step Functions".
    """
    return (
        _sagemaker(sid, (f"Describe{job}", f"Stop{job}"), resource),
        _sagemaker("TagJobs", ("AddTags", "ListTags"), resource),
        Grant(
            sid="HearOfJobs",
            actions=("events:DescribeRule", "events:PutRule", "events:PutTargets"),
            resources=(_arn("events", f"rule/StepFunctionsGetEventsForSageMaker{rule}JobsRule"),),
        ),
    )


_WAITING: Mapping[str, tuple[Grant, ...]] = {
    "createTrainingJob": _watched("RunTrainingJobs", "TrainingJob", _JOBS[0], "Training"),
    "createHyperParameterTuningJob": _watched("RunTuningJobs", "HyperParameterTuningJob", _JOBS[1], "Tuning"),
}

# The state machine's own log and traces. Log delivery and X-Ray know no resources ("Logging using CloudWatch Logs",
# "AWS X-Ray and Step Functions")
_MACHINE = (
    Grant(
        sid="DeliverLog",
        actions=(
            "logs:CreateLogDelivery",
            "logs:DeleteLogDelivery",
            "logs:GetLogDelivery",
            "logs:ListLogDeliveries",
            "logs:UpdateLogDelivery",
        ),
        resources=("*",),
    ),
    # as "Logs sent to CloudWatch Logs" gives them: all logs of the account, where the action tables know no resource
    Grant(
        sid="FindLogPolicy",
        actions=("logs:DescribeLogGroups", "logs:DescribeResourcePolicies", "logs:PutResourcePolicy"),
        resources=(_arn("logs", "*"),),
    ),
    Grant(sid="Trace", actions=("xray:PutTelemetryRecords", "xray:PutTraceSegments"), resources=("*",)),
)
