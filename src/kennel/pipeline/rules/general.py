"""What holds for the template as a whole. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from kennel.pipeline.rules.fault import Fault, unless
from kennel.pipeline.template import Template, text

LARGEST_BYTES = 51_200
"""What CloudFormation takes in the request itself; anything larger needs a bucket that does not exist yet."""

TYPES: Mapping[str, str] = {
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::EC2::LaunchTemplate": "LaunchTemplateName",
    "AWS::EC2::RouteTable": "Tags",
    "AWS::EC2::SecurityGroup": "Tags",
    "AWS::EC2::SecurityGroupEgress": "",
    "AWS::EC2::SecurityGroupIngress": "",
    "AWS::EC2::Subnet": "Tags",
    "AWS::EC2::SubnetRouteTableAssociation": "",
    "AWS::EC2::VPC": "Tags",
    "AWS::EC2::VPCEndpoint": "",
    "AWS::ECR::Repository": "RepositoryName",
    "AWS::Events::Rule": "Name",
    "AWS::IAM::InstanceProfile": "InstanceProfileName",
    "AWS::IAM::Policy": "",
    "AWS::IAM::Role": "RoleName",
    "AWS::KMS::Alias": "AliasName",
    "AWS::KMS::Key": "Description",
    "AWS::Lambda::Alias": "",
    "AWS::Lambda::EventInvokeConfig": "",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Lambda::Permission": "",
    "AWS::Lambda::Version": "",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::Logs::ResourcePolicy": "PolicyName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::S3::BucketPolicy": "",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SNS::TopicPolicy": "",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SQS::QueuePolicy": "",
    "AWS::StepFunctions::StateMachine": "StateMachineName",
}
"""Every type that the rules know, with the property that names a resource of it; empty for what is part of another."""

_SECRET_NAME = re.compile(r"password|passwd|secret|token|credential|private.?key|api.?key", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----")


def known_types(template: Template) -> Iterator[Fault]:
    """A resource of a type that no rule knows is reviewed by nobody; a type that is gone leaves its rules idle."""
    for resource in template.resources.values():
        yield from unless(
            resource.type in TYPES,
            resource.where,
            f"no rule knows {resource.type}",
            hint="Write the rules that it needs, then add it to TYPES.",
        )
    yield from unless(
        "Transform" not in template.document,
        "Transform",
        "makes resources that are not written here",
        hint="Write them out.",
    )
    for missing in sorted(TYPES.keys() - {resource.type for resource in template.resources.values()}):
        yield from unless(
            False, "Resources", f"there is no {missing}", hint="Put it back, or take it and its rules out of TYPES."
        )


def stack_names(template: Template) -> Iterator[Fault]:
    """Two stacks of one account must not meet, and what belongs to one is told by its name."""
    for resource in template.resources.values():
        if name := TYPES.get(resource.type):
            yield from unless(
                "AWS::StackName" in resource.text(name),
                resource.where,
                f"its {name} does not hold the stack's name",
                hint="Begin it with ${AWS::StackName}.",
            )


def nothing_left_behind(template: Template) -> Iterator[Fault]:
    """`run.py down` leaves nothing that costs; it asks before, and a replacement must not take data with it."""
    for resource in template.resources.values():
        yield from unless(
            resource.body.get("DeletionPolicy", "Delete") == "Delete",
            resource.where,
            "stays when the stack is deleted",
            hint="Set DeletionPolicy to Delete.",
        )
        yield from unless(
            "DeletionPolicy" not in resource.body or resource.body.get("UpdateReplacePolicy") == "Retain",
            resource.where,
            "loses its data when an update replaces it",
            hint="Set UpdateReplacePolicy to Retain.",
        )


def template_size(template: Template) -> Iterator[Fault]:
    """The first deployment has no bucket from which CloudFormation could read a larger one."""
    yield from unless(
        0 < template.size < LARGEST_BYTES,
        "the template",
        f"has {template.size} bytes",
        hint=f"Keep it under {LARGEST_BYTES}.",
    )


def documented_parameters(template: Template) -> Iterator[Fault]:
    """Who deploys must know what he decides."""
    for name, parameter in template.parameters.items():
        yield from unless(
            len(str(parameter.get("Description", "")).split()) >= 3,
            name,
            "says nothing about what it is for",
            hint="Describe the parameter.",
        )


def no_secrets(template: Template) -> Iterator[Fault]:
    """A template is read by many, kept for ever, and shown in the console."""
    for name in template.parameters:
        yield from unless(
            not _SECRET_NAME.search(name),
            name,
            "looks like a secret",
            hint="Keep secrets in Secrets Manager, and refer to them there.",
        )
    for resource in template.resources.values():
        yield from unless(
            not _SECRET_VALUE.search(text(resource.body)),
            resource.where,
            "holds what looks like a key",
            hint="Take it out, and have it replaced: whoever can read the template has it.",
        )
