"""Reads a CloudFormation template: resources with their lines, and the statements of policies. Pure.

Short intrinsics become long ones (`!Ref X` is {"Ref": "X"}), as CloudFormation itself reads them. Nothing is
resolved; `text` writes a value so that two ways to say the same compare equal: `!GetAtt Bucket.Arn`,
`!Sub "${Bucket.Arn}"` and `!Sub ["${A}", {A: …}]` are `${Bucket.Arn}` all three.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml

from kennel.errors import InvalidArguments

_UNPREFIXED = ("Ref", "Condition")
_VARIABLE = re.compile(r"\$\{([\w.:]+)\}")
_ABSENT = {"Ref": "AWS::NoValue"}


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a policy; `owner` is the logical id of the resource in which it stands, `where` for messages."""

    owner: str
    where: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    principals: tuple[str, ...]
    """`<kind>:<value>`, such as `Service:lambda.amazonaws.com`; `*` alone for everybody."""
    conditions: Mapping[str, tuple[str, ...]]
    """Values by `<operator> <key>`, such as `StringEquals aws:SourceAccount`."""
    inverted: tuple[str, ...]
    """Those of NotAction, NotResource and NotPrincipal that it has."""

    @property
    def allows(self) -> bool:
        """Whether its effect is Allow."""
        return self.effect == "Allow"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource of the template."""

    id: str
    type: str
    body: Mapping[str, Any]
    line: int = 0

    @property
    def where(self) -> str:
        """Logical id, and the line if it is known."""
        return f"{self.id} (line {self.line})" if self.line else self.id

    def get(self, path: str) -> Any:
        """The property at a dotted path (`Rules.0.Status`), a branch of !If with a value seen through; else None."""
        value: Any = self.body.get("Properties", {})
        for key in path.split("."):
            value = only_branch(value)
            if isinstance(value, Sequence) and not isinstance(value, str):
                value = value[int(key)] if key.isdecimal() and int(key) < len(value) else None
            else:
                value = value.get(key) if isinstance(value, Mapping) else None
        return only_branch(value)

    def text(self, path: str) -> str:
        """The same as `text` writes it; empty if there is none."""
        value = self.get(path)
        return "" if value is None else text(value)

    def items(self, path: str) -> list[Any]:
        """The items of a list property, those of every branch of an !If among them."""
        return items(self.get(path))

    def texts(self, path: str) -> tuple[str, ...]:
        """The same, each as `text` writes it."""
        return texts(self.get(path))

    def statements(self, path: str) -> list[Statement]:
        """Statements of the policy document at `path`, which may be JSON in a string."""
        document = self.get(path)
        document = json.loads(text(document)) if isinstance(document, str) or _intrinsic(document) else document
        found = items((document or {}).get("Statement"))
        return [self._statement(statement, number) for number, statement in enumerate(found, start=1)]

    def _statement(self, statement: Mapping[str, Any], number: int) -> Statement:
        principal = statement.get("Principal", {})
        by_kind = principal if isinstance(principal, Mapping) else {}
        return Statement(
            owner=self.id,
            where=f"{self.where}, {statement.get('Sid', f'statement {number}')}",
            effect=str(statement.get("Effect")),
            actions=texts(statement.get("Action")),
            resources=texts(statement.get("Resource")),
            principals=(text(principal),)
            if isinstance(principal, str)
            else tuple(f"{kind}:{value}" for kind, values in by_kind.items() for value in texts(values)),
            conditions={
                f"{operator} {key}": texts(values)
                for operator, tests in statement.get("Condition", {}).items()
                for key, values in tests.items()
            },
            inverted=tuple(key for key in ("NotAction", "NotResource", "NotPrincipal") if key in statement),
        )


@dataclass(frozen=True, kw_only=True)
class Template:
    """A CloudFormation template. `size` is its length in bytes as it is sent."""

    document: Mapping[str, Any]
    size: int = 0
    lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Every parameter by its name."""
        found: Mapping[str, Any] = self.document.get("Parameters", {})
        return found

    @cached_property
    def resources(self) -> dict[str, Resource]:
        """Every resource by its logical id."""
        return {
            name: Resource(id=name, type=str(body.get("Type")), body=body, line=self.lines.get(name, 0))
            for name, body in self.document["Resources"].items()
        }

    def of_type(self, *types: str) -> list[Resource]:
        """The resources of these types."""
        return [resource for resource in self.resources.values() if resource.type in types]

    def referred(self, value: str) -> Resource | None:
        """The resource that a text such as `${Bucket}` or `${Bucket.Arn}` stands for; None if it is none here."""
        whole = _VARIABLE.fullmatch(value)
        return self.resources.get(whole[1].partition(".")[0]) if whole else None

    def refers(self, value: str, *types: str) -> bool:
        """Whether a text such as `${Key.Arn}` stands for a resource of one of these types."""
        found = self.referred(value)
        return found is not None and found.type in types

    def identity_statements(self, role: str = "") -> Iterator[Statement]:
        """What roles may do, inline and by AWS::IAM::Policy; of one role (its logical id) if it is given."""
        for resource in self.of_type("AWS::IAM::Role"):
            if role in ("", resource.id):
                for number in range(len(resource.items("Policies"))):
                    yield from resource.statements(f"Policies.{number}.PolicyDocument")
        for resource in self.of_type("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"):
            if not role or f"${{{role}}}" in (*resource.texts("Roles"), resource.text("RoleName")):
                yield from resource.statements("PolicyDocument")

    def resource_statements(self) -> Iterator[Statement]:
        """What resources let others do: policies of buckets, queues, topics, endpoints, the key, the log."""
        for resource in self.resources.values():
            if not resource.type.startswith("AWS::IAM::"):
                yield from resource.statements("KeyPolicy" if resource.type == "AWS::KMS::Key" else "PolicyDocument")


