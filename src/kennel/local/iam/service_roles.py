"""What AWS asks of the roles that a request names, whoever makes it: may the service take the role, is it enough?

Step Functions and Lambda look at the role when a state machine or a function is created or changed, S3 at the policy of
the function that it shall notify. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from kennel.local.iam import functions
from kennel.local.iam.access import Access, Call
from kennel.local.iam.conditions import InvalidPolicy
from kennel.local.iam.containers import in_vpc
from kennel.local.iam.evaluation import Principal, evaluate
from kennel.local.iam.facts import Facts
from kennel.local.wire import ServiceError

STATES = "states.amazonaws.com"
Given = Mapping[str, Any]
_MANAGED_RULES = {
    "sagemaker:createTrainingJob.sync": "StepFunctionsGetEventsForSageMakerTrainingJobsRule",
    "sagemaker:createHyperParameterTuningJob.sync": "StepFunctionsGetEventsForSageMakerTuningJobsRule",
}
_LOG_DELIVERY = (
    "CreateLogDelivery",
    "GetLogDelivery",
    "UpdateLogDelivery",
    "DeleteLogDelivery",
    "ListLogDeliveries",
)
_LOG_POLICY = ("DescribeResourcePolicies", "PutResourcePolicy", "DescribeLogGroups")
"""These have a resource: the account's logs, written `log-group::log-stream:` in AWS's own refusals."""

_TRACING = [Access(action="xray:PutTraceSegments"), Access(action="xray:PutTelemetryRecords")]


class Account(Protocol):
    """What is asked here of `kennel.local.iam.roles.Roles`."""

    facts: Facts

    def trusted(self, role_arn: str, service: str, *, source_arn: str = "") -> bool:
        """Whether a service may take a role."""
        ...

    def denied(self, role_arn: str, accesses: Iterable[Access]) -> Access | None:
        """The first access that a role is not allowed."""
        ...


def demand(call: Call, account: Account) -> None:
    """Raises ServiceError, as AWS refuses it, where a role or a policy that the call names does not suffice."""
    if check := _CHECKS.get((call.service, call.operation)):
        try:
            check(call, account)
        except InvalidPolicy as error:
            raise ServiceError(error.code, str(error)) from error


def _state_machine(call: Call, account: Account) -> None:
    given = call.parameters
    arn = str(given.get("stateMachineArn") or call.arn("states", f"stateMachine:{given.get('name')}"))
    whole = {**account.facts.state_machine(arn), **given}
    role = str(whole.get("roleArn", ""))
    if not role:
        return  # no such state machine, which the service says itself
    if not account.trusted(role, STATES, source_arn=arn):
        raise ServiceError(
            "AccessDeniedException",
            f"Neither the global service principal {STATES}, nor the regional one is authorized to assume the "
            "provided role.",
        )
    rules = [call.arn("events", f"rule/{rule}") for rule in _managed_rules(str(whole.get("definition", "")))]
    writing = [
        Access(action=f"events:{action}", resource=rule)
        for rule in rules
        for action in ("PutTargets", "PutRule", "DescribeRule")
    ]
    logging = whole.get("loggingConfiguration") or {}
    logs = call.arn("logs", "log-group::log-stream:")
    delivering = [Access(action=f"logs:{action}") for action in _LOG_DELIVERY]
    delivering += [Access(action=f"logs:{action}", resource=logs) for action in _LOG_POLICY]
    demanded = [(writing, f"'{role}' is not authorized to create managed-rule.")]
    if logging.get("level", "OFF") != "OFF":
        demanded.append((delivering, "The state machine IAM Role is not authorized to access the Log Destination"))
    if (whole.get("tracingConfiguration") or {}).get("enabled"):
        demanded.append((_TRACING, "The state machine IAM Role is not authorized to put traces to X-Ray"))
    for accesses, message in demanded:
        if missing := account.denied(role, accesses):
            raise ServiceError("AccessDeniedException", f"{message} ({missing.action} on {missing.resource})")


def _managed_rules(definition: str) -> list[str]:
    """The rules by which Step Functions hears of the end of jobs that the definition waits for."""
    try:
        resources = set(_resources(json.loads(definition)))
    except ValueError:
        return []  # which the service says itself
    return [rule for task, rule in _MANAGED_RULES.items() if f"arn:aws:states:::{task}" in resources]


def _resources(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("Resource"), str):
            yield value["Resource"]
        for below in value.values():
            yield from _resources(below)
    elif isinstance(value, list):
        for below in value:
            yield from _resources(below)


def _function(call: Call, account: Account) -> None:
    given = call.parameters
    name = str(given.get("FunctionName", "")).rpartition("function:")[2].partition(":")[0]
    whole = {**account.facts.function(name), **given}
    role = str(whole.get("Role", ""))
    if not role:
        return  # no such function, which the service says itself
    if not account.trusted(role, functions.SERVICE, source_arn=call.arn("lambda", f"function:{name}")):
        raise ServiceError(
            "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."
        )
    vpc = whole.get("VpcConfig") or {}
    demanded = in_vpc(
        call,
        account.facts,
        service=functions.SERVICE,
        subnets=vpc.get("SubnetIds") or [],
        groups=vpc.get("SecurityGroupIds") or [],
    )
    if (whole.get("TracingConfig") or {}).get("Mode") == "Active":
        demanded += _TRACING
    for target in (
        (whole.get("DeadLetterConfig") or {}).get("TargetArn"),
        ((whole.get("DestinationConfig") or {}).get("OnFailure") or {}).get("Destination"),
    ):
        demanded += _sending(target)
    if missing := account.denied(role, demanded):
        service, action = missing.action.split(":")
        raise ServiceError(
            "InvalidParameterValueException",
            f"The provided execution role does not have permissions to call {action} on {service.upper()}",
        )


def _sending(target: str | None) -> list[Access]:
    """What sends to a queue or a topic, if there is a target."""
    actions = {"sqs": "sqs:SendMessage", "sns": "sns:Publish"}
    action = actions.get(target.split(":")[2]) if target else None
    return [Access(action=action, resource=target)] if action and target else []


def _notification(call: Call, account: Account) -> None:
    bucket = call.parameters["Bucket"]
    context = {"aws:SourceArn": f"arn:aws:s3:::{bucket}", "aws:SourceAccount": call.account}
    asked = call.parameters.get("NotificationConfiguration") or {}
    for configuration in asked.get("LambdaFunctionConfigurations") or []:
        arn = str(configuration.get("LambdaFunctionArn", ""))
        access = Access(action="lambda:InvokeFunction", resource=arn, context=context)
        policies = account.facts.resource_policy(arn)
        if not evaluate(policies, access, principal=Principal(service="s3.amazonaws.com")).allowed:
            raise ServiceError("InvalidArgument", "Unable to validate the following destination configurations")


_CHECKS: Mapping[tuple[str, str], Callable[[Call, Account], None]] = {
    ("stepfunctions", "CreateStateMachine"): _state_machine,
    ("stepfunctions", "UpdateStateMachine"): _state_machine,
    ("lambda", "CreateFunction"): _function,
    ("lambda", "UpdateFunctionConfiguration"): _function,
    ("lambda", "PutFunctionEventInvokeConfig"): _function,
    ("lambda", "UpdateFunctionEventInvokeConfig"): _function,
    ("s3", "PutBucketNotificationConfiguration"): _notification,
}


def concerns(signed_for: str, method: str, target: str, query: Mapping[str, Any]) -> bool:
    """Whether a request may be one of these calls; most are not, and need not be read for it."""
    match signed_for:
        case "states":
            return target.endswith((".CreateStateMachine", ".UpdateStateMachine"))
        case "lambda":
            return method in ("POST", "PUT")
        case "s3":
            return method == "PUT" and "notification" in query
    return False
