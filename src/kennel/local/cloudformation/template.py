"""Reads templates: YAML with short intrinsics (or JSON), parameters, conditions, order of resources. Pure.

What is wrong with a template or a parameter is a ServiceError with CloudFormation's own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from kennel.local.cloudformation.intrinsics import condition_holds, references
from kennel.local.wire import ServiceError

MAX_BYTES: Final = 51_200
"""Of a template in the request itself ("CloudFormation quotas")."""

_SECTIONS: Final = frozenset(
    (
        "AWSTemplateFormatVersion",
        "Description",
        "Metadata",
        "Parameters",
        "Mappings",
        "Conditions",
        "Resources",
        "Outputs",
    )
)
_ATTRIBUTES: Final = frozenset(
    ("Type", "Properties", "Condition", "DependsOn", "DeletionPolicy", "UpdateReplacePolicy", "Metadata")
)


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource as the template has it. `depends_on` holds what it refers to, too."""

    logical_id: str
    type: str
    properties: Mapping[str, Any]
    depends_on: frozenset[str]
    deletion_policy: str = "Delete"
    update_replace_policy: str = "Delete"


@dataclass(frozen=True, kw_only=True)
class Template:
    """A template with its parameters' values: conditions are decided, what they exclude is left out.

    `resources` are in an order in which they can be made: each after all that it depends on.
    """

    description: str
    parameters: Mapping[str, Any]
    mappings: Mapping[str, Any]
    conditions: Mapping[str, bool]
    resources: Mapping[str, Resource]
    outputs: Mapping[str, Any]


def invalid(message: str) -> ServiceError:
    """What CloudFormation answers to nearly everything that is wrong."""
    return ServiceError("ValidationError", message)


def load(body: str) -> dict[str, Any]:
    """The document of a template. Raises ServiceError ValidationError if it is none."""
    try:
        document = yaml.load(body, Loader=_Loader)  # nosec B506  # noqa: S506  (a safe loader with more tags)
    except yaml.YAMLError as error:
        raise invalid(f"Template format error: YAML not well-formed. ({error})") from error
    if not isinstance(document, dict):
        raise invalid("Template format error: unsupported structure.")
    if unknown := [str(section) for section in document if section not in _SECTIONS]:
        raise invalid(f"Invalid template property or properties [{', '.join(unknown)}]")
    if not isinstance(document.get("Resources"), dict) or not document["Resources"]:
        raise invalid("Template format error: At least one Resources member must be defined.")
    return document


def template_of(document: Mapping[str, Any], given: Mapping[str, str], pseudo: Mapping[str, Any]) -> Template:
    """The template with the parameters `given`; `pseudo` holds AWS::Region and its like."""
    parameters = parameter_values(document.get("Parameters", {}), given)
    conditions: dict[str, bool] = {}
    written = document.get("Conditions", {})
    mappings = document.get("Mappings", {})
    for name in written:
        condition_holds(name, written, {**pseudo, **parameters}, mappings, conditions)
    kept = {
        name: _resource(name, resource, conditions)
        for name, resource in document["Resources"].items()
        if _included(resource, conditions)
    }
    outputs = {
        name: output for name, output in (document.get("Outputs") or {}).items() if _included(output, conditions)
    }
    known = frozenset(kept) | frozenset(parameters) | frozenset(pseudo)
    _check_references(kept, outputs, known)
    return Template(
        description=str(document.get("Description", "")),
        parameters=parameters,
        mappings=mappings,
        conditions=conditions,
        resources=_ordered(kept),
        outputs=outputs,
    )


