"""Reads a state machine's definition (Amazon States Language): its tasks, their calls, what comes after what. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.exceptions import UnknownServiceError
from botocore.loaders import Loader
from botocore.model import ServiceModel

_RESOURCE = re.compile(r"arn:aws:states:::(?P<sdk>aws-sdk:)?(?P<service>[a-z0-9]+):(?P<action>\w+)(?P<sync>\.sync)?")
_BOTO_SERVICES = {"applicationautoscaling": "application-autoscaling"}


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a Task calls, in botocore's names. `sync`: Step Functions waits for the job's end."""

    service: str
    operation: str
    optimized: bool
    sync: bool


def states(definition: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every state by its name."""
    return dict(definition["States"])


def tasks(definition: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The Task states by their names."""
    return {name: state for name, state in states(definition).items() if state.get("Type") == "Task"}


def call(resource: str) -> Call | None:
    """What a Task's Resource calls; None for anything else than an integration with an AWS API.

    >>> call("arn:aws:states:::sagemaker:createTrainingJob.sync")
    Call(service='sagemaker', operation='CreateTrainingJob', optimized=True, sync=True)
    """
    found = _RESOURCE.fullmatch(resource)
    if found is None:
        return None
    service, action = found["service"], found["action"]
    return Call(
        service=_BOTO_SERVICES.get(service, service),
        operation=action[0].upper() + action[1:],
        optimized=not found["sdk"],
        sync=bool(found["sync"]),
    )


def calls(definition: Mapping[str, Any], *operations: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and state of the Tasks that call one of these operations."""
    for name, state in tasks(definition).items():
        found = call(str(state.get("Resource")))
        if found and found.operation in operations:
            yield name, state


def parameter(request: Mapping[str, Any], name: str) -> Any:
    """The member `name` of a request, given as a literal or as a path (`name.$`); None if it is neither."""
    return request.get(name, request.get(f"{name}.$"))


def following(state: Mapping[str, Any]) -> Iterator[str]:
    """Names of the states that may come next."""
    for key in ("Next", "Default"):
        if key in state:
            yield state[key]
    for branch in (*state.get("Choices", []), *state.get("Catch", [])):
        if "Next" in branch:
            yield branch["Next"]


def reached(definition: Mapping[str, Any], *first: str) -> set[str]:
    """These states and all that may come after them; names of no state are left out."""
    found: set[str] = set()
    ahead = list(first)
    while ahead:
        name = ahead.pop()
        if name in definition["States"] and name not in found:
            found.add(name)
            ahead += following(definition["States"][name])
    return found


@cache
def service_model(service: str) -> ServiceModel | None:
    """What botocore knows of a service; None if it knows none of that name."""
    try:
        return ServiceModel(Loader().load_service_model(service, "service-2"), service)
    except UnknownServiceError:
        return None
