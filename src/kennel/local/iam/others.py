"""What the calls of smaller services need: SNS, SQS, EventBridge, CloudWatch and its logs, ECR, KMS, Step Functions,
EC2 and X-Ray. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kennel.local.iam.access import Access, Call
from kennel.local.iam.facts import Facts
from kennel.local.iam.kms import uses

Given = Mapping[str, Any]


def sns(call: Call, facts: Facts) -> list[Access] | None:
    """SNS: publishing to a topic."""
    if call.operation not in ("Publish", "PublishBatch"):
        return None
    topic = str(call.parameters.get("TopicArn") or call.parameters.get("TargetArn"))
    key = uses(facts.topic_key(topic), call, "GenerateDataKey", "Decrypt", via="sns")
    return [Access(action="sns:Publish", resource=topic), *key]


def sqs(call: Call, facts: Facts) -> list[Access] | None:
    """SQS: sending to and reading from a queue, by its URL."""
    operations = {
        "SendMessage": ("SendMessage", ("GenerateDataKey", "Decrypt")),
        "SendMessageBatch": ("SendMessage", ("GenerateDataKey", "Decrypt")),
        "ReceiveMessage": ("ReceiveMessage", ("Decrypt",)),
        "DeleteMessage": ("DeleteMessage", ()),
        "GetQueueUrl": ("GetQueueUrl", ()),
        "GetQueueAttributes": ("GetQueueAttributes", ()),
    }
    if call.operation not in operations:
        return None
    action, on_key = operations[call.operation]
    name = call.parameters.get("QueueName") or str(call.parameters["QueueUrl"]).rpartition("/")[2]
    queue = call.arn("sqs", str(name))
    return [Access(action=f"sqs:{action}", resource=queue), *uses(facts.queue_key(queue), call, *on_key, via="sqs")]


def logs(call: Call, _facts: Facts) -> list[Access] | None:
    """CloudWatch Logs: writing and reading streams of a group."""
    given = call.parameters
    if call.operation not in _LOG_ACTIONS:
        return None
    return [log_access(call, call.operation, group_of(given), str(given.get("logStreamName", "")))]


_LOG_ACTIONS = (
    "CreateLogGroup",
    "CreateLogStream",
    "PutLogEvents",
    "DescribeLogStreams",
    "GetLogEvents",
    "FilterLogEvents",
)


def group_of(given: Given) -> str:
    """The name of the log group that a request means."""
    name = str(given.get("logGroupName") or given.get("logGroupIdentifier", ""))
    return name.partition(":log-group:")[2].removesuffix(":*") or name


def log_access(call: Call, action: str, group: str, stream: str = "") -> Access:
    """`action` on a log group, whose ARN has a part for the stream in every request."""
    return Access(action=f"logs:{action}", resource=call.arn("logs", f"log-group:{group}:log-stream:{stream}"))


def cloudwatch(call: Call, _facts: Facts) -> list[Access] | None:
    """CloudWatch: metrics and alarms."""
    given, action = call.parameters, f"cloudwatch:{call.operation}"
    match call.operation:
        case "PutMetricData":
            return [Access(action=action, context={"cloudwatch:namespace": str(given["Namespace"])})]
        case "GetMetricData" | "GetMetricStatistics" | "ListMetrics":
            return [Access(action=action)]
        case "PutMetricAlarm":
            return [Access(action=action, resource=call.arn("cloudwatch", f"alarm:{given['AlarmName']}"))]
        case "DescribeAlarms" | "DeleteAlarms":
            names = given.get("AlarmNames") or ["*"]
            return [Access(action=action, resource=call.arn("cloudwatch", f"alarm:{name}")) for name in names]
    return None


def _one(prefix: str, resource: Callable[[Call, Given], str], *operations: str) -> Any:
    """A service each of whose `operations` needs the action of its name on one resource."""

    def accesses(call: Call, _facts: Facts) -> list[Access] | None:
        if call.operation not in operations:
            return None
        return [Access(action=f"{prefix}:{call.operation}", resource=resource(call, call.parameters))]

    return accesses


def kms(call: Call, facts: Facts) -> list[Access] | None:
    """KMS: using a key that the request names."""
    if call.operation not in ("Encrypt", "Decrypt", "GenerateDataKey", "DescribeKey", "CreateGrant"):
        return None
    key = call.parameters.get("KeyId")
    return [Access(action=f"kms:{call.operation}", resource=facts.key_arn(str(key)) if key else "*")]


def ec2(call: Call, _facts: Facts) -> list[Access] | None:
    """EC2: looking around. The interfaces that services make in a VPC are `kennel.local.iam.containers`'."""
    reading = call.operation.startswith("Describe")
    return [Access(action=f"ec2:{call.operation}")] if reading else None


def ecr(call: Call, _facts: Facts) -> list[Access] | None:
    """ECR: pulling and looking at images."""
    if call.operation == "GetAuthorizationToken":
        return [Access(action="ecr:GetAuthorizationToken")]
    if call.operation not in (*PULLING, "DescribeImages", "DescribeRepositories", "ListImages"):
        return None
    names = call.parameters.get("repositoryNames") or [call.parameters.get("repositoryName", "*")]
    return [Access(action=f"ecr:{call.operation}", resource=call.arn("ecr", f"repository/{name}")) for name in names]


PULLING = ("BatchCheckLayerAvailability", "BatchGetImage", "GetDownloadUrlForLayer")
"""What pulling an image is made of."""

events = _one(
    "events",
    lambda call, given: call.arn("events", f"rule/{given.get('Name') or given.get('Rule')}"),
    "PutRule",
    "PutTargets",
    "DescribeRule",
    "DeleteRule",
    "RemoveTargets",
)
states = _one(
    "states",
    lambda _call, given: str(given.get("stateMachineArn") or given.get("executionArn")),
    "StartExecution",
    "DescribeExecution",
    "StopExecution",
    "DescribeStateMachine",
)
xray = _one("xray", lambda _call, _given: "*", "PutTraceSegments", "PutTelemetryRecords")


def sts(call: Call, _facts: Facts) -> list[Access] | None:
    """STS: asking who one is needs no permission."""
    return [] if call.operation == "GetCallerIdentity" else None
