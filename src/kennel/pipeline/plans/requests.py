"""The AWS requests that a state machine would make of an input, and what AWS would refuse of them. Pure.

No credentials and no network: botocore's models say what a service takes. What only a result can give is an example
of the right kind.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from botocore.model import OperationModel

from kennel.constraints import Violation, located_violations
from kennel.pipeline import asl
from kennel.pipeline.plans import reachable
from kennel.pipeline.plans.config_keys import key_of
from kennel.pipeline.plans.examples import anything, example, fitted
from kennel.pipeline.plans.expressions import resolve

_CLOSE_MATCHES = 3


@dataclass(frozen=True, kw_only=True)
class Request:
    """What one Task asks of AWS."""

    state: str
    service: str
    """botocore's name, such as `application-autoscaling`."""

    operation: str
    """Such as `CreateTrainingJob`."""

    parameters: Mapping[str, Any]
    unresolved: tuple[str, ...] = ()
    """Paths of the Task that lead nowhere."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that AWS would refuse in a request."""

    state: str
    path: str
    """In the request, as AWS writes it."""

    key: str
    """Of the configuration, where the value comes from; "" if it was not taken from there as it is."""

    what: str
    hint: str = ""


def requests(
    document: Mapping[str, Any], execution_input: Mapping[str, Any], *, execution_name: str
) -> tuple[Request, ...]:
    """The request of every Task that the input leads to, in order; what cleans up after failures comes last."""
    context = {
        "Execution": {
            "Id": f"arn:aws:states:us-east-1:000000000000:execution:example:{execution_name}",
            "Name": execution_name,
            "Input": execution_input,
            "StartTime": "2026-01-01T00:00:00Z",
        },
        "State": {"RetryCount": 0, "EnteredTime": "2026-01-01T00:00:00Z"},
        "StateMachine": {"Id": "arn:aws:states:us-east-1:000000000000:stateMachine:example", "Name": "example"},
        "Task": {"Token": "example"},
    }
    walk = reachable.Walk(states=document["States"], context=context, answer=_answer)
    found = [
        _request(visit, called)
        for visit in walk.visits(document["StartAt"], execution_input)
        if visit.state["Type"] == "Task" and (called := asl.call(visit.state["Resource"]))
    ]
    return tuple(replace(request, unresolved=tuple(walk.unresolved.get(request.state, ()))) for request in found)


def problems(request: Request) -> tuple[Problem, ...]:
    """What AWS would refuse of the request; empty if nothing is known against it."""
    model = _operation(request.service, request.operation)
    if model is None:
        what = f"AWS has no {request.operation} of {request.service}"
        return (Problem(state=request.state, path="", key="", what=what, hint="Mend the definition's Resource."),)
    lost = (
        Problem(
            state=request.state,
            path=path,
            key="",
            what=f"nothing is at the path {path}",
            hint="Mend the definition, or the input that it is given.",
        )
        for path in request.unresolved
    )
    forbidden = located_violations(model.input_shape, request.parameters)
    return (*lost, *(_problem(request.state, violation) for violation in forbidden))


@functools.cache
def _operation(service: str, operation: str) -> OperationModel | None:
    """Of botocore's model; None for what AWS does not have."""
    model = asl.service_model(service)
    return model.operation_model(operation) if model and operation in model.operation_names else None


def _request(visit: reachable.Visit, called: asl.Call) -> Request:
    parameters = resolve(visit.state.get("Parameters", visit.scope.data), visit.scope)
    model = _operation(called.service, called.operation)
    return Request(
        state=visit.name,
        service=called.service,
        operation=called.operation,
        parameters=fitted(model.input_shape, parameters) if model else parameters,
    )


def _answer(state: Mapping[str, Any]) -> Any:
    """An example of what the Task answers: of a job that is waited for, its description when it has ended."""
    called = asl.call(state["Resource"])
    if called is None:
        return anything()
    operation = called.operation.replace("Create", "Describe", 1) if called.sync else called.operation
    model = _operation(called.service, operation)
    return example(model.output_shape) if model else anything()


def _problem(state: str, violation: Violation) -> Problem:
    what, hint = violation.message, ""
    if violation.allowed:
        what = f"{violation.value!r} is none of the {len(violation.allowed)} values that AWS takes"
        hint = " ".join(_suggestions(str(violation.value), violation.allowed))
    return Problem(state=state, path=violation.path, key=key_of(violation.value), what=what, hint=hint)


def _suggestions(value: str, allowed: tuple[str, ...]) -> Iterator[str]:
    if close := difflib.get_close_matches(value, allowed, n=_CLOSE_MATCHES):
        yield f"Did you mean {' or '.join(close)}?"
    elif len(allowed) <= 2 * _CLOSE_MATCHES:
        yield f"It takes {', '.join(allowed)}."
