"""Key, queue, topic, logs, and repositories of images. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kennel.pipeline.rules.fault import Fault, unless
from kennel.pipeline.template import Resource, Template

_ENCRYPTED = {
    "AWS::SQS::Queue": "KmsMasterKeyId",
    "AWS::SNS::Topic": "KmsMasterKeyId",
    "AWS::Logs::LogGroup": "KmsKeyId",
}
_LONGEST_DAYS = 400


def key_rotates(template: Template) -> Iterator[Fault]:
    """A key that leaks must not open what is written next year."""
    for key in template.of_type("AWS::KMS::Key"):
        yield from unless(
            key.get("EnableKeyRotation") is True,
            key.where,
            "is never rotated",
            hint="Set EnableKeyRotation to true.",
        )


def encrypted_with_key(template: Template) -> Iterator[Fault]:
    """Failed events hold names of uploads, logs hold answers of the model: the stack's key encrypts both."""
    for resource in template.of_type(*_ENCRYPTED):
        yield from unless(
            template.refers(resource.text(_ENCRYPTED[resource.type]), "AWS::KMS::Key"),
            resource.where,
            "is not encrypted with the stack's key",
            hint=f"Set {_ENCRYPTED[resource.type]} to it.",
        )


def log_retention(template: Template) -> Iterator[Fault]:
    """A log without a retention is kept, and paid for, for ever."""
    for log in template.of_type("AWS::Logs::LogGroup"):
        days = log.get("RetentionInDays")
        yield from unless(
            isinstance(days, int) and 1 <= days <= _LONGEST_DAYS,
            log.where,
            f"keeps its events for {days or 'ever'}{' days' if days else ''}",
            hint=f"Set RetentionInDays to at most {_LONGEST_DAYS}.",
        )


def immutable_tags(template: Template) -> Iterator[Fault]:
    """Under a tag there must be the image that was tested under it."""
    for repository in _repositories(template):
        yield from unless(
            repository.get("ImageTagMutability") == "IMMUTABLE",
            repository.where,
            "lets tags be moved",
            hint="Set ImageTagMutability to IMMUTABLE.",
        )


def scanned_images(template: Template) -> Iterator[Fault]:
    """Known vulnerabilities of an image are found when it is pushed."""
    for repository in _repositories(template):
        yield from unless(
            repository.get("ImageScanningConfiguration.ScanOnPush") is True,
            repository.where,
            "does not scan images",
            hint="Set ScanOnPush to true.",
        )


def repository_lifecycle(template: Template) -> Iterator[Fault]:
    """Images that nothing names any more cost money for ever unless something ends them."""
    for repository in _repositories(template):
        yield from unless(
            '"untagged"' in repository.text("LifecyclePolicy.LifecyclePolicyText"),
            repository.where,
            "keeps untagged images for ever",
            hint="Give it a LifecyclePolicy that expires them.",
        )


def repository_encrypted(template: Template) -> Iterator[Fault]:
    """Images hold our code."""
    for repository in _repositories(template):
        yield from unless(
            repository.get("EncryptionConfiguration.EncryptionType") == "KMS",
            repository.where,
            "is not encrypted with a key of KMS",
            hint="Set EncryptionConfiguration to KMS.",
        )


def _repositories(template: Template) -> list[Resource]:
    return template.of_type("AWS::ECR::Repository")
