"""Reads what IAM must know of the account out of moto, which keeps it; see `facts.Facts`.

The one module here that knows moto's backends. It changes nothing, and takes each backend only when it is asked for:
most take long to import.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from moto.backends import get_backend
from moto.core.exceptions import ServiceException
from werkzeug.exceptions import HTTPException

from kennel.local.iam.evaluation import Policy

_MISSING = (HTTPException, ServiceException, KeyError)
"""How moto says that there is no such thing."""


class MotoAccount:
    """An account in one region. `endpoint_config` tells the name of a SageMaker endpoint's configuration."""

    def __init__(self, *, account: str, region: str, endpoint_config: Callable[[str], str]) -> None:
        self._account = account
        self._region = region
        self.endpoint_config = endpoint_config

    def role_policies(self, role_arn: str) -> Sequence[Policy]:
        """See `Facts`."""
        role = self._role(role_arn)
        if role is None:
            return []
        inline = [Policy(name=name, document=_parsed(document)) for name, document in role.policies.items()]
        return [*inline, *(_managed(policy) for policy in role.managed_policies.values())]

    def boundary(self, role_arn: str) -> Sequence[Policy] | None:
        """See `Facts`. A boundary that does not exist allows nothing."""
        role = self._role(role_arn)
        if role is None or not role.permissions_boundary_arn:
            return None
        with contextlib.suppress(*_MISSING):
            return [_managed(self._iam().get_policy(role.permissions_boundary_arn))]
        return []

    def trust(self, role_arn: str) -> Policy | None:
        """See `Facts`."""
        role = self._role(role_arn)
        if role is None:
            return None
        return Policy(name=f"trust policy of {role.name}", document=_parsed(role.assume_role_policy_document))

    def resource_policy(self, arn: str) -> Sequence[Policy]:
        """See `Facts`."""
        _, _, service, *_, resource = arn.split(":", 5) if arn.count(":") >= 5 else ("", "", "", "")
        text: Any = None
        with contextlib.suppress(*_MISSING):
            match service:
                case "s3":
                    text = self._of("s3", "aws").get_bucket(resource.partition("/")[0]).policy
                case "kms":
                    text = self._key(arn).policy
                case "sns":
                    text = self._of("sns").get_topic(arn).policy
                case "sqs":
                    text = self._queue(arn).policy
                case "lambda":
                    name = resource.removeprefix("function:").partition(":")[0]
                    text = self._of("lambda").get_function(name).policy.get_policy()["Policy"]
        return [Policy(name=f"policy of {arn}", document=_parsed(text))] if text else []

    def key_arn(self, key: str) -> str:
        """See `Facts`; what is not found is named as it would be."""
        with contextlib.suppress(*_MISSING):
            return str(self._key(key).arn)
        return key if key.startswith("arn:") else f"arn:aws:kms:{self._region}:{self._account}:key/{key}"

    def bucket_key(self, bucket: str) -> str:
        """See `Facts`."""
        with contextlib.suppress(*_MISSING, TypeError):
            rule = self._of("s3", "aws").get_bucket(bucket).encryption["Rule"]
            rule = rule[0] if isinstance(rule, list) else rule
            default = rule["ApplyServerSideEncryptionByDefault"]
            return self.key_arn(default["KMSMasterKeyID"]) if default["SSEAlgorithm"] == "aws:kms" else ""
        return ""

    def object_key(self, bucket: str, name: str, version: str) -> str:
        """See `Facts`. Without a key of its own, S3's own key encrypts it, which needs no permission."""
        with contextlib.suppress(*_MISSING):
            found = self._of("s3", "aws").get_object(bucket, name, version_id=version or None)
            if found is not None and found.encryption == "aws:kms" and found.kms_key_id:
                return self.key_arn(found.kms_key_id)
        return ""

    def topic_key(self, arn: str) -> str:
        """See `Facts`."""
        with contextlib.suppress(*_MISSING):
            key = self._of("sns").get_topic(arn).kms_master_key_id
            return self.key_arn(key) if key else ""
        return ""

    def queue_key(self, arn: str) -> str:
        """See `Facts`."""
        with contextlib.suppress(*_MISSING):
            key = self._queue(arn).kms_master_key_id
            return self.key_arn(key) if key else ""
        return ""

    def log_group_exists(self, name: str) -> bool:
        """See `Facts`."""
        return name in self._of("logs").groups

    def vpc_arn(self, subnet: str) -> str:
        """See `Facts`; empty for a subnet that does not exist."""
        with contextlib.suppress(*_MISSING):
            vpc = self._of("ec2").get_subnet(subnet).vpc_id
            return f"arn:aws:ec2:{self._region}:{self._account}:vpc/{vpc}"
        return ""

    def state_machine(self, arn: str) -> Mapping[str, Any]:
        """See `Facts`."""
        with contextlib.suppress(*_MISSING):
            found = self._of("stepfunctions").describe_state_machine(arn)
            return {
                "roleArn": found.roleArn,
                "definition": found.definition,
                "loggingConfiguration": found.loggingConfiguration,
                "tracingConfiguration": found.tracingConfiguration,
            }
        return {}

    def state_machine_of(self, role_arn: str) -> str:
        """See `Facts`."""
        machines = self._of("stepfunctions").state_machines
        return next((str(machine.arn) for machine in machines if machine.roleArn == role_arn), "")

    def function(self, name: str) -> Mapping[str, Any]:
        """See `Facts`."""
        with contextlib.suppress(*_MISSING):
            return dict(self._of("lambda").get_function(name).get_configuration())
        return {}

    def _of(self, service: str, region: str = "") -> Any:
        return get_backend(service)[self._account][region or self._region]

    def _iam(self) -> Any:
        return self._of("iam", "aws")

    def _role(self, role_arn: str) -> Any:
        return next((role for role in self._iam().get_roles() if role.arn == role_arn), None)

    def _key(self, key: str) -> Any:
        return self._of("kms").describe_key(key)

    def _queue(self, arn: str) -> Any:
        return self._of("sqs").get_queue(arn.rpartition(":")[2])


def _managed(policy: Any) -> Policy:
    default = next(version for version in policy.versions if version.is_default)
    return Policy(name=policy.name, document=_parsed(default.document))


def _parsed(document: Any) -> Mapping[str, Any]:
    """Documents are kept as they came: text, bytes, or parsed by CloudFormation."""
    parsed: Mapping[str, Any] = json.loads(document) if isinstance(document, str | bytes) else document
    return parsed
