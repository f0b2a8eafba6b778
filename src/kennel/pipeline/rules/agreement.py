"""Template and state machine together: neither allows, passes or watches what the other does not know. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from kennel.pipeline import asl, policy
from kennel.pipeline.rules.fault import Fault, unless
from kennel.pipeline.template import Resource, Statement, Template

_Right = tuple[str, str, str]
"""An action, a resource, and the conditions under which it is allowed."""


def policy_covers_calls(template: Template, definition: Mapping[str, Any]) -> Iterator[Fault]:
    """A right that is missing fails an execution after hours of training."""
    try:
        needed = _needed(definition)
    except KeyError as unknown:
        yield from unless(
            False,
            "the definition",
            f"kennel.pipeline.policy does not know which rights {unknown} needs",
            hint="Add it there, with AWS's documentation as the source.",
        )
        return
    given = {right for role in _machine_roles(template) for right, _ in _given(template, role)}
    for action, resource, conditions in sorted(needed - given):
        yield from unless(
            False,
            ", ".join(_machine_roles(template)),
            f"may not call {action} on {resource}{conditions and f' if {conditions}'}",
            hint="Write into the role what kennel.pipeline.policy derives.",
        )


def policy_is_used(template: Template, definition: Mapping[str, Any]) -> Iterator[Fault]:
    """A right that no Task needs is one for whoever takes the state machine over."""
    try:
        needed = _needed(definition)
    except KeyError:
        return  # policy_covers_calls says so
    for role in _machine_roles(template):
        for statement in template.identity_statements(role):
            yield from unless(
                statement.allows, statement.where, "denies, which no Task needs", hint="Allow less instead."
            )
        for (action, resource, conditions), where in _given(template, role):
            yield from unless(
                (action, resource, conditions) in needed,
                where,
                f"allows {action} on {resource}{conditions and f' if {conditions}'}, which no Task needs",
                hint="Take it out.",
            )


def rollback_alarms(template: Template, definition: Mapping[str, Any]) -> Iterator[Fault]:
    """A new model that fails or dawdles is taken back by SageMaker itself: by the alarms on the endpoint."""
    watching = {
        f"${{{alarm.id}}}"
        for alarm in template.of_type("AWS::CloudWatch::Alarm")
        if {"Name": "EndpointName", "Value": {"Ref": "AWS::StackName"}} in alarm.items("Dimensions")
    }
    output = Resource(id="EndpointAlarms", type="", body={"Properties": template.document.get("Outputs", {})})
    yield from unless(
        Counter(output.text("EndpointAlarms.Value").split(",")) == Counter(watching),
        "Outputs, EndpointAlarms",
        f"is not {','.join(sorted(watching)) or 'any alarm'}",
        hint="Join the names of the alarms on the endpoint, and of no other.",
    )
    for name, task in asl.calls(definition, "UpdateEndpoint"):
        request = task.get("Parameters", {})
        restores = "$.PreviousEndpoint." in str(asl.parameter(request, "EndpointConfigName"))
        yield from unless(
            restores or asl.parameter(request, "DeploymentConfig") is not None,
            name,
            "deploys without being watched",
            hint="Give its request the DeploymentConfig that names the alarms.",
        )


def passed_roles(template: Template, definition: Mapping[str, Any]) -> Iterator[Fault]:
    """A request's role comes from the input, and is one that the service it is passed to, and no other, may take."""
    for name, task in asl.tasks(definition).items():
        request = task.get("Parameters", {})
        for part in (request, request.get("TrainingJobDefinition", {})):
            yield from unless(
                "RoleArn" not in part and "ExecutionRoleArn" not in part,
                name,
                "passes a role whatever the input says",
                hint="Take it from the input: RoleArn.$.",
            )
    roles = {role.text("RoleName"): role for role in template.of_type("AWS::IAM::Role")}
    for statement in _passing(template):
        services = [
            f"Service:{service}" for service in statement.conditions.get("StringEquals iam:PassedToService", ())
        ]
        for resource in statement.resources:
            role = template.referred(resource) or roles.get(resource.rpartition(":role/")[2])
            trusted = [found.principals for found in role.statements("AssumeRolePolicyDocument")] if role else []
            yield from unless(
                trusted == [tuple(services)],
                statement.where,
                f"passes {resource}, which {' or '.join(services) or 'nobody'} may not take, or not alone",
                hint="Pass roles of this stack that trust the service they are passed to.",
            )


def _passing(template: Template) -> Iterator[Statement]:
    for role in _machine_roles(template):
        for statement in template.identity_statements(role):
            if "iam:PassRole" in statement.actions:
                yield statement


def _machine_roles(template: Template) -> list[str]:
    """Logical ids of the roles that the state machines act with."""
    roles = [template.referred(found.text("RoleArn")) for found in template.of_type("AWS::StepFunctions::StateMachine")]
    return [role.id for role in roles if role]


def _given(template: Template, role: str) -> Iterator[tuple[_Right, str]]:
    for statement in template.identity_statements(role):
        if statement.allows:
            for right in _rights(statement):
                yield right, statement.where


def _needed(definition: Mapping[str, Any]) -> set[_Right]:
    """Raises KeyError for a call or a role that `kennel.pipeline.policy` does not know."""
    derived = Resource(
        id="derived", type="", body={"Properties": {"Policy": {"Statement": policy.derived(definition)}}}
    )
    return {right for statement in derived.statements("Policy") for right in _rights(statement)}


def _rights(statement: Statement) -> Iterator[_Right]:
    conditions = "; ".join(f"{test} {' or '.join(values)}" for test, values in sorted(statement.conditions.items()))
    for action in statement.actions:
        for resource in statement.resources:
            yield action, resource, conditions
