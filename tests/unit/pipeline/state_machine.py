"""The checked-in state machine as tests read it: its states, and the request that each Task would make."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import botocore.loaders
import botocore.model

ROOT = Path(__file__).parents[3]
BOTO_SERVICES = {"applicationautoscaling": "application-autoscaling"}
"""Step Functions' names of services that are not botocore's."""


@cache
def definition() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((ROOT / "statemachine" / "pipeline.asl.json").read_text())
    return document


def tasks() -> dict[str, dict[str, Any]]:
    return {name: state for name, state in definition()["States"].items() if state["Type"] == "Task"}


def call(resource: str) -> tuple[str, str]:
    """botocore's service and operation of a Task's Resource."""
    *_, service, action = resource.removesuffix(".sync").split(":")
    return BOTO_SERVICES.get(service, service), action[0].upper() + action[1:]


@cache
def service_model(service: str) -> botocore.model.ServiceModel:
    return botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model(service, "service-2"), service)


def following(state: dict[str, Any]) -> Iterator[str]:
    """Names of the states that may come next."""
    for key in ("Next", "Default"):
        if key in state:
            yield state[key]
    for branch in (*state.get("Choices", []), *state.get("Catch", [])):
        yield branch["Next"]


def resolved(template: Any, data: dict[str, Any], context: dict[str, Any]) -> Any:
    """`template` with each `key.$` replaced by what its path, or its intrinsic function, stands for."""
    if isinstance(template, dict):
        return {
            key.removesuffix(".$"): _value(value, data, context)
            if key.endswith(".$")
            else resolved(value, data, context)
            for key, value in template.items()
        }
    if isinstance(template, list):
        return [resolved(item, data, context) for item in template]
    return template


def _value(expression: str, data: dict[str, Any], context: dict[str, Any]) -> Any:
    if not expression.startswith("States."):
        source, path = (context, expression[3:]) if expression.startswith("$$.") else (data, expression[2:])
        for name in filter(None, path.split(".")):
            source = source[name]
        return source
    function, _, inside = expression.removesuffix(")").partition("(")
    arguments = [
        word[1:-1] if word.startswith("'") else _value(word, data, context)
        for word in re.findall(r"'[^']*'|\${1,2}\.[\w.]+|\$", inside)
    ]
    match function:
        case "States.Format":
            return arguments[0].format(*arguments[1:])
        case "States.JsonMerge":
            return arguments[0] | arguments[1]
        case "States.JsonToString":
            return json.dumps(arguments[0])
    raise AssertionError(f"{function} is not known here")
