"""What roles may do and who may take them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kennel.pipeline.rules.fault import Fault, unless
from kennel.pipeline.template import Statement, Template

STARRED: Mapping[str, str] = {
    "cloudwatch:PutMetricData": "metrics are no resources; the namespace is a condition",
    "ec2:DescribeDhcpOptions": "EC2 knows no resources of Describe calls",
    "ec2:DescribeNetworkInterfaces": "EC2 knows no resources of Describe calls",
    "ec2:DescribeSecurityGroups": "EC2 knows no resources of Describe calls",
    "ec2:DescribeSubnets": "EC2 knows no resources of Describe calls",
    "ec2:DescribeVpcs": "EC2 knows no resources of Describe calls",
    "ecr:GetAuthorizationToken": "the token is the account's; what may be pulled with it is another statement",
    "logs:CreateLogDelivery": "log delivery knows no resources",
    "logs:DeleteLogDelivery": "log delivery knows no resources",
    "logs:GetLogDelivery": "log delivery knows no resources",
    "logs:ListLogDeliveries": "log delivery knows no resources",
    "logs:UpdateLogDelivery": "log delivery knows no resources",
    "xray:PutTelemetryRecords": "X-Ray knows no resources of what is sent to it",
    "xray:PutTraceSegments": "X-Ray knows no resources of what is sent to it",
}
"""Actions that may have the resource `*`, each with its reason."""

_INTERFACES = (
    "ec2:CreateNetworkInterface",
    "ec2:CreateNetworkInterfacePermission",
    "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission",
)
_LEAVING = ("ec2:AssignPrivateIpAddresses", "ec2:DeleteNetworkInterface", "ec2:UnassignPrivateIpAddresses")
_WRITE_LOG = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents")
_MANAGED_RULE = ("events:DescribeRule", "events:PutRule", "events:PutTargets")
_OF_ACCOUNT = "${AWS::Region}:${AWS::AccountId}"

FOREIGN: Mapping[str, tuple[tuple[str, ...], str]] = {
    f"ec2:{_OF_ACCOUNT}:network-interface/*": (_INTERFACES, "EC2 gives them their ids; subnet and group are ours"),
    f"ec2:{_OF_ACCOUNT}:*/*": (_LEAVING, "Lambda asks for them when it has no interface yet, and so no name"),
    f"logs:{_OF_ACCOUNT}:log-group:/aws/sagemaker/TrainingJobs*": (_WRITE_LOG, "SageMaker gives the log its name"),
    f"logs:{_OF_ACCOUNT}:*": (
        ("logs:DescribeLogGroups", "logs:DescribeResourcePolicies", "logs:PutResourcePolicy"),
        "Step Functions looks for the log that it is to write among all of the account",
    ),
    f"application-autoscaling:{_OF_ACCOUNT}:scalable-target/*": (
        (
            "application-autoscaling:DeregisterScalableTarget",
            "application-autoscaling:PutScalingPolicy",
            "application-autoscaling:RegisterScalableTarget",
        ),
        "a scalable target's id is AWS's to give; the service is a condition",
    ),
    f"events:{_OF_ACCOUNT}:rule/StepFunctionsGetEventsForSageMakerTrainingJobsRule": (
        _MANAGED_RULE,
        "the one rule by which Step Functions hears of jobs",
    ),
    f"events:{_OF_ACCOUNT}:rule/StepFunctionsGetEventsForSageMakerTuningJobsRule": (
        _MANAGED_RULE,
        "the one rule by which Step Functions hears of tuning jobs",
    ),
    "iam::${AWS::AccountId}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
    "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint": (
        ("iam:CreateServiceLinkedRole",),
        "AWS's own role, made once per account",
    ),
}
"""Resources that do not bear the stack's name: after `arn:<partition>:`, the actions on them, and the reason."""

_VARIABLE = re.compile(r"\$\{([\w:]+)(?:\.\w+)?\}")
_SOURCE_ACCOUNT_KNOWN = ("sagemaker.amazonaws.com", "states.amazonaws.com", "events.amazonaws.com")
"""Services that say for which account they take a role."""


def no_managed_policies(template: Template) -> Iterator[Fault]:
    """What a managed policy allows is not written here, and changes without us: FullAccess was the original's flaw."""
    for resource in template.resources.values():
        arns = resource.items("ManagedPolicyArns")
        yield from unless(
            not arns and resource.type != "AWS::IAM::ManagedPolicy",
            resource.where,
            f"has a managed policy ({', '.join(map(str, arns)) or 'of its own'})",
            hint="Write the statements that it needs into the role's own policy.",
        )


