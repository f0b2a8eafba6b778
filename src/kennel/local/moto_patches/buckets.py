"""Takes buckets as S3 does: their policies have conditions, and logs may be asked for before they are allowed."""

from __future__ import annotations

import json
from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket, S3Backend

from kennel.local.iam.access import Access
from kennel.local.iam.evaluation import Effect, Policy, Principal, evaluate


def apply() -> None:
    """Change moto in this process."""
    # moto wants the log bucket's policy to be there first; S3 looks at it when it delivers (a stack in which the policy
    # names the logged bucket by GetAtt, as the CDK writes it, could never be made otherwise)
    FakeBucket._log_permissions_enabled_policy = staticmethod(_allowed)

    # moto reads a bucket's policy without its conditions: one that denies what comes without TLS would deny everything
    FakeBucket.get_permission = _permission

    # moto puts a made-up line into the log bucket within the request that it is about, so that buckets which were only
    # just made could not be removed any more; S3 delivers hours later, "best effort". Here access logs are not written
    S3Backend.log_incoming_request = _not_logged


_RESULTS = {
    Effect.ALLOW: PermissionResult.PERMITTED,
    Effect.EXPLICIT_DENY: PermissionResult.DENIED,
    Effect.IMPLICIT_DENY: PermissionResult.NEUTRAL,
}


def _allowed(**_of_target: Any) -> bool:
    return True


def _not_logged(_backend: Any, _request: Any, _bucket_name: str) -> None:
    """Nothing."""


def _permission(bucket: Any, action: str, resource: str) -> PermissionResult:
    """What the bucket's policy says to everybody. Of roles, `kennel.local.iam` judges before moto is asked."""
    if bucket.policy is None:
        return PermissionResult.NEUTRAL
    policy = Policy(name=bucket.name, document=json.loads(bucket.policy))
    access = Access(action=action, resource=resource, context={"aws:SecureTransport": "true"})  # as in iam.roles
    return _RESULTS[evaluate([policy], access, principal=Principal()).effect]
