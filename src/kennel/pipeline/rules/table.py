"""The one table of rules, and what they find. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kennel.pipeline.rules import (
    agreement,
    alarms,
    buckets,
    function,
    general,
    instances,
    integrations,
    jobs,
    machine,
    network,
    policies,
    roles,
    storage,
    structure,
    tasks,
)
from kennel.pipeline.rules.fault import Fault
from kennel.pipeline.template import Template

Definition = Mapping[str, Any]
_Rule = Callable[..., Iterator[Fault]]

OF_TEMPLATE: tuple[Callable[[Template], Iterator[Fault]], ...] = (
    general.known_types,
    general.stack_names,
    general.nothing_left_behind,
    general.template_size,
    general.documented_parameters,
    general.no_secrets,
    roles.no_managed_policies,
    roles.no_star_actions,
    roles.no_inverted_allow,
    roles.star_resources,
    roles.own_resources,
    roles.pass_role,
    roles.trust_one_service,
    roles.trust_own_account,
    policies.no_strangers,
    policies.services_let_in,
    policies.tls_only,
    buckets.bucket_private,
    buckets.bucket_owner,
    buckets.bucket_encrypted,
    buckets.bucket_versioned,
    buckets.bucket_lifecycle,
    buckets.bucket_access_logs,
    storage.key_rotates,
    storage.encrypted_with_key,
    storage.log_retention,
    storage.immutable_tags,
    storage.scanned_images,
    storage.repository_lifecycle,
    storage.repository_encrypted,
    network.two_subnets,
    network.private_subnets,
    network.closed_security_groups,
    network.explicit_egress,
    network.s3_endpoint,
    network.endpoint_policies,
    function.function_failures,
    function.function_tracing,
    function.function_network,
    function.function_log,
    function.function_permission,
    machine.machine_logging,
    machine.machine_log_data,
    machine.machine_tracing,
    machine.machine_log_delivery,
    alarms.alarms_exist,
    alarms.alarms_act,
    alarms.rollout_pattern,
    alarms.rollout_target,
    instances.instance_metadata,
    instances.instance_disk,
    instances.instance_network,
    instances.instance_ends,
    instances.instance_rights,
)
OF_DEFINITION: tuple[Callable[[Definition], Iterator[Fault]], ...] = (
    structure.transitions,
    structure.reachable,
    structure.ends,
    structure.bounded_waits,
    tasks.task_retries,
    tasks.task_catches,
    tasks.failures_are_told,
    tasks.task_timeouts,
    integrations.known_integrations,
    integrations.valid_requests,
    jobs.isolated,
    jobs.in_network,
    jobs.encrypted_between_hosts,
    jobs.encrypted_volumes,
    jobs.encrypted_output,
)
OF_BOTH: tuple[Callable[[Template, Definition], Iterator[Fault]], ...] = (
    agreement.policy_covers_calls,
    agreement.policy_is_used,
    agreement.passed_roles,
    agreement.rollback_alarms,
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A fault, and the rule that found it."""

    rule: str
    fault: Fault


def names() -> list[str]:
    """Of every rule, as findings carry them: `bucket_private` is `bucket-private`."""
    rules: tuple[_Rule, ...] = (*OF_TEMPLATE, *OF_DEFINITION, *OF_BOTH)
    return [_name(rule) for rule in rules]


def findings(template: Template, definition: Definition) -> list[Finding]:
    """What every rule finds, in the order of the table. `definition` is the parsed pipeline.asl.json."""
    return [
        *(found for rule in OF_TEMPLATE for found in _named(rule, rule(template))),
        *(found for rule in OF_DEFINITION for found in _named(rule, rule(definition))),
        *(found for rule in OF_BOTH for found in _named(rule, rule(template, definition))),
    ]


def _named(rule: _Rule, faults: Iterator[Fault]) -> Iterator[Finding]:
    for fault in faults:
        yield Finding(rule=_name(rule), fault=fault)


def _name(rule: _Rule) -> str:
    return str(rule.__name__).replace("_", "-")
