"""AWS::Lambda::Function, Version, Alias, EventInvokeConfig, Permission."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kennel.local.cloudformation.api import Api
from kennel.local.cloudformation.kinds import Changed, Kind, Made, Properties, Wanted, names

_CONFIGURATION: Final[Mapping[str, Any]] = {
    "Description": "",
    "Environment": {"Variables": {}},
    "Handler": None,
    "LoggingConfig": None,
    "MemorySize": 128,
    "Role": None,
    "Runtime": None,
    "Timeout": 3,
    "TracingConfig": {"Mode": "PassThrough"},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
}
"""What UpdateFunctionConfiguration sets, with what says that a property is no longer there."""


def _make_function(api: Api, wanted: Wanted) -> Made:
    name = wanted.name("FunctionName")
    configuration = {key: value for key, value in wanted.properties.items() if key in _CONFIGURATION}
    made = api("lambda", "CreateFunction", FunctionName=name, Code=wanted["Code"], **configuration)
    return Made(id=name, attributes={"Arn": made["FunctionArn"]})


def _update_function(api: Api, changed: Changed) -> Made:
    if changed.differs("Code"):
        api("lambda", "UpdateFunctionCode", FunctionName=changed.id, **changed.wanted["Code"])
    # only what changed: the timeout, the memory and the variables are the state machine's to set afterwards
    others = {key: changed.get(key, default) for key, default in _CONFIGURATION.items() if changed.differs(key)}
    if others:
        api("lambda", "UpdateFunctionConfiguration", FunctionName=changed.id, **others)
    return changed.made


def _remove_function(api: Api, made: Made, _properties: Properties) -> None:
    api("lambda", "DeleteFunction", FunctionName=made.id)


def _make_version(api: Api, wanted: Wanted) -> Made:
    description = wanted.get("Description")
    made = api("lambda", "PublishVersion", FunctionName=wanted["FunctionName"], Description=description)
    return Made(id=made["FunctionArn"], attributes={"Version": made["Version"], "FunctionArn": made["FunctionArn"]})


def _remove_version(api: Api, made: Made, properties: Properties) -> None:
    api("lambda", "DeleteFunction", FunctionName=properties["FunctionName"], Qualifier=made.attributes["Version"])


def _make_alias(api: Api, wanted: Wanted) -> Made:
    made = api("lambda", "CreateAlias", **wanted.properties)
    return Made(id=made["AliasArn"], attributes={"AliasArn": made["AliasArn"]})


def _update_alias(api: Api, changed: Changed) -> Made:
    api("lambda", "UpdateAlias", **{"Description": "", **changed.wanted.properties})
    return changed.made


def _remove_alias(api: Api, _made: Made, properties: Properties) -> None:
    api("lambda", "DeleteAlias", FunctionName=properties["FunctionName"], Name=properties["Name"])


def _make_invoke_config(api: Api, wanted: Wanted) -> Made:
    api("lambda", "PutFunctionEventInvokeConfig", **wanted.properties)
    return Made(id=wanted.name())


def _update_invoke_config(api: Api, changed: Changed) -> Made:
    api("lambda", "PutFunctionEventInvokeConfig", **changed.wanted.properties)
    return changed.made


def _remove_invoke_config(api: Api, _made: Made, properties: Properties) -> None:
    function, qualifier = properties["FunctionName"], properties["Qualifier"]
    api("lambda", "DeleteFunctionEventInvokeConfig", FunctionName=function, Qualifier=qualifier)


def _make_permission(api: Api, wanted: Wanted) -> Made:
    statement = wanted.name()
    function, qualifier = _with_qualifier(wanted["FunctionName"])
    rest = {key: value for key, value in wanted.properties.items() if key != "FunctionName"}
    api("lambda", "AddPermission", FunctionName=function, Qualifier=qualifier, StatementId=statement, **rest)
    return Made(id=statement, attributes={"Id": statement})


def _remove_permission(api: Api, made: Made, properties: Properties) -> None:
    function, qualifier = _with_qualifier(properties["FunctionName"])
    api("lambda", "RemovePermission", FunctionName=function, Qualifier=qualifier, StatementId=made.id)


def _with_qualifier(function: str) -> tuple[str, str | None]:
    """Name and qualifier of a function that is given by its ARN or one of an alias.

    >>> _with_qualifier("arn:aws:lambda:eu-west-1:123456789012:function:classify:live")
    ('classify', 'live')
    """
    name, _, qualifier = function.rpartition(":function:")[2].partition(":")
    return name, qualifier or None


KINDS: Mapping[str, Kind] = {
    "AWS::Lambda::Function": Kind(
        attributes=names("Arn"),
        properties=frozenset(_CONFIGURATION) | {"FunctionName", "Code"},
        fixed=names("FunctionName"),
        name="FunctionName",
        make=_make_function,
        update=_update_function,
        remove=_remove_function,
    ),
    "AWS::Lambda::Version": Kind(
        attributes=names("Version FunctionArn"),
        properties=names("FunctionName Description"),
        fixed=names("FunctionName Description"),
        make=_make_version,
        remove=_remove_version,
    ),
    "AWS::Lambda::Alias": Kind(
        attributes=names("AliasArn"),
        properties=names("FunctionName FunctionVersion Name Description"),
        fixed=names("FunctionName Name"),
        name="Name",
        make=_make_alias,
        update=_update_alias,
        remove=_remove_alias,
    ),
    "AWS::Lambda::EventInvokeConfig": Kind(
        properties=names("FunctionName Qualifier MaximumRetryAttempts MaximumEventAgeInSeconds DestinationConfig"),
        fixed=names("FunctionName Qualifier"),
        make=_make_invoke_config,
        update=_update_invoke_config,
        remove=_remove_invoke_config,
    ),
    "AWS::Lambda::Permission": Kind(
        attributes=names("Id"),
        properties=names("FunctionName Action Principal SourceArn SourceAccount"),
        fixed=names("FunctionName Action Principal SourceArn SourceAccount"),
        make=_make_permission,
        remove=_remove_permission,
    ),
}
