"""What is deployed, as tests of the rules read it: the checked-in template and state machine, and edits of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from kennel.pipeline import template
from kennel.pipeline.template import Template

FOLDER = Path(__file__).parents[3] / "statemachine"
Edit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """The two documents that the rules read together."""

    template: Template
    definition: dict[str, Any]


@cache
def checked_in() -> Deployed:
    return Deployed(
        template=template.read((FOLDER / "infrastructure.yaml").read_text()),
        definition=json.loads((FOLDER / "pipeline.asl.json").read_text()),
    )


def with_template(edit: Edit) -> Deployed:
    """What is checked in, with the template's document edited."""
    document = copy.deepcopy(dict(checked_in().template.document))
    edit(document)
    return replace(checked_in(), template=replace(checked_in().template, document=document))


def with_definition(edit: Edit) -> Deployed:
    definition = copy.deepcopy(checked_in().definition)
    edit(definition)
    return replace(checked_in(), definition=definition)


def with_size(size: int) -> Deployed:
    return replace(checked_in(), template=replace(checked_in().template, size=size))


# Paths are keys with / between them: `Statement/Sid=UseKey/Action`. Of a list a key is an index, or `name=value` for
# the item that has that. In a template a path begins in the properties of a resource, in a state machine in a state;
# at the top of the document with a leading slash.


def sets(path: str, value: Any) -> Edit:
    """The value at the path, new or instead of another."""

    def edit(document: dict[str, Any]) -> None:
        *above, last = _keys(path, document)
        holder = _at(document, above)
        holder[_index(holder, last)] = value

    return edit


def drops(path: str) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        *above, last = _keys(path, document)
        holder = _at(document, above)
        del holder[_index(holder, last)]

    return edit


def appends(path: str, item: Any) -> Edit:
    """To the list at the path."""

    def edit(document: dict[str, Any]) -> None:
        _at(document, _keys(path, document)).append(item)

    return edit


def both(*edits: Edit) -> Edit:
    def edit(document: dict[str, Any]) -> None:
        for one in edits:
            one(document)

    return edit


def _keys(path: str, document: dict[str, Any]) -> list[str]:
    if path.startswith("/"):
        return path[1:].split("/")
    if "States" in document:
        return ["States", *path.split("/")]
    name, *below = path.split("/")
    return ["Resources", name, "Properties", *below]


def _at(document: Any, keys: list[str]) -> Any:
    for key in keys:
        document = document[_index(document, key)]
    return document


def _index(holder: Any, key: str) -> Any:
    if isinstance(holder, dict):
        return key
    name, _, value = key.partition("=")
    if not value:
        return int(key)
    found = [index for index, item in enumerate(holder) if item.get(name) == value]
    assert len(found) == 1, f"there is no one item with {key}"
    return found[0]
