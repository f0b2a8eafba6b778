"""Each Task: tried again when AWS falters, caught when it fails, and never endless. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kennel.pipeline import asl
from kennel.pipeline.rules.fault import Fault, unless

_EVERYTHING = ["States.ALL"]
_WHATEVER = ("States.ALL", "States.TaskFailed")
_LONGEST_CALL_SECONDS = 300


def task_retries(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """AWS throttles and falters; retries without jitter meet again, without a bound they never end."""
    for name, task in asl.tasks(definition).items():
        retries = task.get("Retry", [])
        yield from unless(bool(retries), name, "is not tried again", hint="Give it a Retry for faults of AWS.")
        for retry in retries:
            checks = {
                "retries without full jitter": retry.get("JitterStrategy") == "FULL",
                "retries without backing off": retry.get("BackoffRate", 0) > 1,
                "retries without a bound": 1 <= retry.get("MaxAttempts", 0) <= 10,
                "retries after any delay": 1 <= retry.get("MaxDelaySeconds", 0) <= 120,
                "repeats what failed for good": not set(_WHATEVER).intersection(retry.get("ErrorEquals", _EVERYTHING)),
            }
            for what, holds in checks.items():
                yield from unless(
                    holds,
                    name,
                    what,
                    hint="Set JitterStrategy FULL, BackoffRate, MaxAttempts, MaxDelaySeconds, and name the faults.",
                )


def task_catches(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """Whatever fails, the input goes on with the failure beside it: so that it can be undone and told."""
    for name, task in asl.tasks(definition).items():
        catches = task.get("Catch", [])
        yield from unless(
            bool(catches)
            and catches[-1].get("ErrorEquals") == _EVERYTHING
            and all(str(catch.get("ResultPath", "$")) > "$" for catch in catches),
            name,
            "fails without being caught, or loses its input",
            hint="End its Catch with States.ALL, each with a ResultPath such as $.Failure.",
        )


def failures_are_told(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """After any failure somebody is told: the topic hears of it before the execution ends."""
    publishers = {name for name, _ in asl.calls(definition, "Publish")}
    for name, task in asl.tasks(definition).items():
        for catch in task.get("Catch", []):
            yield from unless(
                name in publishers or bool(asl.reached(definition, str(catch.get("Next"))) & publishers),
                name,
                f"fails to {catch.get('Next')}, after which nobody is told",
                hint="Lead it to the state that publishes to the topic.",
            )


def task_timeouts(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """A call that hangs must fail; a job, whose time nobody knows here, carries its own StoppingCondition."""
    for name, task in asl.tasks(definition).items():
        called = asl.call(str(task.get("Resource")))
        if called and called.sync:
            request = task.get("Parameters", {})
            job = request.get("TrainingJobDefinition", request)
            yield from unless(
                asl.parameter(job, "StoppingCondition") is not None,
                name,
                "starts a job that may run for ever",
                hint="Give its request a StoppingCondition.",
            )
        else:
            yield from unless(
                1 <= task.get("TimeoutSeconds", 0) <= _LONGEST_CALL_SECONDS,
                name,
                "may wait for its answer for ever",
                hint=f"Set TimeoutSeconds to at most {_LONGEST_CALL_SECONDS}.",
            )
