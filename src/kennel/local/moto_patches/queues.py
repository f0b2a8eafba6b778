"""Leaves a queue its policy when something else of it is changed."""

from __future__ import annotations

from typing import Any

from moto.sqs.models import Queue


def apply() -> None:
    """Change moto in this process."""
    set_attributes = Queue._set_attributes

    # moto drops the policy whenever attributes are set among which it is not
    def set_attributes_keeping_policy(queue: Any, attributes: dict[str, Any], *arguments: Any, **keywords: Any) -> None:
        there = getattr(queue, "_policy_json", None)
        set_attributes(queue, attributes, *arguments, **keywords)
        if "Policy" not in attributes and there is not None:
            queue._policy_json = there

    Queue._set_attributes = set_attributes_keeping_policy