def read(source: str, *, where: str = "the template") -> Template:
    """Raises InvalidArguments for what is not YAML, a key that is given twice, and a template without resources."""
    loader = _Loader(source)
    try:
        root = loader.get_single_node()
        document = loader.construct_document(root) if root else None
    except yaml.YAMLError as error:
        raise InvalidArguments(str(error), where=where, hint="Mend the YAML there.") from error
    finally:
        loader.dispose()
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise InvalidArguments("it has no Resources", where=where, hint="Give it a mapping of that name.")
    sections = {key.value: value for key, value in root.value}
    lines = {key.value: key.start_mark.line + 1 for key, _ in sections["Resources"].value}
    return Template(document=document, size=len(source.encode()), lines=lines)


def items(value: Any) -> list[Any]:
    """The items of a list, or a value as a list of one; of an !If those of each branch; without AWS::NoValue."""
    if value is None or value == _ABSENT:
        return []
    if isinstance(value, Mapping) and "Fn::If" in value:
        return [item for branch in value["Fn::If"][1:] for item in items(branch)]
    if isinstance(value, list):
        return [found for item in value for found in items(item)]
    return [value]


def texts(value: Any) -> tuple[str, ...]:
    """`items`, each as `text` writes it."""
    return tuple(text(item) for item in items(value))


def text(value: Any) -> str:
    """A value as one text, intrinsics as `${…}`; booleans and numbers as JSON writes them.

    >>> text({"Fn::Join": [":", ["arn", {"Ref": "AWS::Partition"}, {"Fn::GetAtt": ["Key", "Arn"]}]]})
    'arn:${AWS::Partition}:${Key.Arn}'
    """
    match value:
        case str():
            written = value
        case {"Ref": name}:
            written = f"${{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            written = f"${{{name}.{attribute}}}"
        case {"Fn::Sub": [template, known]}:
            written = _VARIABLE.sub(lambda found: text(known[found[1]]) if found[1] in known else found[0], template)
        case {"Fn::Sub": template}:
            written = str(template)
        case {"Fn::Join": [separator, list(parts)]}:
            written = str(separator).join(text(part) for part in parts)
        case _:
            written = json.dumps(value)
    return written


def only_branch(value: Any) -> Any:
    """Of an !If with one branch that is a value: that one. Anything else as it is."""
    if isinstance(value, Mapping) and "Fn::If" in value:
        branches = [branch for branch in value["Fn::If"][1:] if branch != _ABSENT]
        return branches[0] if len(branches) == 1 else value
    return None if value == _ABSENT else value


def _intrinsic(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) == 1 and next(iter(value)).startswith(("Ref", "Fn::"))


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML with CloudFormation's tags, without a key given twice: the last would win in silence."""


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in _UNPREFIXED else f"Fn::{suffix}": value}


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(loader.construct_object(key_node))
        if key in found:
            raise yaml.constructor.ConstructorError(None, None, f"{key} is given twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_multi_constructor("!", _long_form)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
