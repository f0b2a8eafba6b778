"""One CloudFormation stack: its change sets, their execution and deletion, told event by event.

Knows nothing of what is in the template. Every function may be interrupted and called again: what CloudFormation has
begun goes on without us, and is waited for first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from botocore.exceptions import ClientError

from kennel.errors import PipelineFailed
from kennel.pipeline.aws import Aws

Action = Literal["Add", "Modify", "Remove", "Import", "Dynamic", "SyncWithActual"]

_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
_GONE = "DELETE_COMPLETE"
_DEAD_ENDS = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
"""A stack in one of these can only be deleted."""

_PATIENCE_SECONDS = 3600.0


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a change set does to one resource."""

    action: Action
    type: str
    name: str
    """The logical id in the template."""

    replaced: bool = False
    why: tuple[str, ...] = ()
    """The properties that differ."""


@dataclass(frozen=True, kw_only=True)
class ResourceEvent:
    """A resource, or the stack itself, entered a status."""

    name: str
    type: str
    status: str
    reason: str = ""

    @property
    def failed(self) -> bool:
        """Whether this is the end of something that went wrong, and not of what was given up because of it."""
        return self.status.endswith("_FAILED") and "cancelled" not in self.reason.lower()


@dataclass(kw_only=True)
class Stack:
    """The stack `name`. `new_id` names change sets; `told` is called with each event while something is waited for."""

    aws: Aws
    name: str
    new_id: Callable[[], str]
    told: Callable[[ResourceEvent], None] = lambda _event: None
    poll_seconds: float = 1.0
    _seen: set[str] = field(default_factory=set)

    @property
    def _client(self) -> Any:
        return self.aws.client("cloudformation")

    def describe(self) -> dict[str, Any] | None:
        """As AWS describes it; None if there is none, or only one that was never executed."""
        try:
            (found,) = self._client.describe_stacks(StackName=self.name)["Stacks"]
        except ClientError as error:
            if "does not exist" not in error.response["Error"]["Message"]:
                raise
            return None
        return None if found["StackStatus"] == _GONE else dict(found)

    def outputs(self) -> dict[str, str]:
        """Name → value; empty if there is no stack."""
        found = self.describe() or {}
        return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}

    def exists(self) -> bool:
        """Whether there is one that a change set could update."""
        found = self.describe()
        return found is not None and found["StackStatus"] not in (*_DEAD_ENDS, "REVIEW_IN_PROGRESS")

    def settle(self) -> None:
        """Wait for what is under way, and remove what could never be updated. Raises PipelineFailed."""
        found = self.describe()
        if found is None:
            return
        if _changing(found):
            self._wait(since=self._remember(), stack_id=found["StackId"], quietly=True)
            found = self.describe()
        if found and found["StackStatus"] in _DEAD_ENDS:
            self.delete()
        elif found and found["StackStatus"] == "UPDATE_ROLLBACK_FAILED":
            seen = self._remember()
            self._client.continue_update_rollback(StackName=self.name)
            self._wait(since=seen, quietly=True)

    def changes(self, template: str, parameters: Mapping[str, str]) -> list[Change]:
        """What `apply` would do to a stack that exists; nothing is changed."""
        change_set = self._propose(template, parameters)
        if change_set is None:
            return []
        try:
            return list(self._changes(change_set))
        finally:
            self._client.delete_change_set(StackName=self.name, ChangeSetName=change_set)

    def apply(self, template: str, parameters: Mapping[str, str]) -> list[Change]:
        """Create or update it and wait; return what was changed. Raises PipelineFailed with the first reason."""
        self.settle()
        change_set = self._propose(template, parameters)
        if change_set is None:
            return []
        changes = list(self._changes(change_set))
        seen = self._remember()
        self._client.execute_change_set(StackName=self.name, ChangeSetName=change_set)
        self._wait(since=seen)
        return changes

    def delete(self) -> None:
        """Delete it and wait. Raises PipelineFailed with the first reason. There may be none."""
        found = self.describe()
        if found is None:
            return
        if _changing(found):
            self._wait(since=self._remember(), stack_id=found["StackId"], quietly=True)
            found = self.describe()
            if found is None:
                return
        stack_id, seen = found["StackId"], self._remember()
        self._client.delete_stack(StackName=self.name)
        self._wait(since=seen, stack_id=stack_id)

    def _propose(self, template: str, parameters: Mapping[str, str]) -> str | None:
        """The ARN of a change set that is ready; None if there is nothing to change."""
        arn = str(
            self._client.create_change_set(
                StackName=self.name,
                ChangeSetName=f"{self.name}-{self.new_id()}",
                ChangeSetType="UPDATE" if self.exists() else "CREATE",
                TemplateBody=template,
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
                Capabilities=["CAPABILITY_NAMED_IAM"],
                Tags=[{"Key": "kennel", "Value": self.name}],
            )["Id"]
        )
        while True:
            described = self._client.describe_change_set(StackName=self.name, ChangeSetName=arn)
            if described["Status"] == "CREATE_COMPLETE":
                return arn
            if described["Status"] == "FAILED":
                reason = str(described.get("StatusReason", ""))
                self._client.delete_change_set(StackName=self.name, ChangeSetName=arn)
                if any(words in reason for words in _NO_CHANGES):
                    return None
                raise PipelineFailed(f"CloudFormation refuses the template: {reason}", where=f"stack {self.name}")
            time.sleep(self.poll_seconds)

    def _changes(self, change_set: str) -> Iterator[Change]:
        token: dict[str, str] = {}
        while True:
            page = self._client.describe_change_set(StackName=self.name, ChangeSetName=change_set, **token)
            for item in page["Changes"]:
                change = item["ResourceChange"]
                targets = (detail.get("Target", {}) for detail in change.get("Details", []))
                yield Change(
                    action=change["Action"],
                    type=change["ResourceType"],
                    name=change["LogicalResourceId"],
                    replaced=change.get("Replacement") == "True",
                    why=tuple(sorted({target["Name"] for target in targets if target.get("Name")})),
                )
            if "NextToken" not in page:
                return
            token = {"NextToken": page["NextToken"]}

    # --- waiting --------------------------------------------------------------------------------

    def _events(self, stack_id: str) -> list[dict[str, Any]]:
        pages = self._client.get_paginator("describe_stack_events").paginate(StackName=stack_id)
        return sorted((event for page in pages for event in page["StackEvents"]), key=_time_of)

    def _remember(self) -> set[str]:
        """The events of before."""
        found = self.describe()
        return {event["EventId"] for event in self._events(found["StackId"])} if found else set()

    def _wait(self, *, since: set[str], stack_id: str = "", quietly: bool = False) -> None:
        """Until the stack rests. Raises PipelineFailed if that is not where it was meant to go, unless `quietly`."""
        stack_id = stack_id or self.name
        deadline = time.monotonic() + _PATIENCE_SECONDS
        failures: list[ResourceEvent] = []
        while True:
            (found,) = self._client.describe_stacks(StackName=stack_id)["Stacks"]
            for event in self._events(found["StackId"]):
                if event["EventId"] not in since:
                    since.add(event["EventId"])
                    shown = _shown(event)
                    self.told(shown)
                    failures += [shown] if shown.failed else []
            status = str(found["StackStatus"])
            if not status.endswith("_IN_PROGRESS"):
                break
            if time.monotonic() > deadline:
                raise PipelineFailed(
                    f"it is still {status} after {_PATIENCE_SECONDS / 60:.0f} minutes",
                    where=f"stack {self.name}",
                    hint="It goes on by itself; the same command waits for it again.",
                )
            time.sleep(self.poll_seconds)
        if not quietly and status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", _GONE):
            raise self._failure(status, failures, str(found.get("StackStatusReason", "")))

    def _failure(self, status: str, failures: Sequence[ResourceEvent], otherwise: str) -> PipelineFailed:
        first = next((event for event in failures if event.name != self.name), None)
        what = f"{first.name} ({first.type}): {first.reason}" if first else otherwise or "no reason was given"
        return PipelineFailed(
            f"it ended as {status}: {what}",
            where=f"stack {self.name}",
            hint="Mend the cause and give the same command again: what is there already stays or is made anew.",
        )


def _changing(found: Mapping[str, Any]) -> bool:
    """Whether CloudFormation is at work on it. A stack in review has never been executed, and waits for us."""
    status = str(found["StackStatus"])
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def _time_of(event: Mapping[str, Any]) -> datetime:
    when: datetime = event["Timestamp"]
    return when


def _shown(event: Mapping[str, Any]) -> ResourceEvent:
    return ResourceEvent(
        name=event.get("LogicalResourceId", ""),
        type=event.get("ResourceType", ""),
        status=event.get("ResourceStatus", ""),
        reason=event.get("ResourceStatusReason", ""),
    )
