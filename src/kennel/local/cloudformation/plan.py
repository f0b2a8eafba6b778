"""From a stack and a template to what must be done. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kennel.local.cloudformation.intrinsics import KNOWN_AFTER_APPLY, Scope, resolve
from kennel.local.cloudformation.kinds import Kind, Properties
from kennel.local.cloudformation.records import Change, StackResource
from kennel.local.cloudformation.template import Template, invalid

Find = Callable[[str], StackResource | None]
"""A resource that exists, by its logical id; None for one that a change set will only make."""


def scope_of(template: Template, pseudo: Mapping[str, Any], find: Find, kinds: Mapping[str, Kind]) -> Scope:
    """What names mean in the template, with resources as `find` knows them."""

    def ref(name: str) -> Any:
        if name in pseudo:
            return pseudo[name]
        if name in template.parameters:
            return template.parameters[name]
        found = find(name)
        return found.made.id if found and found.made else KNOWN_AFTER_APPLY

    def get_att(name: str, attribute: str) -> Any:
        if attribute not in kinds[template.resources[name].type].attributes:
            raise invalid(f"Template error: resource {name} does not support attribute type {attribute} in Fn::GetAtt")
        found = find(name)
        return found.made.attributes[attribute] if found and found.made else KNOWN_AFTER_APPLY

    zones = tuple(f"{pseudo['AWS::Region']}{letter}" for letter in "abcdef")
    return Scope(ref=ref, get_att=get_att, conditions=template.conditions, mappings=template.mappings, zones=zones)


def changes_to(
    resources: Mapping[str, StackResource], template: Template, pseudo: Mapping[str, Any], kinds: Mapping[str, Kind]
) -> tuple[Change, ...]:
    """What a change set does to the resources of a stack. Raises ServiceError for a type that is not known."""
    if unknown := sorted({resource.type for resource in template.resources.values()} - kinds.keys()):
        raise invalid(f"Template format error: Unrecognized resource types: [{', '.join(unknown)}]")
    changes: list[Change] = []
    moving: set[str] = set()
    scope = scope_of(template, pseudo, lambda name: None if name in moving else resources.get(name), kinds)
    for name, resource in template.resources.items():
        there = resources.get(name)
        new = resolve(resource.properties, scope)
        if there is None or there.made is None or not there.exists:
            changes.append(Change(action="Add", logical_id=name, type=resource.type))
            moving.add(name)
            continue
        if there.type != resource.type:
            raise invalid(
                f"Update of resource type is not permitted. The new template modifies resource type of {name}"
            )
        differing = different(there.properties, new)
        if not differing:
            continue
        fixed = kinds[resource.type].fixed
        change = Change(
            action="Modify",
            logical_id=name,
            type=resource.type,
            physical_id=there.made.id,
            properties={key: key in fixed for key in differing},
            dynamic=frozenset(key for key in differing if KNOWN_AFTER_APPLY in repr(new.get(key))),
        )
        changes.append(change)
        if change.replaces:
            moving.add(name)
    gone = [there for name, there in resources.items() if name not in template.resources and there.exists]
    changes += [
        Change(action="Remove", logical_id=there.logical_id, type=there.type, physical_id=there.made.id)
        for there in reversed(gone)
        if there.made
    ]
    return tuple(changes)


def different(old: Properties, new: Properties) -> list[str]:
    """Names of the properties that are not the same."""
    return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]


def removal_order(resources: Mapping[str, StackResource]) -> list[str]:
    """Logical ids of those that exist, each before all that it depends on."""
    order: list[str] = []
    waiting = {name: resource for name, resource in resources.items() if resource.exists}
    while waiting:
        used = frozenset[str]().union(*(resource.depends_on for resource in waiting.values()))
        # what was changed one resource after the other may depend in a circle for a moment: then any is as good
        free = [name for name in waiting if name not in used] or list(waiting)
        order += free
        for name in free:
            del waiting[name]
    return order
