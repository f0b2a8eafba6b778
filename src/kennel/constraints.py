"""Finds what a request's parameters violate in botocore's service model. Pure.

botocore's own client checks types, required members and lower bounds, but neither enums, patterns nor upper
bounds, and Step Functions' clients check nothing. AWS checks all of it. Unknown members are
violations here, too: AWS drops them in silence, Step Functions refuses them, and either way it is a typo.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from botocore.model import ListShape, MapShape, Shape, StructureShape

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (Mapping,),
    "map": (Mapping,),
    "list": (list,),
    "string": (str,),
    "character": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "timestamp": (int, float, str, datetime),
    "blob": (str, bytes, bytearray),
}
_BOUNDED_LENGTH = ("string", "list", "map", "blob")


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One value that the model forbids."""

    path: str
    """Where it is, as AWS writes it: `productionVariants.1.member.instanceType`."""

    value: Any
    """What is there; None if something is missing."""

    message: str
    """AWS's words."""

    allowed: tuple[str, ...] = ()
    """What an enumeration would take."""


def violations(shape: Shape | None, value: Mapping[str, Any]) -> list[str]:
    """Every violation in `value`, in AWS's words; an empty list if there is none."""
    return [violation.message for violation in located_violations(shape, value)]


def located_violations(shape: Shape | None, value: Any) -> list[Violation]:
    """Likewise, each with its place and its value."""
    return [] if shape is None else list(_check(shape, value, ""))


def _check(shape: Shape, value: Any, path: str) -> Iterator[Violation]:
    kinds = _PYTHON_TYPES[shape.type_name]
    if not isinstance(value, kinds) or (isinstance(value, bool) and shape.type_name != "boolean"):
        message = f"Value at '{path}' failed to satisfy constraint: Member must be a {shape.type_name}"
        yield Violation(path=path, value=value, message=message)
        return
    if isinstance(shape, StructureShape):
        yield from _check_structure(shape, cast("Mapping[str, Any]", value), path)
    elif isinstance(shape, ListShape):
        for index, item in enumerate(cast("list[Any]", value), start=1):
            yield from _check(shape.member, item, f"{path}.{index}.member")
    elif isinstance(shape, MapShape):
        for key, item in cast("Mapping[str, Any]", value).items():
            yield from _check(shape.key, key, f"{path}.key")
            yield from _check(shape.value, item, f"{path}.{key}.value")
    yield from _check_bounds(shape, value, path)


def _check_structure(shape: StructureShape, value: Mapping[str, Any], path: str) -> Iterator[Violation]:
    for name in shape.required_members:
        if value.get(name) is None:
            inner = _join(path, name)
            message = f"Value null at '{inner}' failed to satisfy constraint: Member must not be null"
            yield Violation(path=inner, value=None, message=message)
    for name, item in value.items():
        inner = _join(path, name)
        if name not in shape.members:
            message = f"Unknown parameter '{inner}'; known here: {', '.join(sorted(shape.members))}"
            yield Violation(path=inner, value=item, message=message)
        elif item is not None:
            yield from _check(shape.members[name], item, inner)


def _check_bounds(shape: Shape, value: Any, path: str) -> Iterator[Violation]:
    constraints = shape.metadata
    measured = len(value) if shape.type_name in _BOUNDED_LENGTH else value
    noun = "length" if shape.type_name in _BOUNDED_LENGTH else "value"
    shown = f"Value '{value}' at '{path}'" if isinstance(value, str | int | float) else f"Value at '{path}'"

    def violation(rule: str, allowed: tuple[str, ...] = ()) -> Violation:
        message = f"{shown} failed to satisfy constraint: Member must {rule}"
        return Violation(path=path, value=value, message=message, allowed=allowed)

    if "min" in constraints and measured < constraints["min"]:
        yield violation(f"have {noun} greater than or equal to {constraints['min']}")
    if "max" in constraints and measured > constraints["max"]:
        yield violation(f"have {noun} less than or equal to {constraints['max']}")
    if allowed := constraints.get("enum"):
        if value not in allowed:
            yield violation(f"satisfy enum value set: [{', '.join(sorted(allowed))}]", tuple(allowed))
    elif pattern := constraints.get("pattern"):
        compiled = _compiled(pattern)
        if compiled is not None and isinstance(value, str) and not compiled.fullmatch(value):
            yield violation(f"satisfy regular expression pattern: {pattern}")


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str] | None:
    """None for the few patterns of AWS's models that Python's `re` cannot read (POSIX and Unicode classes)."""
    try:
        return re.compile(pattern, re.ASCII)  # as in Java, where AWS's patterns come from
    except re.error:
        return None


def _join(path: str, name: str) -> str:
    camel = name[:1].lower() + name[1:]
    return f"{path}.{camel}" if path else camel
