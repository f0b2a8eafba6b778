"""Alarms, and the rollout of what is pushed. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kennel.pipeline.rules.fault import Fault, unless
from kennel.pipeline.template import Template

WATCHED = (
    ("AWS/SageMaker", "Invocation5XXErrors"),
    ("AWS/SageMaker", "ModelLatency"),
    ("AWS/Lambda", "Errors"),
    ("AWS/Lambda", "Throttles"),
    ("AWS/States", "ExecutionsFailed"),
)
"""Namespace and metric of what must not go wrong unheard."""

_PUSH = {
    "source": ("aws.ecr",),
    "detail-type": ("ECR Image Action",),
    "detail.action-type": ("PUSH",),
    "detail.result": ("SUCCESS",),
}


def alarms_exist(template: Template) -> Iterator[Fault]:
    """What goes wrong is heard of before a user says so."""
    alarms = template.of_type("AWS::CloudWatch::Alarm")
    for namespace, metric in WATCHED:
        yield from unless(
            any((alarm.text("Namespace"), alarm.text("MetricName")) == (namespace, metric) for alarm in alarms),
            "Resources",
            f"nothing watches {metric} of {namespace}",
            hint="Add an AWS::CloudWatch::Alarm for it.",
        )


def alarms_act(template: Template) -> Iterator[Fault]:
    """An alarm that tells nobody is none."""
    for alarm in template.of_type("AWS::CloudWatch::Alarm"):
        yield from unless(
            any(template.refers(action, "AWS::SNS::Topic") for action in alarm.texts("AlarmActions"))
            and alarm.get("ActionsEnabled") in (None, True),
            alarm.where,
            "tells nobody",
            hint="Set AlarmActions to the topic of this stack.",
        )


def rollout_pattern(template: Template) -> Iterator[Fault]:
    """Only an image that was pushed to our own repository starts an execution, and only where that is switched on."""
    for rule in template.of_type("AWS::Events::Rule"):
        narrow = all(rule.texts(f"EventPattern.{path}") == values for path, values in _PUSH.items())
        names = rule.texts("EventPattern.detail.repository-name")
        yield from unless(
            narrow and bool(names) and all(template.refers(name, "AWS::ECR::Repository") for name in names),
            rule.where,
            "matches more than pushes to a repository of this stack",
            hint="Match source, detail-type, action-type, result and repository-name.",
        )
        switch = template.parameters.get(rule.text("State")[2:-1], {})
        yield from unless(
            switch.get("Default") == "DISABLED",
            rule.where,
            "rolls out unless it is switched off",
            hint="Set State by a parameter whose default is DISABLED.",
        )


def rollout_target(template: Template) -> Iterator[Fault]:
    """The event starts our state machine, with a role for that alone, and lies in the queue if it could not."""
    for rule in template.of_type("AWS::Events::Rule"):
        targets = rule.items("Targets")
        for number in range(len(targets)):
            role = template.referred(rule.text(f"Targets.{number}.RoleArn"))
            allowed = [found.actions for found in template.identity_statements(role.id)] if role else []
            checks = {
                "has another target than the state machine": template.refers(
                    rule.text(f"Targets.{number}.Arn"), "AWS::StepFunctions::StateMachine"
                ),
                "has another role than one that may start it": allowed == [("states:StartExecution",)],
                "drops events that could not be delivered": template.refers(
                    rule.text(f"Targets.{number}.DeadLetterConfig.Arn"), "AWS::SQS::Queue"
                ),
            }
            for what, holds in checks.items():
                yield from unless(
                    holds,
                    rule.where,
                    what,
                    hint="Set Arn, RoleArn and DeadLetterConfig to the state machine, its starter's role, the queue.",
                )
