"""CloudFormation's intrinsic functions. Pure: what a resource or a parameter is comes as an argument."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kennel.local.wire import ServiceError

KNOWN_AFTER_APPLY: Final = "{{changeSet:KNOWN_AFTER_APPLY}}"
"""Stands in a change set for what only a resource that is not made yet will say, as on AWS."""

_PLACEHOLDER: Final = re.compile(r"\$\{(?P<literal>!)?(?P<name>[^}]+)\}")
_FUNCTION: Final = re.compile(r"Ref|Fn::\w+")
_NOTHING: Final = object()


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What names mean. `get_att(logical_id, attribute)` and `ref(name)` raise KeyError for what is unknown."""

    ref: Callable[[str], Any]
    get_att: Callable[[str, str], Any]
    conditions: Mapping[str, bool]
    mappings: Mapping[str, Any]
    zones: tuple[str, ...]


def resolve(value: Any, scope: Scope) -> Any:
    """The value with every intrinsic function done. Members that are AWS::NoValue are left out."""
    resolved = _resolve(value, scope)
    return None if resolved is _NOTHING else resolved


def _resolve(value: Any, scope: Scope) -> Any:
    match value:
        case {"Condition": str(name)} if len(value) == 1:
            return scope.conditions[name]
        case dict() if len(value) == 1 and _FUNCTION.fullmatch(function := str(next(iter(value)))):
            return _called(function, value[function], scope)
        case dict():
            members = {key: _resolve(member, scope) for key, member in value.items()}
            return {key: member for key, member in members.items() if member is not _NOTHING}
        case list():
            return [item for item in (_resolve(item, scope) for item in value) if item is not _NOTHING]
    return value


def _called(function: str, argument: Any, scope: Scope) -> Any:
    if function not in _FUNCTIONS:
        known = ", ".join(sorted(_FUNCTIONS))
        message = f"Template error: encountered unsupported function: {function}. Supported functions are: [{known}]"
        raise ServiceError("ValidationError", message)
    try:
        return _FUNCTIONS[function](argument, scope)
    except (TypeError, ValueError, LookupError) as error:
        message = f"Template error: {function} of {json.dumps(argument, default=str)} cannot be done: {error}"
        raise ServiceError("ValidationError", message) from error


def _ref(name: Any, scope: Scope) -> Any:
    return _NOTHING if name == "AWS::NoValue" else scope.ref(name)


def _if(argument: Any, scope: Scope) -> Any:
    condition, yes, no = argument
    return _resolve(yes if scope.conditions[condition] else no, scope)


def _get_att(argument: Any, scope: Scope) -> Any:
    resource, attribute = argument.split(".", 1) if isinstance(argument, str) else argument
    return scope.get_att(resource, _resolve(attribute, scope))


def _sub(argument: Any, scope: Scope) -> str:
    text, names = argument if isinstance(argument, list) else (argument, {})
    return _substituted(text, names, scope)


def _join(argument: Any, scope: Scope) -> str:
    delimiter, parts = argument
    return str(delimiter).join(str(part) for part in _resolve(parts, scope))


def _split(argument: Any, scope: Scope) -> list[str]:
    delimiter, text = argument
    return str(_resolve(text, scope)).split(delimiter)


def _select(argument: Any, scope: Scope) -> Any:
    index, parts = argument
    return _resolve(parts, scope)[int(_resolve(index, scope))]


def _find_in_map(argument: Any, scope: Scope) -> Any:
    name, first, second = (_resolve(part, scope) for part in argument)
    return scope.mappings[name][first][second]


def _equals(argument: Any, scope: Scope) -> bool:
    one, other = argument
    return bool(_resolve(one, scope) == _resolve(other, scope))


def _not(argument: Any, scope: Scope) -> bool:
    (condition,) = argument
    return not _resolve(condition, scope)


_FUNCTIONS: Final[Mapping[str, Callable[[Any, Scope], Any]]] = {
    "Ref": _ref,
    "Fn::And": lambda argument, scope: all(_resolve(condition, scope) for condition in argument),
    "Fn::Base64": lambda argument, scope: base64.b64encode(str(_resolve(argument, scope)).encode()).decode(),
    "Fn::Equals": _equals,
    "Fn::FindInMap": _find_in_map,
    "Fn::GetAZs": lambda _argument, scope: list(scope.zones),
    "Fn::GetAtt": _get_att,
    "Fn::If": _if,
    "Fn::Join": _join,
    "Fn::Not": _not,
    "Fn::Or": lambda argument, scope: any(_resolve(condition, scope) for condition in argument),
    "Fn::Select": _select,
    "Fn::Split": _split,
    "Fn::Sub": _sub,
}


def _substituted(text: str, names: Mapping[str, Any], scope: Scope) -> str:
    def replacement(found: re.Match[str]) -> str:
        name = found["name"]
        if found["literal"]:
            return f"${{{name}}}"
        if name in names:
            return str(_resolve(names[name], scope))
        resource, dot, attribute = name.partition(".")
        return str(scope.get_att(resource, attribute) if dot else scope.ref(name))

    return _PLACEHOLDER.sub(replacement, text)


def condition_holds(
    name: str,
    written: Mapping[str, Any],
    values: Mapping[str, Any],
    mappings: Mapping[str, Any],
    decided: dict[str, bool],
) -> bool:
    """Decide the condition `name` and those that it names; `decided` takes them. They refer to parameters only."""
    if name not in decided:
        if name not in written:
            raise ServiceError("ValidationError", f"Template error: unresolved condition dependency {name}")
        decisions = _Decisions(lambda other: condition_holds(other, written, values, mappings, decided))
        scope = Scope(ref=values.__getitem__, get_att=_no_attribute, conditions=decisions, mappings=mappings, zones=())
        decided[name] = bool(resolve(written[name], scope))
    return decided[name]


class _Decisions(dict[str, bool]):
    def __init__(self, decide: Callable[[str], bool]) -> None:
        super().__init__()
        self._decide = decide

    def __missing__(self, name: str) -> bool:
        return self._decide(name)


def _no_attribute(resource: str, _attribute: str) -> Any:
    raise ServiceError("ValidationError", f"Template error: a condition cannot refer to the resource {resource}")


def references(value: Any, conditions: Mapping[str, bool]) -> frozenset[str]:  # noqa: PLR0911  (one for each case)
    """Names that the value refers to, parameters and pseudo parameters included.

    Of an Fn::If whose condition is decided, only the branch that is taken.

    >>> sorted(references({"Fn::Sub": ["${A}${B.Arn}${!C}${D}", {"D": {"Ref": "E"}}]}, {}))
    ['A', 'B', 'E']
    """
    match value:
        case {"Ref": str(name)} if len(value) == 1:
            return frozenset((name,))
        case {"Fn::GetAtt": [str(name), *_]} if len(value) == 1:
            return frozenset((name,))
        case {"Fn::If": [str(name), yes, no]} if len(value) == 1 and name in conditions:
            return references(yes if conditions[name] else no, conditions)
        case {"Fn::Sub": text_and_names} if len(value) == 1:
            text, names = text_and_names if isinstance(text_and_names, list) else (text_and_names, {})
            found = {match["name"].partition(".")[0] for match in _PLACEHOLDER.finditer(text) if not match["literal"]}
            return frozenset(found - names.keys()) | references(list(names.values()), conditions)
        case dict():
            return frozenset[str]().union(*(references(member, conditions) for member in value.values()))
        case list():
            return frozenset[str]().union(*(references(item, conditions) for item in value))
    return frozenset()
