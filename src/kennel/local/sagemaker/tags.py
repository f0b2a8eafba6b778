"""Tags of SageMaker's resources: accepted where they are created, listed, added and deleted by ARN."""

from __future__ import annotations

import threading
from typing import Any

from kennel.local.wire import Operation, ServiceError

_MOST = 50
"""Tags of one resource, at most (SageMaker's own limit)."""


class Tags:
    """The tags of every resource of one account and region."""

    def __init__(self) -> None:
        self._tags: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()
        self.operations: dict[str, Operation] = {
            "AddTags": self.add,
            "ListTags": self.list_tags,
            "DeleteTags": self.delete,
        }

    def create(self, arn: str, tags: list[dict[str, str]]) -> None:
        """Note a new resource with its first tags."""
        with self._lock:
            self._tags[arn] = {tag["Key"]: tag["Value"] for tag in tags}

    def forget(self, arn: str) -> None:
        """Forget a resource that was deleted."""
        with self._lock:
            self._tags.pop(arn, None)

    def add(self, request: dict[str, Any]) -> dict[str, Any]:
        """AddTags: a key that exists gets the new value."""
        with self._lock:
            kept = self._of(request["ResourceArn"])
            merged = kept | {tag["Key"]: tag["Value"] for tag in request["Tags"]}
            if len(merged) > _MOST:
                raise ServiceError("ValidationException", f"A resource has at most {_MOST} tags")
            kept.update(merged)
            return {"Tags": _shown(kept)}

    def list_tags(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListTags, all on one page: there are at most 50."""
        with self._lock:
            return {"Tags": _shown(self._of(request["ResourceArn"]))}

    def delete(self, request: dict[str, Any]) -> dict[str, Any]:
        """DeleteTags; a key that is not there is no error."""
        with self._lock:
            kept = self._of(request["ResourceArn"])
            for key in request["TagKeys"]:
                kept.pop(key, None)
        return {}

    def _of(self, arn: str) -> dict[str, str]:
        if arn not in self._tags:
            raise ServiceError("ValidationException", f"Could not find the resource {arn}")
        return self._tags[arn]


def _shown(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
