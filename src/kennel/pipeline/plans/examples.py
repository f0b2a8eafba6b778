"""Examples of what AWS will answer: values of the right kind, derived from botocore's models. Pure.

A plan is made before there are results. Requests that take something from a result get an example of it, so that
their types can still be checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StructureShape

from kennel.constraints import located_violations

_TEXTS = (
    "example",
    "1",
    "s3://example/example",
    "arn:aws:iam::000000000000:role/example",
    "arn:aws:sagemaker:us-east-1:000000000000:training-job/example",
    "arn:aws:lambda:us-east-1:000000000000:function:example",
    "2026-01-01T00:00:00Z",
    "00000000-0000-4000-8000-000000000000",
    "0" * 64,
)
"""Tried in this order: the first that a shape's pattern and length admit is its example."""


class Text(str):
    """Text that only a result can give. It may become other text where a pattern asks for that."""

    __slots__ = ()


class Anything(str):
    """A document whose kind the model does not say, such as what a function answers. All its members are such, too."""

    __slots__ = ()


def anything() -> Anything:
    """An example of a document of unknown kind."""
    return Anything("example")


def example(shape: Shape | None, *, within: tuple[str, ...] = ()) -> Any:
    """A value that `shape` admits, optional members included; a shape within itself is left empty."""
    if shape is None:
        return {}
    inside = (*within, shape.name)
    if isinstance(shape, StructureShape):
        members = {} if shape.name in within else shape.members
        return {_as_answered(name): example(member, within=inside) for name, member in members.items()}
    if isinstance(shape, ListShape):
        return [example(shape.member, within=inside)]
    if isinstance(shape, MapShape):
        return {str(example(shape.key, within=inside)): example(shape.value, within=inside)}
    return _scalar(shape)


def fitted(shape: Shape | None, value: Any) -> Any:
    """`value` as the integration would send it for `shape`, examples in it made to fit.

    Step Functions writes members with a capital, whatever the service's model does, and sends documents as text
    where the model has bytes.
    """
    if shape is None:
        return value
    if isinstance(value, Anything):
        return example(shape)
    if isinstance(value, Text) and shape.type_name == "string":
        return example(shape) if located_violations(shape, value) else value
    if shape.type_name == "blob" and isinstance(value, dict | list):
        return json.dumps(value)
    return _fitted_inside(shape, value)


def _fitted_inside(shape: Shape, value: Any) -> Any:
    if isinstance(shape, StructureShape) and isinstance(value, Mapping):
        names = {name: _member(shape, name) for name in value}
        return {names[name]: fitted(shape.members.get(names[name]), item) for name, item in value.items()}
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [fitted(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, Mapping):
        return {name: fitted(shape.value, item) for name, item in value.items()}
    return value


def _scalar(shape: Shape) -> Any:
    match shape.type_name:
        case "blob":
            return anything()
        case "boolean":
            return True
        case "timestamp":
            return Text("2026-01-01T00:00:00Z")
        case "integer" | "long" | "float" | "double":
            return shape.metadata.get("min", 1)
    if allowed := shape.metadata.get("enum"):
        return allowed[0]
    return Text(next((text for text in _TEXTS if not located_violations(shape, text)), _TEXTS[0]))


def _as_answered(name: str) -> str:
    return name[:1].upper() + name[1:]


def _member(shape: StructureShape, name: str) -> str:
    small = name[:1].lower() + name[1:]
    return small if name not in shape.members and small in shape.members else name
