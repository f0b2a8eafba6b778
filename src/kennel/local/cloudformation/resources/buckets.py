"""AWS::S3::Bucket, AWS::S3::BucketPolicy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kennel.local.cloudformation.api import Api
from kennel.local.cloudformation.kinds import (
    Changed,
    Kind,
    Made,
    Properties,
    Wanted,
    must_not_exist,
    names,
    or_undone,
)

Setting = Callable[[Api, str, Any], None]
"""Sets or, for None, unsets one property of the bucket of that name."""


def _versioning(api: Api, bucket: str, value: Any) -> None:
    api("s3", "PutBucketVersioning", Bucket=bucket, VersioningConfiguration=value or {"Status": "Suspended"})


def _encryption(api: Api, bucket: str, value: Any) -> None:
    if value is None:
        api("s3", "DeleteBucketEncryption", Bucket=bucket)
        return
    renamed = {"ServerSideEncryptionByDefault": "ApplyServerSideEncryptionByDefault"}
    rules = [_renamed(rule, renamed) for rule in value["ServerSideEncryptionConfiguration"]]
    api("s3", "PutBucketEncryption", Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})


def _public_access(api: Api, bucket: str, value: Any) -> None:
    if value is None:
        api("s3", "DeletePublicAccessBlock", Bucket=bucket)
    else:
        api("s3", "PutPublicAccessBlock", Bucket=bucket, PublicAccessBlockConfiguration=value)


def _ownership(api: Api, bucket: str, value: Any) -> None:
    if value is None:
        api("s3", "DeleteBucketOwnershipControls", Bucket=bucket)
    else:
        api("s3", "PutBucketOwnershipControls", Bucket=bucket, OwnershipControls=value)


def _logging(api: Api, bucket: str, value: Any) -> None:
    target = {"DestinationBucketName": "TargetBucket", "LogFilePrefix": "TargetPrefix"}
    enabled = {"TargetPrefix": "", **_renamed(value, target)} if value else None
    api("s3", "PutBucketLogging", Bucket=bucket, BucketLoggingStatus={"LoggingEnabled": enabled} if enabled else {})


def _lifecycle(api: Api, bucket: str, value: Any) -> None:
    if value is None:
        api("s3", "DeleteBucketLifecycle", Bucket=bucket)
        return
    rules = [_lifecycle_rule(rule) for rule in value["Rules"]]
    api("s3", "PutBucketLifecycleConfiguration", Bucket=bucket, LifecycleConfiguration={"Rules": rules})


def _lifecycle_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """The API's rule: an object for what the template has in a property `ExpirationInDays`, a filter always."""
    rest = {key: value for key, value in rule.items() if key not in ("Prefix", "ExpirationInDays", "Id")}
    days = {"Expiration": {"Days": rule["ExpirationInDays"]}} if "ExpirationInDays" in rule else {}
    return {"ID": rule.get("Id", ""), "Filter": {"Prefix": rule.get("Prefix", "")}, **days, **rest}


def _tags(api: Api, bucket: str, value: Any) -> None:
    if value is None:
        api("s3", "DeleteBucketTagging", Bucket=bucket)
    else:
        api("s3", "PutBucketTagging", Bucket=bucket, Tagging={"TagSet": value})


def _renamed(value: Mapping[str, Any], others: Mapping[str, str]) -> dict[str, Any]:
    return {others.get(key, key): item for key, item in value.items()}


_SETTINGS: Mapping[str, Setting] = {
    "VersioningConfiguration": _versioning,
    "BucketEncryption": _encryption,
    "PublicAccessBlockConfiguration": _public_access,
    "OwnershipControls": _ownership,
    "LifecycleConfiguration": _lifecycle,
    "LoggingConfiguration": _logging,
    "Tags": _tags,
}


def _make_bucket(api: Api, wanted: Wanted) -> Made:
    name = wanted.name("BucketName").lower()
    where = {} if wanted.region == "us-east-1" else {"LocationConstraint": wanted.region}
    must_not_exist(api, "s3", "GetBucketLocation", Bucket=name)
    api("s3", "CreateBucket", Bucket=name, CreateBucketConfiguration=where or None)
    with or_undone(lambda: api("s3", "DeleteBucket", Bucket=name)):
        for setting, apply in _SETTINGS.items():
            if setting in wanted.properties:
                apply(api, name, wanted[setting])
    return Made(
        id=name,
        attributes={
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{wanted.region}.amazonaws.com",
        },
    )


def _update_bucket(api: Api, changed: Changed) -> Made:
    for setting, apply in _SETTINGS.items():
        if changed.differs(setting):
            apply(api, changed.id, changed.get(setting))
    return changed.made


def _remove_bucket(api: Api, made: Made, _properties: Properties) -> None:
    api("s3", "DeleteBucket", Bucket=made.id)


def _make_policy(api: Api, wanted: Wanted) -> Made:
    must_not_exist(api, "s3", "GetBucketPolicy", Bucket=wanted["Bucket"])
    return _put_policy(api, wanted)


def _put_policy(api: Api, wanted: Wanted) -> Made:
    api("s3", "PutBucketPolicy", Bucket=wanted["Bucket"], Policy=wanted["PolicyDocument"])
    return Made(id=wanted["Bucket"])


def _update_policy(api: Api, changed: Changed) -> Made:
    return _put_policy(api, changed.wanted)


def _remove_policy(api: Api, made: Made, _properties: Properties) -> None:
    api("s3", "DeleteBucketPolicy", Bucket=made.id)


KINDS: Mapping[str, Kind] = {
    "AWS::S3::Bucket": Kind(
        attributes=names("Arn DomainName RegionalDomainName"),
        properties=frozenset(_SETTINGS) | {"BucketName"},
        fixed=names("BucketName"),
        name="BucketName",
        make=_make_bucket,
        update=_update_bucket,
        remove=_remove_bucket,
    ),
    "AWS::S3::BucketPolicy": Kind(
        properties=names("Bucket PolicyDocument"),
        fixed=names("Bucket"),
        make=_make_policy,
        update=_update_policy,
        remove=_remove_policy,
    ),
}
