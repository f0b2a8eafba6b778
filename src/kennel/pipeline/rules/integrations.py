"""The requests that the Tasks make, as far as the definition holds them, against botocore's models. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.model import Shape

from kennel.constraints import located_violations
from kennel.pipeline import asl
from kennel.pipeline.plans.examples import Text, anything, fitted
from kennel.pipeline.rules.fault import Fault, unless

_OPTIMIZED = {
    "sagemaker": {
        "CreateTrainingJob",
        "CreateHyperParameterTuningJob",
        "CreateModel",
        "CreateEndpointConfig",
        "CreateEndpoint",
    },
    "lambda": {"Invoke"},
    "sns": {"Publish"},
}
"""Step Functions' own integrations that are used here; all others go through `aws-sdk`."""

_WAITED_FOR = {"CreateTrainingJob", "CreateHyperParameterTuningJob"}


def known_integrations(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """A Task calls an AWS API that exists, in a way that the rules here know."""
    for name, task in asl.tasks(definition).items():
        call = asl.call(str(task.get("Resource")))
        known = call is not None and (
            call.operation in _OPTIMIZED.get(call.service, ()) and (not call.sync or call.operation in _WAITED_FOR)
            if call.optimized
            else not call.sync and _input(call) is not None
        )
        yield from unless(
            "Credentials" not in task,
            name,
            "acts with another role than the state machine's",
            hint="Take Credentials out.",
        )
        yield from unless(
            known,
            name,
            f"calls {task['Resource']}, which is unknown here",
            hint="Use arn:aws:states:::aws-sdk:<service>:<action>, or an integration of _OPTIMIZED.",
        )


def valid_requests(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """AWS refuses a wrong member only when the execution gets there, hours later. What paths hold is not known here."""
    for name, task in asl.tasks(definition).items():
        call = asl.call(str(task.get("Resource")))
        shape = _input(call) if call else None
        if call is None or shape is None:
            continue  # known_integrations says so
        for member in _given_twice(task.get("Parameters", {})):
            yield from unless(False, name, f"gives {member} twice, by a path and as a literal", hint="Take one out.")
        for violation in located_violations(shape, fitted(shape, _with_examples(task.get("Parameters", {})))):
            yield from unless(
                isinstance(violation.value, Text),  # an example that is none: no pattern's fault
                name,
                violation.message,
                hint=f"See {call.operation} in the API reference of {call.service}.",
            )


def _input(call: asl.Call) -> Shape | None:
    model = asl.service_model(call.service)
    known = model is not None and call.operation in model.operation_names
    shape: Shape | None = model.operation_model(call.operation).input_shape if model and known else None
    return shape


def _given_twice(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (key for key in value if f"{key}.$" in value)
    for below in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _given_twice(below)


def _with_examples(value: Any) -> Any:
    """A request in which each member that a path gives is whatever the service would take there."""
    if isinstance(value, Mapping):
        return {
            key.removesuffix(".$"): anything() if key.endswith(".$") else _with_examples(item)
            for key, item in value.items()
        }
    return [_with_examples(item) for item in value] if isinstance(value, list) else value
