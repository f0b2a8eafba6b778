"""Buckets. The one that receives access logs is the exception in two of the rules: it keeps none of itself. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kennel.pipeline.rules.fault import Fault, unless
from kennel.pipeline.template import Resource, Template

_BLOCKS = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
_ENCRYPTION = "BucketEncryption.ServerSideEncryptionConfiguration.0.ServerSideEncryptionByDefault"


def bucket_private(template: Template) -> Iterator[Fault]:
    """Neither an ACL nor a policy may ever make an object public."""
    for bucket in _buckets(template):
        for block in _BLOCKS:
            yield from unless(
                bucket.get(f"PublicAccessBlockConfiguration.{block}") is True,
                bucket.where,
                f"{block} is not true",
                hint="Set all four of PublicAccessBlockConfiguration.",
            )


def bucket_owner(template: Template) -> Iterator[Fault]:
    """With ACLs off, what is in the bucket is ours whoever wrote it, and policies alone decide."""
    for bucket in _buckets(template):
        yield from unless(
            bucket.get("OwnershipControls.Rules.0.ObjectOwnership") == "BucketOwnerEnforced",
            bucket.where,
            "ACLs are not off",
            hint="Set OwnershipControls to BucketOwnerEnforced.",
        )


def bucket_encrypted(template: Template) -> Iterator[Fault]:
    """Photos and models are encrypted with the stack's key; S3 delivers access logs only where it is S3's own."""
    logs = _log_buckets(template)
    for bucket in _buckets(template):
        algorithm, key = bucket.get(f"{_ENCRYPTION}.SSEAlgorithm"), bucket.text(f"{_ENCRYPTION}.KMSMasterKeyID")
        with_key = algorithm == "aws:kms" and template.refers(key, "AWS::KMS::Key")
        yield from unless(
            with_key or (bucket.id in logs and algorithm == "AES256"),
            bucket.where,
            "is not encrypted with the stack's key",
            hint="Set BucketEncryption to aws:kms and the key's ARN.",
        )


def bucket_versioned(template: Template) -> Iterator[Fault]:
    """What is overwritten or deleted by mistake can be had back."""
    for bucket in _buckets(template):
        yield from unless(
            bucket.get("VersioningConfiguration.Status") == "Enabled",
            bucket.where,
            "keeps no versions",
            hint="Set VersioningConfiguration to Enabled.",
        )


def bucket_lifecycle(template: Template) -> Iterator[Fault]:
    """Old versions and broken uploads cost money for ever unless something ends them."""
    for bucket in _buckets(template):
        enabled = [rule for rule in bucket.items("LifecycleConfiguration.Rules") if rule.get("Status") == "Enabled"]
        for what in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"):
            yield from unless(
                any(what in rule and "Prefix" not in rule for rule in enabled),
                bucket.where,
                f"no lifecycle rule of the whole bucket has {what}",
                hint=f"Add an enabled rule with {what}.",
            )


def bucket_access_logs(template: Template) -> Iterator[Fault]:
    """Who read what is written down, in a bucket of this stack that S3 may write to."""
    logs = _log_buckets(template)
    for bucket in _buckets(template):
        yield from unless(
            bucket.id in logs or _logs_bucket(template, bucket) is not None,
            bucket.where,
            "keeps no access logs",
            hint="Set LoggingConfiguration to a bucket of this stack.",
        )
    for name in sorted(logs):
        receives = any(
            statement.allows
            and statement.principals == ("Service:logging.s3.amazonaws.com",)
            and statement.actions == ("s3:PutObject",)
            for policy in template.of_type("AWS::S3::BucketPolicy")
            if policy.text("Bucket") == f"${{{name}}}"
            for statement in policy.statements("PolicyDocument")
        )
        yield from unless(
            receives,
            template.resources[name].where,
            "does not let S3 deliver access logs",
            hint="Allow s3:PutObject to logging.s3.amazonaws.com in its policy.",
        )


def _buckets(template: Template) -> list[Resource]:
    return template.of_type("AWS::S3::Bucket")


def _logs_bucket(template: Template, bucket: Resource) -> Resource | None:
    destination = template.referred(bucket.text("LoggingConfiguration.DestinationBucketName"))
    return destination if destination and destination.type == bucket.type else None


def _log_buckets(template: Template) -> set[str]:
    return {found.id for bucket in _buckets(template) if (found := _logs_bucket(template, bucket))}