def no_star_actions(template: Template) -> Iterator[Fault]:
    """`s3:*` grows whenever AWS adds a call."""
    for statement in _allowing(template):
        for action in statement.actions:
            yield from unless(
                "*" not in action and "?" not in action,
                statement.where,
                f"allows {action}",
                hint="Name the calls that are made.",
            )


def no_inverted_allow(template: Template) -> Iterator[Fault]:
    """NotAction and its like allow whatever they do not name."""
    for statement in (*template.identity_statements(), *template.resource_statements()):
        yield from unless(
            not (statement.allows and statement.inverted),
            statement.where,
            f"allows by {', '.join(statement.inverted)}",
            hint="Name what is allowed.",
        )


def star_resources(template: Template) -> Iterator[Fault]:
    """`*` as a resource is right only where AWS knows no narrower one: those actions are on a list, with reasons."""
    for statement in _allowing(template):
        if "*" in statement.resources:
            for action in statement.actions:
                yield from unless(
                    action in STARRED,
                    statement.where,
                    f"allows {action} on every resource",
                    hint="Name the resource; if AWS knows none for it, add it to STARRED with the reason.",
                )


def own_resources(template: Template) -> Iterator[Fault]:
    """A role reaches what this stack made and what a parameter names; `arn:aws:s3:::*` is `*` by another name."""
    for statement in _allowing(template):
        for resource in statement.resources:
            actions, _ = FOREIGN.get(resource.removeprefix("arn:${AWS::Partition}:"), ((), ""))
            yield from unless(
                resource == "*" or _is_own(resource, template) or set(statement.actions) <= set(actions),
                statement.where,
                f"reaches {resource}, which does not bear this stack's name",
                hint="Narrow it to resources of this stack; if AWS gives the name, add it to FOREIGN with the reason.",
            )


def pass_role(template: Template) -> Iterator[Fault]:
    """Whoever may pass any role, or to any service, has every right of every role."""
    roles = {f"${{{role.id}.Arn}}" for role in template.of_type("AWS::IAM::Role")} | {
        f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:role/{role.text('RoleName')}"
        for role in template.of_type("AWS::IAM::Role")
    }
    for statement in _allowing(template):
        if "iam:PassRole" not in statement.actions:
            continue
        for resource in statement.resources:
            yield from unless(
                resource in roles, statement.where, f"passes {resource}", hint="Name roles of this stack, in full."
            )
        services = statement.conditions.get("StringEquals iam:PassedToService", ())
        yield from unless(
            len(services) == 1 and "*" not in services[0],
            statement.where,
            f"passes roles to {', '.join(services) or 'any service'}",
            hint="Add the condition StringEquals iam:PassedToService with the one service.",
        )


def trust_one_service(template: Template) -> Iterator[Fault]:
    """A role is taken by the one AWS service that runs its part, and by nobody else."""
    for statement in _trusts(template):
        yield from unless(
            len(statement.principals) == 1
            and statement.principals[0].startswith("Service:")
            and "*" not in statement.principals[0]
            and statement.actions == ("sts:AssumeRole",),
            statement.where,
            f"lets {', '.join(statement.principals) or 'nobody'} call {', '.join(statement.actions)}",
            hint="Name one service as the principal, and sts:AssumeRole as the action.",
        )


def trust_own_account(template: Template) -> Iterator[Fault]:
    """A service that acts for another account must not be able to take our role for it (the confused deputy)."""
    for statement in _trusts(template):
        service = statement.principals[0].removeprefix("Service:") if statement.principals else ""
        account = statement.conditions.get("StringEquals aws:SourceAccount")
        yield from unless(
            service not in _SOURCE_ACCOUNT_KNOWN or account == ("${AWS::AccountId}",),
            statement.where,
            f"lets {service} take the role for any account",
            hint="Add the condition StringEquals aws:SourceAccount with this account.",
        )


def _allowing(template: Template) -> Iterator[Statement]:
    return (statement for statement in template.identity_statements() if statement.allows)


def _trusts(template: Template) -> Iterator[Statement]:
    for role in template.of_type("AWS::IAM::Role"):
        yield from role.statements("AssumeRolePolicyDocument")


def _is_own(resource: str, template: Template) -> bool:
    """Whether it begins with something of this stack: its name, a resource, a parameter; a wildcard comes later."""
    own = {"AWS::StackName", *template.resources, *template.parameters}
    found = next((match for match in _VARIABLE.finditer(resource) if match[1] in own), None)
    return found is not None and not set("*?").intersection(resource[: found.start()])
