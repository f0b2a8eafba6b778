"""The state machine as a resource; its definition has rules of its own. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kennel.pipeline.rules.fault import Fault, unless
from kennel.pipeline.template import Resource, Template

_LOG = "LoggingConfiguration.Destinations.0.CloudWatchLogsLogGroup.LogGroupArn"


def machine_logging(template: Template) -> Iterator[Fault]:
    """What an execution did must be known after its history is gone, not its failures only."""
    for machine in _machines(template):
        yield from unless(
            machine.get("LoggingConfiguration.Level") == "ALL"
            and template.refers(machine.text(_LOG), "AWS::Logs::LogGroup"),
            machine.where,
            "does not log everything to a log group of this stack",
            hint="Set LoggingConfiguration: Level ALL, and the log group as its destination.",
        )


def machine_log_data(template: Template) -> Iterator[Fault]:
    """Input and output of states belong into a log only where somebody decided it."""
    for machine in _machines(template):
        parameters = template.parameters
        off = [name for name, parameter in parameters.items() if parameter.get("Default") == "false"]
        yield from unless(
            machine.text("LoggingConfiguration.IncludeExecutionData") in ["false", *(f"${{{name}}}" for name in off)],
            machine.where,
            "logs the data of executions",
            hint='Set IncludeExecutionData by a parameter whose default is "false".',
        )


def machine_tracing(template: Template) -> Iterator[Fault]:
    """A slow or failed call can be seen beside what led to it."""
    for machine in _machines(template):
        yield from unless(
            machine.get("TracingConfiguration.Enabled") is True,
            machine.where,
            "is not traced",
            hint="Set TracingConfiguration to enabled.",
        )


def machine_log_delivery(template: Template) -> Iterator[Fault]:
    """Without the log's own policy Step Functions writes one for all logs of the account, or fails at its tenth."""
    for machine in _machines(template):
        log = template.referred(machine.text(_LOG))
        delivered = any(
            statement.allows
            and statement.principals == ("Service:delivery.logs.amazonaws.com",)
            and set(statement.actions) == {"logs:CreateLogStream", "logs:PutLogEvents"}
            and log is not None
            and statement.resources == (f"${{{log.id}.Arn}}",)
            for policy in template.of_type("AWS::Logs::ResourcePolicy")
            for statement in policy.statements("PolicyDocument")
        )
        yield from unless(
            delivered,
            machine.where,
            "nothing lets log delivery write to its log group, and to no other",
            hint="Add an AWS::Logs::ResourcePolicy for delivery.logs.amazonaws.com.",
        )


def _machines(template: Template) -> list[Resource]:
    return template.of_type("AWS::StepFunctions::StateMachine")
