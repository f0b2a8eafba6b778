"""Writes down what becomes of a stack: its status, its resources, and an event for each change of them."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kennel.local.cloudformation.records import STACK_TYPE, Stack, StackResource


@dataclass(frozen=True, kw_only=True)
class Journal:
    """The one place where a stack changes. `lock` is held by whoever reads a stack, too."""

    now: Callable[[], dt.datetime]
    unique: Callable[[], str]
    lock: threading.RLock

    def stack(self, stack: Stack, status: str, reason: str = "") -> None:
        """The stack's status is another one."""
        with self.lock:
            stack.status = status
            stack.reason = reason
            if status == "DELETE_COMPLETE":
                stack.deleted = self.now()
            elif status.startswith("UPDATE"):
                stack.updated = self.now()
            itself = {"LogicalResourceId": stack.name, "PhysicalResourceId": stack.id, "ResourceType": STACK_TYPE}
            self._event(stack, status, reason, **itself)

    def resource(self, stack: Stack, resource: StackResource, *, in_stack: bool = True) -> None:
        """A resource is in another state. Not `in_stack`, another one has its place there."""
        with self.lock:
            if in_stack:
                stack.resources[resource.logical_id] = resource
            self._event(
                stack,
                resource.status,
                resource.reason,
                LogicalResourceId=resource.logical_id,
                PhysicalResourceId=resource.made.id if resource.made else "",
                ResourceType=resource.type,
                ResourceProperties=json.dumps(resource.properties) if resource.properties else None,
            )

    def dropped(self, stack: Stack, logical_id: str) -> None:
        """The resource is the stack's no longer."""
        with self.lock:
            stack.resources.pop(logical_id, None)

    def _event(self, stack: Stack, status: str, reason: str, **of: str | None) -> None:
        event: dict[str, Any] = {
            "EventId": f"{of['LogicalResourceId']}-{status}-{self.unique()}",
            "StackId": stack.id,
            "StackName": stack.name,
            "Timestamp": self.now(),
            "ResourceStatus": status,
            "ResourceStatusReason": reason or None,
            **of,
        }
        stack.events.append(event)
