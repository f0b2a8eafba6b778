"""What the requests of CloudFormation's API say. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kennel.local.cloudformation.template import invalid

_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "CreateChangeSet": frozenset(
        (
            "StackName",
            "ChangeSetName",
            "ChangeSetType",
            "TemplateBody",
            "UsePreviousTemplate",
            "Parameters",
            "Capabilities",
            "Description",
            "Tags",
            "ClientToken",
        )
    ),
    "ExecuteChangeSet": frozenset(("ChangeSetName", "StackName", "ClientRequestToken")),
    "ContinueUpdateRollback": frozenset(("StackName", "ClientRequestToken")),
    "DeleteStack": frozenset(("StackName", "ClientRequestToken")),
}
"""What the operations that change something take; anything else is refused rather than left unheard."""


def refuse_unknown(operation: str, params: Mapping[str, Any]) -> None:
    """Raises ServiceError for a parameter that the local AWS does nothing with, unless it asks for nothing."""
    if unknown := sorted(name for name, value in params.items() if name not in _KNOWN[operation] and value):
        raise invalid(f"The local AWS does not do {unknown[0]} of {operation}")


def given_values(parameters: list[dict[str, Any]], previous: Mapping[str, str]) -> dict[str, str]:
    """Values by name. Raises ServiceError for a previous value that there is not."""
    given = {}
    for parameter in parameters:
        name = parameter["ParameterKey"]
        if not parameter.get("UsePreviousValue"):
            given[name] = parameter.get("ParameterValue", "")
        elif name in previous:
            given[name] = previous[name]
        else:
            raise invalid(f"Invalid template parameter: no previous value of {name}")
    return given


def in_full(document: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """Every parameter's value as text, defaults included."""
    return {
        name: given.get(name, str(slot.get("Default", ""))) for name, slot in document.get("Parameters", {}).items()
    }


def declared(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a template says of itself, as GetTemplateSummary and ValidateTemplate have it."""
    parameters = [
        {
            "ParameterKey": name,
            "ParameterType": slot["Type"],
            "Description": slot.get("Description"),
            "NoEcho": bool(slot.get("NoEcho", False)),
            **({"DefaultValue": str(slot["Default"])} if "Default" in slot else {}),
        }
        for name, slot in document.get("Parameters", {}).items()
    ]
    return {"Description": document.get("Description"), "Parameters": parameters}
