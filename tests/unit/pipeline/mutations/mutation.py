"""One way to spoil what is deployed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deployed import Deployed, Edit, sets, with_definition, with_template

SUB, REF = "Fn::Sub", "Ref"


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """`caught_by` names every rule that finds something; no other does."""

    name: str
    caught_by: frozenset[str]
    spoiled: Callable[[], Deployed]


def infra(name: str, caught_by: str, edit: Edit) -> Mutation:
    """Of the template. `caught_by` are names of rules with blanks between them."""
    return Mutation(name=name, caught_by=frozenset(caught_by.split()), spoiled=lambda: with_template(edit))


def flow(name: str, caught_by: str, edit: Edit) -> Mutation:
    """Of the state machine."""
    return Mutation(name=name, caught_by=frozenset(caught_by.split()), spoiled=lambda: with_definition(edit))


def allow(action: str | list[str], resource: Any, **more: Any) -> dict[str, Any]:
    return {"Sid": "Mutated", "Effect": "Allow", "Action": action, "Resource": resource, **more}


def resource(name: str, kind: str, **properties: Any) -> Edit:
    return sets(f"/Resources/{name}", {"Type": kind, "Properties": properties})
