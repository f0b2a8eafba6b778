"""One thing that somebody wants to do, as IAM sees it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Context = Mapping[str, str | Sequence[str]]
"""Condition key → its value, or its values where AWS says that it has many."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """An action on a resource. `resource` is an ARN, or `*` where AWS knows no resource for the action."""

    action: str
    resource: str = "*"
    context: Context = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One API call: botocore's name of the service and of the operation, parameters in botocore's shapes."""

    service: str
    operation: str
    parameters: Mapping[str, Any]
    region: str
    account: str

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource of this account in this region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"
