"""Stacks, their resources, events and change sets, as CloudFormation describes them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kennel.local.cloudformation.kinds import Made, Properties
from kennel.local.cloudformation.template import Template

STACK_TYPE = "AWS::CloudFormation::Stack"


@dataclass(frozen=True, kw_only=True)
class StackResource:
    """A resource of a stack: what was last asked for, and what came of it. `made` is None if it never existed."""

    logical_id: str
    type: str
    status: str
    time: dt.datetime
    made: Made | None = None
    properties: Properties = field(default_factory=dict)
    depends_on: frozenset[str] = frozenset()
    deletion_policy: str = "Delete"
    reason: str = ""

    @property
    def exists(self) -> bool:
        """Whether there is such a resource, and it is the stack's."""
        return self.made is not None and self.status not in ("DELETE_COMPLETE", "DELETE_SKIPPED")

    def described(self) -> dict[str, Any]:
        """As DescribeStackResources and ListStackResources have it."""
        return {
            "LogicalResourceId": self.logical_id,
            "PhysicalResourceId": self.made.id if self.made else "",
            "ResourceType": self.type,
            "ResourceStatus": self.status,
            "ResourceStatusReason": self.reason or None,
            "Timestamp": self.time,
            "LastUpdatedTimestamp": self.time,
            "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
        }


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a change set does with one resource.

    `properties` are those that change, each with whether it makes a new resource; `dynamic` are those of them whose
    value only the execution will know.
    """

    action: str
    logical_id: str
    type: str
    physical_id: str = ""
    properties: Mapping[str, bool] = field(default_factory=dict)
    dynamic: frozenset[str] = frozenset()

    @property
    def replaces(self) -> bool:
        """Whether it makes a new resource."""
        return any(self.properties.values())

    def described(self) -> dict[str, Any]:
        """As DescribeChangeSet has it."""
        change: dict[str, Any] = {
            "Action": self.action,
            "LogicalResourceId": self.logical_id,
            "ResourceType": self.type,
            "Scope": ["Properties"] if self.properties else [],
            "Details": [self._detail(name, recreates) for name, recreates in self.properties.items()],
        }
        if self.physical_id:
            change["PhysicalResourceId"] = self.physical_id
        if self.action == "Modify":
            certain = any(recreates and name not in self.dynamic for name, recreates in self.properties.items())
            change["Replacement"] = "True" if certain else "Conditional" if self.replaces else "False"
        return {"Type": "Resource", "ResourceChange": change}

    def _detail(self, name: str, recreates: bool) -> dict[str, Any]:
        recreation = "Always" if recreates else "Never"
        return {
            "Target": {"Attribute": "Properties", "Name": name, "RequiresRecreation": recreation},
            "Evaluation": "Dynamic" if name in self.dynamic else "Static",
            "ChangeSource": "DirectModification",
        }


@dataclass(frozen=True, kw_only=True)
class ChangeSet:
    """A change set. `given` holds the parameters' values as text, the previous ones filled in."""

    arn: str
    name: str
    type: str
    stack_id: str
    stack_name: str
    description: str
    body: str
    given: Mapping[str, str]
    tags: list[dict[str, str]]
    capabilities: list[str]
    template: Template
    changes: tuple[Change, ...]
    time: dt.datetime
    reason: str = ""
    executed: str = ""

    @property
    def status(self) -> str:
        """FAILED where there is nothing to change."""
        return "FAILED" if self.reason else "CREATE_COMPLETE"

    @property
    def execution_status(self) -> str:
        """Whether it can be executed, or was."""
        return self.executed or ("UNAVAILABLE" if self.reason else "AVAILABLE")

    def summary(self) -> dict[str, Any]:
        """As ListChangeSets has it."""
        return {
            "ChangeSetId": self.arn,
            "ChangeSetName": self.name,
            "StackId": self.stack_id,
            "StackName": self.stack_name,
            "Description": self.description or None,
            "CreationTime": self.time,
            "Status": self.status,
            "StatusReason": self.reason or None,
            "ExecutionStatus": self.execution_status,
        }

    def described(self) -> dict[str, Any]:
        """As DescribeChangeSet has it."""
        return {
            **self.summary(),
            "Parameters": parameters_of(self.given),
            "Capabilities": self.capabilities,
            "Tags": self.tags,
            "Changes": [change.described() for change in self.changes],
        }


@dataclass(kw_only=True)
class Stack:
    """A stack as it is now, changed by its journal only. `deployed` is the change set that it is the outcome of."""

    id: str
    name: str
    created: dt.datetime
    status: str
    reason: str = ""
    updated: dt.datetime | None = None
    deleted: dt.datetime | None = None
    deployed: ChangeSet | None = None
    resources: dict[str, StackResource] = field(default_factory=dict)
    outputs: list[dict[str, str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def description(self) -> str:
        """Its template's."""
        return self.deployed.template.description if self.deployed else ""

    @property
    def busy(self) -> bool:
        """Whether something is being done to it."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    def summary(self) -> dict[str, Any]:
        """As ListStacks has it."""
        return {
            "StackId": self.id,
            "StackName": self.name,
            "TemplateDescription": self.description or None,
            "CreationTime": self.created,
            "LastUpdatedTime": self.updated,
            "DeletionTime": self.deleted,
            "StackStatus": self.status,
            "StackStatusReason": self.reason or None,
        }

    def described(self) -> dict[str, Any]:
        """As DescribeStacks has it."""
        return {
            **self.summary(),
            "Description": self.description or None,
            "ChangeSetId": self.deployed.arn if self.deployed else None,
            "Parameters": parameters_of(self.deployed.given if self.deployed else {}),
            "Outputs": self.outputs,
            "Capabilities": self.deployed.capabilities if self.deployed else [],
            "Tags": self.deployed.tags if self.deployed else [],
            "DisableRollback": False,
            "EnableTerminationProtection": False,
            "NotificationARNs": [],
            "RollbackConfiguration": {},
            "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
        }


def parameters_of(given: Mapping[str, str]) -> list[dict[str, str]]:
    """Parameters as the API lists them."""
    return [{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()]
