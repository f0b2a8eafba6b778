"""Every type of resource that the local AWS makes, by its name."""

from __future__ import annotations

from collections.abc import Mapping

from kennel.local.cloudformation.kinds import Kind
from kennel.local.cloudformation.resources import (
    alarms,
    buckets,
    functions,
    keys,
    launch_templates,
    logs,
    messages,
    network,
    repositories,
    roles,
    rules,
    security_groups,
    state_machines,
)

KINDS: Mapping[str, Kind] = {
    **alarms.KINDS,
    **buckets.KINDS,
    **functions.KINDS,
    **keys.KINDS,
    **launch_templates.KINDS,
    **logs.KINDS,
    **messages.KINDS,
    **network.KINDS,
    **repositories.KINDS,
    **roles.KINDS,
    **rules.KINDS,
    **security_groups.KINDS,
    **state_machines.KINDS,
}