def parameter_values(declared: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Every parameter's value: text, or a list for the types of lists.

    >>> parameter_values({"Names": {"Type": "CommaDelimitedList", "Default": "a, b"}}, {})
    {'Names': ['a', 'b']}
    """
    if unknown := [name for name in given if name not in declared]:
        raise invalid(f"Parameters: [{', '.join(unknown)}] do not exist in the template")
    if missing := [name for name, slot in declared.items() if name not in given and "Default" not in slot]:
        raise invalid(f"Parameters: [{', '.join(missing)}] must have values")
    return {name: _value(name, slot, given.get(name, _text(slot.get("Default")))) for name, slot in declared.items()}


def _value(name: str, slot: Mapping[str, Any], text: str) -> str | list[str]:
    allowed = slot.get("AllowedValues")
    pattern = slot.get("AllowedPattern")
    kind = str(slot.get("Type", "String"))
    if kind.startswith("AWS::SSM::"):
        raise invalid(f"The local AWS does not read parameters of the type {kind}")
    if allowed is not None and text not in [_text(value) for value in allowed]:
        raise invalid(f"Parameter '{name}' must be one of AllowedValues")
    if pattern is not None and not re.fullmatch(pattern, text):
        raise invalid(f"Parameter '{name}' must match pattern {pattern}")
    if kind == "Number" and not re.fullmatch(r"-?\d+(\.\d+)?", text):
        raise invalid(f"Parameter '{name}' must be a number.")
    if kind == "CommaDelimitedList" or kind.startswith("List<"):
        return [part.strip() for part in text.split(",")]
    return text


def _included(part: Mapping[str, Any], conditions: Mapping[str, bool]) -> bool:
    name = part.get("Condition")
    if name is None:
        return True
    if name not in conditions:
        raise invalid(f"Template validation error: Unresolved condition dependency {name} in the Resources block")
    return conditions[name]


def _resource(name: str, written: Mapping[str, Any], conditions: Mapping[str, bool]) -> Resource:
    if unknown := [attribute for attribute in written if attribute not in _ATTRIBUTES]:
        raise invalid(f"Invalid template resource property '{unknown[0]}'")
    if "Type" not in written:
        raise invalid(f"Template format error: [/Resources/{name}] Every Resources object must contain a Type member.")
    properties = written.get("Properties", {})
    explicit = written.get("DependsOn", [])
    explicit = [explicit] if isinstance(explicit, str) else explicit
    return Resource(
        logical_id=name,
        type=written["Type"],
        properties=properties,
        depends_on=references(properties, conditions) | frozenset(explicit),
        deletion_policy=written.get("DeletionPolicy", "Delete"),
        update_replace_policy=written.get("UpdateReplacePolicy", "Delete"),
    )


def _check_references(resources: Mapping[str, Resource], outputs: Mapping[str, Any], known: frozenset[str]) -> None:
    used = frozenset[str]().union(*(resource.depends_on for resource in resources.values()))
    if missing := sorted(used - known):
        raise invalid(
            f"Template format error: Unresolved resource dependencies [{', '.join(missing)}] in the Resources block "
            "of the template"
        )
    if missing := sorted(references(outputs, {}) - known):
        raise invalid(f"Unresolved resource dependencies [{', '.join(missing)}] in the Outputs block of the template")


def _ordered(resources: Mapping[str, Resource]) -> dict[str, Resource]:
    ordered: dict[str, Resource] = {}
    waiting = dict(resources)
    while waiting:
        ready = [name for name, resource in waiting.items() if not resource.depends_on & waiting.keys()]
        if not ready:
            raise invalid(f"Circular dependency between resources: [{', '.join(waiting)}]")
        ordered |= {name: waiting.pop(name) for name in ready}
    return ordered


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Loader(yaml.CSafeLoader):  # type: ignore[misc]
    """YAML as CloudFormation reads it: `!Sub` and its like, and dates that stay text."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own way)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def intrinsic(self, suffix: str, node: yaml.Node) -> dict[str, Any]:
        """`!GetAtt Key.Arn` is `{"Fn::GetAtt": ["Key", "Arn"]}`."""
        name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
        value: Any
        match node:
            case yaml.ScalarNode():
                value = self.construct_scalar(node)
            case yaml.SequenceNode():
                value = self.construct_sequence(node, deep=True)
            case _:
                value = self.construct_mapping(node, deep=True)
        if suffix == "GetAtt" and isinstance(value, str):
            value = value.split(".", 1)
        return {name: value}


_Loader.add_multi_constructor("!", _Loader.intrinsic)
