"""Keeps the descriptions of security group rules whose peer is a group or a prefix list."""

from __future__ import annotations

import inspect
from typing import Any

from moto.ec2.models.security_groups import SecurityGroupRule


def apply() -> None:
    """Change moto in this process."""
    initialize = SecurityGroupRule.__init__
    parameters = inspect.signature(initialize)

    # moto tells the description of a range of addresses only, and drops a prefix list's
    def initialize_described(*arguments: Any, **keywords: Any) -> None:
        given = parameters.bind(*arguments, **keywords).arguments
        initialize(*arguments, **keywords)
        given["self"].prefix_list_description = (given.get("prefix_list_id") or {}).get("Description")

    def description(rule: Any) -> str | None:
        peers = (rule.ip_range, rule.source_group)
        told = next((peer["Description"] for peer in peers if peer.get("Description")), None)
        return told or getattr(rule, "prefix_list_description", None)

    SecurityGroupRule.__init__ = initialize_described
    SecurityGroupRule.description = property(description)
