"""AWS::KMS::Key, AWS::KMS::Alias."""

from __future__ import annotations

from collections.abc import Mapping

from kennel.local.cloudformation.api import Api
from kennel.local.cloudformation.kinds import Changed, Kind, Made, Properties, Wanted, names


def _is_true(value: object) -> bool:
    return str(value).lower() == "true"


def _make_key(api: Api, wanted: Wanted) -> Made:
    made = api("kms", "CreateKey", Description=wanted.get("Description", ""), Policy=wanted["KeyPolicy"])
    key = made["KeyMetadata"]
    if _is_true(wanted.get("EnableKeyRotation")):
        api("kms", "EnableKeyRotation", KeyId=key["KeyId"])
    return Made(id=key["KeyId"], attributes={"Arn": key["Arn"], "KeyId": key["KeyId"]})


def _update_key(api: Api, changed: Changed) -> Made:
    if changed.differs("Description"):
        api("kms", "UpdateKeyDescription", KeyId=changed.id, Description=changed.get("Description", ""))
    if changed.differs("KeyPolicy"):
        api("kms", "PutKeyPolicy", KeyId=changed.id, PolicyName="default", Policy=changed.wanted["KeyPolicy"])
    if changed.differs("EnableKeyRotation"):
        on = _is_true(changed.get("EnableKeyRotation"))
        api("kms", "EnableKeyRotation" if on else "DisableKeyRotation", KeyId=changed.id)
    return changed.made


def _remove_key(api: Api, made: Made, properties: Properties) -> None:
    api("kms", "ScheduleKeyDeletion", KeyId=made.id, PendingWindowInDays=properties.get("PendingWindowInDays", 30))


def _make_alias(api: Api, wanted: Wanted) -> Made:
    api("kms", "CreateAlias", AliasName=wanted["AliasName"], TargetKeyId=wanted["TargetKeyId"])
    return Made(id=wanted["AliasName"])


def _update_alias(api: Api, changed: Changed) -> Made:
    api("kms", "UpdateAlias", AliasName=changed.id, TargetKeyId=changed.wanted["TargetKeyId"])
    return changed.made


def _remove_alias(api: Api, made: Made, _properties: Properties) -> None:
    api("kms", "DeleteAlias", AliasName=made.id)


KINDS: Mapping[str, Kind] = {
    "AWS::KMS::Key": Kind(
        attributes=names("Arn KeyId"),
        properties=names("Description KeyPolicy EnableKeyRotation PendingWindowInDays"),
        make=_make_key,
        update=_update_key,
        remove=_remove_key,
    ),
    "AWS::KMS::Alias": Kind(
        properties=names("AliasName TargetKeyId"),
        fixed=names("AliasName"),
        name="AliasName",
        make=_make_alias,
        update=_update_alias,
        remove=_remove_alias,
    ),
}
