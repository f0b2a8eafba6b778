"""What IAM must know of the account beyond a request: the shape of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from kennel.local.iam.evaluation import Policy


class Facts(Protocol):
    """The account as it is now. Keys are named by their ARN; empty where there is none."""

    def role_policies(self, role_arn: str) -> Sequence[Policy]:
        """The policies of a role, inline and attached; none for a role that does not exist."""
        ...

    def boundary(self, role_arn: str) -> Sequence[Policy] | None:
        """The permissions boundary of a role; None if it has none."""
        ...

    def trust(self, role_arn: str) -> Policy | None:
        """The trust policy of a role; None if there is no such role."""
        ...

    def resource_policy(self, arn: str) -> Sequence[Policy]:
        """The policy of a bucket (of an object: its bucket's), key, topic, queue or function; none if it has none."""
        ...

    def key_arn(self, key: str) -> str:
        """The ARN of a key that is given by id, alias or ARN."""
        ...

    def bucket_key(self, bucket: str) -> str:
        """The key with which a bucket encrypts by default."""
        ...

    def object_key(self, bucket: str, name: str, version: str) -> str:
        """The key with which an object is encrypted."""
        ...

    def topic_key(self, arn: str) -> str:
        """The key with which a topic encrypts."""
        ...

    def queue_key(self, arn: str) -> str:
        """The key with which a queue encrypts."""
        ...

    def log_group_exists(self, name: str) -> bool:
        """Whether there is a log group of that name."""
        ...

    def vpc_arn(self, subnet: str) -> str:
        """The VPC that a subnet is in."""
        ...

    def state_machine(self, arn: str) -> Mapping[str, Any]:
        """A state machine in the shape of CreateStateMachine; empty if there is none."""
        ...

    def state_machine_of(self, role_arn: str) -> str:
        """The ARN of a state machine with that role; empty if there is none."""
        ...

    def function(self, name: str) -> Mapping[str, Any]:
        """A function in the shape of CreateFunction, without its code; empty if there is none."""
        ...

    def endpoint_config(self, endpoint: str) -> str:
        """The name of the configuration of a SageMaker endpoint; empty if there is no such endpoint."""
        ...
