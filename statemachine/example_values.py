"""A template as a stack of it might be: every intrinsic function replaced by an example value. Pure.

Scanners judge what is deployed, and some of them know no intrinsic functions. Every condition holds, so that they
see all that the template can make.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kennel.pipeline.template import Resource, Template

REGION = "us-east-1"
ACCOUNT = "123456789012"

NAMES: Mapping[str, Any] = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::StackName": "kennel",
    "AWS::URLSuffix": "amazonaws.com",
    "LogExecutionData": "false",
    "Network": "on",
    "OtherRepositoryArns": [f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/other"],
    "Release": "releases/1/",
    "RolloutOnPush": "ENABLED",
    "S3PrefixList": "pl-63a5400a",
    "TrainingDataArns": ["arn:aws:s3:::images/*"],
    "TrainingDataBucketArns": ["arn:aws:s3:::images"],
}
"""Pseudo parameters and the template's own."""

_ARNS: Mapping[str, str] = {
    "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{{}}",
    "AWS::ECR::Repository": f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{{}}",
    "AWS::IAM::InstanceProfile": f"arn:aws:iam::{ACCOUNT}:instance-profile/{{}}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{}}",
    "AWS::KMS::Key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/00000000-0000-0000-0000-000000000000",
    "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{}}",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{}}:*",
    "AWS::S3::Bucket": "arn:aws:s3:::{}",
    "AWS::SNS::Topic": f"arn:aws:sns:{REGION}:{ACCOUNT}:{{}}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{}}",
    "AWS::StepFunctions::StateMachine": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{{}}",
}
_IDS: Mapping[str, str] = {
    "AWS::EC2::SecurityGroup": "sg-0123456789abcdef0",
    "AWS::EC2::Subnet": "subnet-0123456789abcdef0",
}
_REF_IS_ARN = ("AWS::SNS::Topic", "AWS::StepFunctions::StateMachine")
_PLACEHOLDER = re.compile(r"\$\{([^!}]+)\}")
_NO_VALUE = {"Ref": "AWS::NoValue"}


Kind = Literal["identity", "resource", "trust"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy document of the template. `identity` says what its owner may do, the others who may do it there."""

    owner: str
    kind: Kind
    document: dict[str, Any]


def with_examples(template: Template) -> dict[str, Any]:
    """The template's document without intrinsic functions and conditions. Raises ValueError for one not known here."""
    resources = template.resources
    return {
        **{key: template.document[key] for key in ("AWSTemplateFormatVersion", "Description")},
        "Resources": {name: _resolved(_unconditional(each.body), resources) for name, each in resources.items()},
    }


def policies(document: Mapping[str, Any]) -> Iterator[Policy]:
    """Every policy of a document that `with_examples` made."""
    for name, resource in document["Resources"].items():
        own: Kind = "identity" if resource["Type"].startswith("AWS::IAM::") else "resource"
        kinds: dict[str, Kind] = {"PolicyDocument": own, "KeyPolicy": own, "AssumeRolePolicyDocument": "trust"}
        properties = resource.get("Properties", {})
        for holder in (*properties.get("Policies", ()), properties):
            for key in kinds.keys() & holder.keys():
                body = holder[key]
                yield Policy(owner=name, kind=kinds[key], document=json.loads(body) if isinstance(body, str) else body)


def _unconditional(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in body.items() if key != "Condition"}


def _resolved(value: Any, resources: Mapping[str, Resource]) -> Any:
    result: Any

    def inner(part: Any) -> Any:
        return _resolved(part, resources)

    match value:
        case {"Ref": name}:
            result = _example(name, "", resources)
        case {"Fn::GetAtt": [name, attribute]}:
            result = _example(name, attribute, resources)
        case {"Fn::Sub": [text, names]}:
            result = _substituted(text, {name: inner(each) for name, each in names.items()}, resources)
        case {"Fn::Sub": text}:
            result = _substituted(text, {}, resources)
        case {"Fn::Join": [separator, parts]}:
            result = separator.join(inner(parts))
        case {"Fn::Split": [separator, text]}:
            result = inner(text).split(separator)
        case {"Fn::Select": [number, {"Fn::GetAZs": _}]}:
            result = f"{REGION}{'abcdef'[int(number)]}"
        case {"Fn::If": [_, yes, no]} if no == _NO_VALUE:
            result = inner(yes)
        case dict() if any(str(key).startswith("Fn::") for key in value):
            raise ValueError(f"{value} is not known here: add it")
        case dict():
            result = {key: inner(part) for key, part in value.items()}
        case list():
            result = [inner(part) for part in value]
        case _:
            result = value
    return result


def _substituted(text: str, names: Mapping[str, Any], resources: Mapping[str, Resource]) -> str:
    def value(found: re.Match[str]) -> str:
        name, _, attribute = found[1].partition(".")
        return str(names[name] if name in names else _example(name, attribute, resources))

    return _PLACEHOLDER.sub(value, text)


def _example(name: str, attribute: str, resources: Mapping[str, Resource]) -> Any:
    if name in NAMES:
        return NAMES[name]
    kind = resources[name].type
    if attribute == "Arn" or (not attribute and kind in _REF_IS_ARN):
        return _ARNS[kind].format(name.lower())
    return _IDS.get(kind, name.lower())
