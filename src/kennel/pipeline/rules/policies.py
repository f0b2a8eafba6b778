"""What the policies of resources let others do: of the key, buckets, queue, topic, and log. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kennel.pipeline.rules.fault import Fault, unless
from kennel.pipeline.template import Resource, Statement, Template

_NARROWING_TESTS = ("StringEquals", "ArnEquals", "ArnLike")
_NARROWING = ("aws:SourceAccount", "aws:SourceArn", "kms:EncryptionContext:aws:logs:arn")
_TLS_ONLY = {"Bool aws:SecureTransport": ("false",)}
_POLICIES = {
    "AWS::S3::Bucket": ("AWS::S3::BucketPolicy", "Bucket", "s3:*", ((".Arn", ""), (".Arn", "/*"))),
    "AWS::SQS::Queue": ("AWS::SQS::QueuePolicy", "Queues", "sqs:*", ((".Arn", ""),)),
    "AWS::SNS::Topic": ("AWS::SNS::TopicPolicy", "Topics", "sns:Publish", (("", ""),)),
}
"""By type: the type of its policy, the property that says whose it is, what can be called on it, and all of it."""

_WRITERS = (
    ("AWS::SNS::TopicPolicy", "cloudwatch.amazonaws.com", "sns:Publish"),
    ("AWS::SQS::QueuePolicy", "events.amazonaws.com", "sqs:SendMessage"),
    ("AWS::KMS::Key", "cloudwatch.amazonaws.com", "kms:GenerateDataKey"),
    ("AWS::KMS::Key", "events.amazonaws.com", "kms:GenerateDataKey"),
    ("AWS::KMS::Key", "logs.${AWS::Region}.amazonaws.com", "kms:GenerateDataKey"),
)
"""Where an AWS service writes by itself, with no role of ours: what must let it, who it is, and what it calls."""


def no_strangers(template: Template) -> Iterator[Fault]:
    """Nobody outside the account is let in; an AWS service only when it acts for this account."""
    root = "AWS:arn:${AWS::Partition}:iam::${AWS::AccountId}:root"
    for statement in template.resource_statements():
        if not statement.allows or template.resources[statement.owner].type == "AWS::EC2::VPCEndpoint":
            continue
        for principal in statement.principals:
            service = principal.startswith("Service:")
            ours = principal == root or template.refers(principal.removeprefix("AWS:"), "AWS::IAM::Role")
            yield from unless(
                ours or (service and _for_us(statement)),
                statement.where,
                f"lets {principal} in" + (" for any account" if service else ""),
                hint="Name this account, a role of this stack, or a service with the condition aws:SourceAccount.",
            )


def services_let_in(template: Template) -> Iterator[Fault]:
    """What AWS may not write is gone without a trace: an alarm that cannot publish, an event without its queue."""
    statements = [found for found in template.resource_statements() if found.allows]
    for kind, service, action in _WRITERS:
        for resource in template.of_type(kind):
            yield from unless(
                any(
                    found.owner == resource.id and f"Service:{service}" in found.principals and action in found.actions
                    for found in statements
                ),
                resource.where,
                f"does not let {service} call {action}",
                hint="Allow it, for this account.",
            )


def tls_only(template: Template) -> Iterator[Fault]:
    """Bucket, queue and topic answer plain http, too, unless a policy denies it."""
    for resource in template.of_type(*_POLICIES):
        yield from unless(
            _denies_http(template, resource),
            resource.where,
            "can be used without TLS",
            hint="Deny every action to everybody where aws:SecureTransport is false, on all of it.",
        )


def _for_us(statement: Statement) -> bool:
    """Whether a condition holds only where something of this account is the source."""
    return any(
        values and all("${AWS::AccountId}" in value for value in values)
        for condition, values in statement.conditions.items()
        if condition in {f"{test} {key}" for test in _NARROWING_TESTS for key in _NARROWING}
    )


def _denies_http(template: Template, resource: Resource) -> bool:
    kind, owner, action, parts = _POLICIES[resource.type]
    whole = {f"${{{resource.id}{attribute}}}{below}" for attribute, below in parts}
    return any(
        statement.effect == "Deny"
        and statement.principals == ("*",)
        and action in statement.actions
        and whole <= set(statement.resources)
        and statement.conditions == _TLS_ONLY
        for policy in template.of_type(kind)
        if f"${{{resource.id}}}" in policy.texts(owner)
        for statement in policy.statements("PolicyDocument")
    )
