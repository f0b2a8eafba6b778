"""Who may do what: one role per part, each with the calls it makes and no other. Pure.

`*` stands as a resource only where AWS knows no narrower one; each such statement says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kennel import contract

_SERVICES = {
    "training": "sagemaker.amazonaws.com",
    "serving": "sagemaker.amazonaws.com",
    "function": "lambda.amazonaws.com",
    "states": "states.amazonaws.com",
}


class _Names(Protocol):
    """What a policy needs of `kennel.pipeline.resources.Names`."""

    @property
    def name(self) -> str: ...
    @property
    def bucket(self) -> str: ...
    @property
    def function_arn(self) -> str: ...
    def arn(self, service: str, resource: str) -> str: ...
    def role_arn(self, part: str) -> str: ...


def trust(part: str) -> dict[str, Any]:
    """Who may take the role of `part`: the AWS service that runs it."""
    statement = {"Effect": "Allow", "Principal": {"Service": _SERVICES[part]}, "Action": "sts:AssumeRole"}
    return {"Version": "2012-10-17", "Statement": [statement]}


def by_role(
    names: _Names,
    *,
    topic_arn: str,
    kms_key_arn: str,
    repositories: Mapping[str, Sequence[str]],
    reads: tuple[str, ...] = (),
) -> dict[str, dict[str, Any]]:
    """The policy of each part's role.

    `repositories` are the ARNs of the repositories of the training and the serving images, `reads` s3:// prefixes
    outside our bucket that training reads.
    """
    statements = {
        "training": _training(names, repositories["training"], reads),
        "serving": _serving(names, repositories["serving"]),
        "function": _function(names),
        "states": _states(names, topic_arn=topic_arn, kms_key_arn=kms_key_arn),
    }
    return {part: {"Version": "2012-10-17", "Statement": found} for part, found in statements.items()}


def _allow(actions: list[str], *resources: str, **condition: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": list(resources)} | (
        {"Condition": condition} if condition else {}
    )


def _objects(names: _Names, *prefixes: str) -> list[str]:
    return [f"arn:aws:s3:::{names.bucket}/{prefix}*" for prefix in prefixes]


def _job_basics(names: _Names, repositories: Sequence[str]) -> list[dict[str, Any]]:
    """What every container of SageMaker in a VPC needs: its log, its image, its network interface."""
    return [
        _allow(
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
            names.arn("logs", "log-group:/aws/sagemaker/*"),
        ),
        _allow(
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            *repositories,
        ),
        # these know no resource
        _allow(
            [
                "ecr:GetAuthorizationToken",
                "cloudwatch:PutMetricData",
                "ec2:CreateNetworkInterface",
                "ec2:CreateNetworkInterfacePermission",
                "ec2:DeleteNetworkInterface",
                "ec2:DescribeNetworkInterfaces",
                "ec2:DescribeSecurityGroups",
                "ec2:DescribeSubnets",
                "ec2:DescribeVpcs",
            ],
            "*",
        ),
    ]


def _training(names: _Names, repositories: Sequence[str], reads: tuple[str, ...]) -> list[dict[str, Any]]:
    places = [uri.removeprefix("s3://").rstrip("/") for uri in reads]
    buckets = sorted({names.bucket, *(place.partition("/")[0] for place in places)})
    return [
        _allow(
            ["s3:GetObject"],
            *_objects(names, "data/", "pretrained/"),
            *(f"arn:aws:s3:::{place}{'*' if '/' in place else '/*'}" for place in places),
        ),
        _allow(["s3:PutObject"], *_objects(names, "models/")),
        _allow(["s3:ListBucket"], *(f"arn:aws:s3:::{bucket}" for bucket in buckets)),
        *_job_basics(names, repositories),
    ]


def _serving(names: _Names, repositories: Sequence[str]) -> list[dict[str, Any]]:
    return [_allow(["s3:GetObject"], *_objects(names, "models/")), *_job_basics(names, repositories)]


def _function(names: _Names) -> list[dict[str, Any]]:
    log = f"log-group:/aws/lambda/{names.name}-classify:*"
    return [
        _allow(["sagemaker:InvokeEndpoint"], names.arn("sagemaker", f"endpoint/{names.name}")),
        _allow(["s3:GetObject"], *_objects(names, contract.UPLOADS_PREFIX)),
        _allow(["s3:PutObject"], *_objects(names, contract.PREDICTIONS_PREFIX)),
        _allow(["logs:CreateLogStream", "logs:PutLogEvents"], names.arn("logs", log)),
        _allow(["logs:CreateLogGroup"], names.arn("logs", "*")),
        # X-Ray knows no resource
        _allow(["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*"),
    ]


def _states(names: _Names, *, topic_arn: str, kms_key_arn: str) -> list[dict[str, Any]]:
    def sagemaker(*kinds: str) -> list[str]:
        return [names.arn("sagemaker", f"{kind}/{names.name}*") for kind in kinds]

    managed_rules = (
        "StepFunctionsGetEventsForSageMakerTrainingJobsRule",
        "StepFunctionsGetEventsForSageMakerTuningJobsRule",
    )
    verbs = ("Create", "Describe", "Stop")
    return [
        _allow([f"sagemaker:{verb}TrainingJob" for verb in verbs], *sagemaker("training-job")),
        _allow(
            [f"sagemaker:{verb}HyperParameterTuningJob" for verb in verbs], *sagemaker("hyper-parameter-tuning-job")
        ),
        # Step Functions tags the jobs that it starts, and reads the tags back
        _allow(["sagemaker:AddTags", "sagemaker:ListTags"], *sagemaker("training-job", "hyper-parameter-tuning-job")),
        _allow(["sagemaker:CreateModel"], *sagemaker("model")),
        _allow(["sagemaker:CreateEndpointConfig"], *sagemaker("endpoint-config")),
        # both calls name both kinds
        _allow(["sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint"], *sagemaker("endpoint", "endpoint-config")),
        _allow(
            [
                "sagemaker:DescribeEndpoint",
                "sagemaker:DeleteEndpoint",
                "sagemaker:UpdateEndpointWeightsAndCapacities",
            ],
            *sagemaker("endpoint"),
        ),
        _allow(
            ["application-autoscaling:RegisterScalableTarget", "application-autoscaling:PutScalingPolicy"],
            names.arn("application-autoscaling", "scalable-target/*"),
        ),
        _allow(
            ["cloudwatch:PutMetricAlarm", "cloudwatch:DescribeAlarms", "cloudwatch:DeleteAlarms"],
            names.arn("cloudwatch", "alarm:TargetTracking-*"),
        ),
        _allow(
            ["iam:CreateServiceLinkedRole"],
            "arn:aws:iam::*:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/*",
            StringEquals={"iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"},
        ),
        _allow(
            [
                "lambda:UpdateFunctionConfiguration",
                "lambda:GetFunctionConfiguration",
                "lambda:PublishVersion",
                "lambda:UpdateAlias",
                "lambda:PutFunctionConcurrency",
                "lambda:PutProvisionedConcurrencyConfig",
                "lambda:InvokeFunction",
            ],
            names.function_arn,
            f"{names.function_arn}:*",
        ),
        _allow(["s3:PutBucketNotification"], f"arn:aws:s3:::{names.bucket}"),
        _allow(["sns:Publish"], topic_arn),
        _allow(["kms:CreateGrant", "kms:DescribeKey"], kms_key_arn),
        _allow(
            ["events:PutRule", "events:PutTargets", "events:DescribeRule"],
            *(names.arn("events", f"rule/{rule}") for rule in managed_rules),
        ),
        _allow(
            ["iam:PassRole"],
            names.role_arn("training"),
            names.role_arn("serving"),
            StringEquals={"iam:PassedToService": "sagemaker.amazonaws.com"},
        ),
    ]
