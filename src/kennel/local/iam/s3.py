"""What S3's calls need, the keys of encrypted buckets included. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from kennel.local.iam.access import Access, Call
from kennel.local.iam.facts import Facts
from kennel.local.iam.kms import uses

_ON_BUCKET: Mapping[str, str] = {
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "GetBucketLocation": "GetBucketLocation",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
}
_ON_OBJECT: Mapping[str, str] = {
    "GetObject": "GetObject",
    "HeadObject": "GetObject",
    "PutObject": "PutObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "AbortMultipartUpload": "AbortMultipartUpload",
    "ListParts": "ListMultipartUploadParts",
    "DeleteObject": "DeleteObject",
}
_OF_VERSION = ("GetObject", "DeleteObject")
_MULTIPART = ("CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload")


def accesses(call: Call, facts: Facts) -> list[Access] | None:
    """What the caller must be allowed; None for an operation that is not known here."""
    given, operation = call.parameters, call.operation
    bucket = given.get("Bucket", "")
    if operation == "ListBuckets":
        return [Access(action="s3:ListAllMyBuckets")]
    if operation in _ON_BUCKET:
        context = {
            key: str(given[name])
            for key, name in (("s3:prefix", "Prefix"), ("s3:delimiter", "Delimiter"), ("s3:max-keys", "MaxKeys"))
            if name in given
        }
        return [Access(action=f"s3:{_ON_BUCKET[operation]}", resource=f"arn:aws:s3:::{bucket}", context=context)]
    if operation == "DeleteObjects":
        named = given["Delete"]["Objects"]
        return [_object("DeleteObject", bucket, one["Key"], one.get("VersionId", "")) for one in named]
    if operation not in _ON_OBJECT:
        return None
    key, version = given["Key"], given.get("VersionId", "")
    needed = [_object(_ON_OBJECT[operation], bucket, key, version, given)]
    if operation == "GetObject":
        needed += _decrypt(call, facts, bucket, key, version)
    if _ON_OBJECT[operation] == "PutObject":
        if source := given.get("CopySource"):
            needed += _source(call, facts, str(source))
        own = given.get("SSEKMSKeyId") or ("" if given.get("ServerSideEncryption") == "AES256" else None)
        encrypting = facts.bucket_key(bucket) if own is None else own and facts.key_arn(own)
        # the parts of an upload are read again to be put together
        actions = ("GenerateDataKey", "Decrypt") if operation in _MULTIPART else ("GenerateDataKey",)
        needed += uses(encrypting, call, *actions, via="s3", context=_encryption_context(bucket, key))
    return needed


def _source(call: Call, facts: Facts, source: str) -> list[Access]:
    path, _, version = source.partition("?versionId=")
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    return [_object("GetObject", bucket, key, version), *_decrypt(call, facts, bucket, key, version)]


def _decrypt(call: Call, facts: Facts, bucket: str, key: str, version: str) -> list[Access]:
    context = _encryption_context(bucket, key)
    return uses(facts.object_key(bucket, key, version), call, "Decrypt", via="s3", context=context)


def _encryption_context(bucket: str, key: str) -> dict[str, str]:
    return {"kms:EncryptionContext:aws:s3:arn": f"arn:aws:s3:::{bucket}/{key}"}


def _object(action: str, bucket: str, key: str, version: str, given: Mapping[str, object] | None = None) -> Access:
    suffix = "Version" if version and action in _OF_VERSION else ""
    asked = {
        "s3:x-amz-server-side-encryption": (given or {}).get("ServerSideEncryption"),
        "s3:x-amz-server-side-encryption-aws-kms-key-id": (given or {}).get("SSEKMSKeyId"),
        "s3:VersionId": version,
    }
    return Access(
        action=f"s3:{action}{suffix}",
        resource=f"arn:aws:s3:::{bucket}/{key}",
        context={name: str(value) for name, value in asked.items() if value},
    )
