"""The function. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kennel.pipeline.rules.fault import Fault, unless
from kennel.pipeline.template import Resource, Template


def function_failures(template: Template) -> Iterator[Fault]:
    """An upload whose classification failed for good must lie somewhere, not be gone."""
    for function in _functions(template):
        kept = any(
            config.text("FunctionName") == f"${{{function.id}}}"
            and config.text("Qualifier") in _aliases(template, function).values()
            and template.refers(config.text("DestinationConfig.OnFailure.Destination"), "AWS::SQS::Queue")
            for config in template.of_type("AWS::Lambda::EventInvokeConfig")
        )
        yield from unless(
            kept,
            function.where,
            "drops events that it failed on",
            hint="Give its alias an EventInvokeConfig whose OnFailure is a queue of this stack.",
        )


def function_tracing(template: Template) -> Iterator[Fault]:
    """A slow answer can be seen part by part."""
    for function in _functions(template):
        yield from unless(
            function.get("TracingConfig.Mode") == "Active",
            function.where,
            "is not traced",
            hint="Set TracingConfig to Active.",
        )


def function_network(template: Template) -> Iterator[Fault]:
    """The function reads what anybody may upload: it runs where it reaches S3 and the endpoint only."""
    for function in _functions(template):
        config = function.body["Properties"].get("VpcConfig", {})
        condition = config["Fn::If"][0] if "Fn::If" in config else ""
        default = template.parameters.get("Network", {}).get("Default")
        yield from unless(
            bool(function.items("VpcConfig.SecurityGroupIds"))
            and (not condition or (condition == "NetworkOn" and default == "on")),
            function.where,
            "runs outside the network",
            hint="Give it a VpcConfig, always or under NetworkOn, which is the default.",
        )


def function_log(template: Template) -> Iterator[Fault]:
    """A log group that Lambda makes by itself has neither key nor end."""
    for function in _functions(template):
        yield from unless(
            template.refers(function.text("LoggingConfig.LogGroup"), "AWS::Logs::LogGroup"),
            function.where,
            "logs to a group that is not this stack's",
            hint="Name a log group of this stack in LoggingConfig.",
        )


def function_permission(template: Template) -> Iterator[Fault]:
    """Without SourceArn and SourceAccount anybody's bucket may call the function."""
    aliases = {f"${{{name}}}" for function in _functions(template) for name in _aliases(template, function)}
    for permission in template.of_type("AWS::Lambda::Permission"):
        checks = {
            "is for more than invoking": permission.text("Action") == "lambda:InvokeFunction",
            "is not for S3": permission.text("Principal") == "s3.amazonaws.com",
            "is not for the alias": permission.text("FunctionName") in aliases,
            "is for any bucket": template.refers(permission.text("SourceArn"), "AWS::S3::Bucket"),
            "is for any account": permission.text("SourceAccount") == "${AWS::AccountId}",
        }
        for what, holds in checks.items():
            yield from unless(
                holds,
                permission.where,
                what,
                hint="Let s3.amazonaws.com invoke the alias, for our bucket (SourceArn) and account (SourceAccount).",
            )


def _functions(template: Template) -> list[Resource]:
    return template.of_type("AWS::Lambda::Function")


def _aliases(template: Template, function: Resource) -> dict[str, str]:
    """Names of its aliases by their logical ids."""
    return {
        alias.id: alias.text("Name")
        for alias in template.of_type("AWS::Lambda::Alias")
        if alias.text("FunctionName") == f"${{{function.id}}}"
    }
