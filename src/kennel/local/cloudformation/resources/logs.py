"""AWS::Logs::LogGroup, AWS::Logs::ResourcePolicy."""

from __future__ import annotations

from collections.abc import Mapping

from kennel.local.cloudformation.api import Api
from kennel.local.cloudformation.kinds import Changed, Kind, Made, Properties, Wanted, names, or_undone


def _make_group(api: Api, wanted: Wanted) -> Made:
    name = wanted.name("LogGroupName")
    api("logs", "CreateLogGroup", logGroupName=name, kmsKeyId=wanted.get("KmsKeyId"))
    with or_undone(lambda: api("logs", "DeleteLogGroup", logGroupName=name)):
        if days := wanted.get("RetentionInDays"):
            api("logs", "PutRetentionPolicy", logGroupName=name, retentionInDays=days)
    return Made(id=name, attributes={"Arn": wanted.arn("logs", f"log-group:{name}:*")})


def _update_group(api: Api, changed: Changed) -> Made:
    if changed.differs("RetentionInDays"):
        if days := changed.get("RetentionInDays"):
            api("logs", "PutRetentionPolicy", logGroupName=changed.id, retentionInDays=days)
        else:
            api("logs", "DeleteRetentionPolicy", logGroupName=changed.id)
    if changed.differs("KmsKeyId"):
        if key := changed.get("KmsKeyId"):
            api("logs", "AssociateKmsKey", logGroupName=changed.id, kmsKeyId=key)
        else:
            api("logs", "DisassociateKmsKey", logGroupName=changed.id)
    return changed.made


def _remove_group(api: Api, made: Made, _properties: Properties) -> None:
    api("logs", "DeleteLogGroup", logGroupName=made.id)


def _put_policy(api: Api, wanted: Wanted) -> Made:
    name = wanted["PolicyName"]
    api("logs", "PutResourcePolicy", policyName=name, policyDocument=wanted["PolicyDocument"])
    return Made(id=name)


def _update_policy(api: Api, changed: Changed) -> Made:
    return _put_policy(api, changed.wanted)


def _remove_policy(api: Api, made: Made, _properties: Properties) -> None:
    api("logs", "DeleteResourcePolicy", policyName=made.id)


KINDS: Mapping[str, Kind] = {
    "AWS::Logs::LogGroup": Kind(
        attributes=names("Arn"),
        properties=names("LogGroupName RetentionInDays KmsKeyId"),
        fixed=names("LogGroupName"),
        name="LogGroupName",
        make=_make_group,
        update=_update_group,
        remove=_remove_group,
    ),
    "AWS::Logs::ResourcePolicy": Kind(
        properties=names("PolicyName PolicyDocument"),
        fixed=names("PolicyName"),
        name="PolicyName",
        make=_put_policy,
        update=_update_policy,
        remove=_remove_policy,
    ),
}
