"""What is wrong or unwise in a configuration that could be deployed as it stands. Pure.

`kennel.config` refuses what is malformed; here is what only AWS would refuse, or nobody would and it still hurts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kennel.config import Config
from kennel.pipeline.instance_types import has_gpu, has_local_storage, is_burstable
from kennel.pipeline.plans.config_keys import key_of
from kennel.pipeline.plans.costs import Step
from kennel.pipeline.plans.requests import Problem, Request, problems

_HOUR = 3600
_DAY = 24 * _HOUR
LONGEST_SECONDS = 432_000
"""Default of SageMaker's quota "Longest run time for a training job", which can be raised (SageMaker's quotas)."""

_METRIC_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing to look at before anything is deployed."""

    level: Literal["error", "warning"]
    """An error: AWS would refuse it."""

    key: str
    """Of the configuration; or else the state and the path in its request."""

    what: str
    hint: str
    """What to do."""


def findings(config: Config, requests: tuple[Request, ...], steps: tuple[Step, ...]) -> tuple[Finding, ...]:
    """Errors first. `config` and `requests` are made of values that know their keys (`config_keys`)."""
    found = [
        *_from_requests(requests),
        *_key_with_local_storage(requests),
        *_endpoint(config),
        *_too_long(steps),
        *_cooldowns(config),
        *_urls(config),
        *_gpu(config),
    ]
    return tuple(sorted(dict.fromkeys(found), key=lambda finding: finding.level != "error"))


def _from_requests(requests: tuple[Request, ...]) -> Iterator[Finding]:
    for request in requests:
        for problem in problems(request):
            hint = problem.hint or f"AWS would refuse {request.operation} with it."
            yield Finding(level="error", key=problem.key or _place(problem), what=problem.what, hint=hint)


def _place(problem: Problem) -> str:
    return f"{problem.state}: {problem.path}" if problem.path else problem.state


def _key_with_local_storage(requests: tuple[Request, ...]) -> Iterator[Finding]:
    for request in requests:
        for kind in _types_under_a_key(request.parameters):
            if has_local_storage(kind):
                yield Finding(
                    level="error",
                    key=key_of(kind) or request.state,
                    what=f"{kind} has volumes of its own, and {request.operation} refuses a KMS key for them",
                    hint="Take a type without local storage, such as ml.c5.large or ml.m5.large.",
                )


def _types_under_a_key(asked: Mapping[str, Any]) -> Iterator[str]:
    """Instance types whose volumes the request wants to be encrypted with a KMS key."""
    if "KmsKeyId" in asked:
        yield from (variant["InstanceType"] for variant in asked.get("ProductionVariants", ()))
    definitions = (asked, asked.get("TrainingJobDefinition", {}), *asked.get("TrainingJobDefinitions", ()))
    for hosts in (definition.get("ResourceConfig", {}) for definition in definitions):
        if "VolumeKmsKeyId" in hosts:
            yield hosts["InstanceType"]


def _endpoint(config: Config) -> Iterator[Finding]:
    kind = config.endpoint.instance_type
    if is_burstable(kind):
        yield Finding(
            level="error",
            key="endpoint.instance_type",
            what=f"{kind} is burstable, and SageMaker has no autoscaling for that",
            hint="Take another type, such as ml.m5.large.",
        )


def _too_long(steps: tuple[Step, ...]) -> Iterator[Finding]:
    for step in steps:
        if step.max_seconds > LONGEST_SECONDS:
            yield Finding(
                level="error",
                key=key_of(step.max_seconds) or step.state,
                what=f"{step.max_seconds} s is above SageMaker's quota for a training job, {LONGEST_SECONDS} s",
                hint='Lower it, or have the quota "Longest run time for a training job" raised.',
            )
        elif step.max_seconds > _DAY:
            yield Finding(
                level="warning",
                key=key_of(step.max_seconds) or step.state,
                what=f"a job that hangs is paid for {step.max_seconds / _HOUR:.0f} hours",
                hint="Lower it to what the job needs.",
            )


def _cooldowns(config: Config) -> Iterator[Finding]:
    for name in ("scale_in_cooldown", "scale_out_cooldown"):
        seconds = getattr(config.scaling, name)
        if seconds < _METRIC_SECONDS:
            yield Finding(
                level="warning",
                key=f"scaling.{name}",
                what=f"{seconds} s is shorter than the minute in which the metric is measured: it flaps",
                hint=f"Take {_METRIC_SECONDS} or more.",
            )


def _urls(config: Config) -> Iterator[Finding]:
    if config.function.allowed_url_hosts and config.infrastructure.network:
        yield Finding(
            level="warning",
            key="function.allowed_url_hosts",
            what="the function has no way to the internet from its VPC: every URL will fail",
            hint="Empty it, or set infrastructure.network = false.",
        )


def _gpu(config: Config) -> Iterator[Finding]:
    for name, kind in (("tuning", config.tuning.instance_type), ("training", config.training.instance_type)):
        if config.images.torch == "cuda" and not has_gpu(kind):
            what, hint = f"{kind} has no GPU, and images.torch is cuda", 'Take a type with one, or torch = "cpu".'
        elif config.images.torch == "cpu" and has_gpu(kind):
            what, hint = f"the GPU of {kind} stays idle: images.torch is cpu", 'Set images.torch = "cuda".'
        else:
            continue
        yield Finding(level="warning", key=f"{name}.instance_type", what=what, hint=hint)
