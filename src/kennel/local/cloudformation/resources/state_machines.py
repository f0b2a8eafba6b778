"""AWS::StepFunctions::StateMachine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kennel.local.cloudformation.api import Api
from kennel.local.cloudformation.kinds import Changed, Kind, Made, Properties, Wanted, names


def _definition(api: Api, location: Mapping[str, Any]) -> str:
    """The object that holds the definition, unchanged."""
    bucket, key, version = location["Bucket"], location["Key"], location.get("Version")
    return str(api("s3", "GetObject", Bucket=bucket, Key=key, VersionId=version)["Body"].read().decode())


def _make(api: Api, wanted: Wanted) -> Made:
    name = wanted.name("StateMachineName")
    made = api(
        "stepfunctions",
        "CreateStateMachine",
        name=name,
        definition=_definition(api, wanted["DefinitionS3Location"]),
        roleArn=wanted["RoleArn"],
        type=wanted.get("StateMachineType"),
        loggingConfiguration=wanted.get("LoggingConfiguration"),
        tracingConfiguration=wanted.get("TracingConfiguration"),
    )
    arn = made["stateMachineArn"]
    return Made(id=arn, attributes={"Arn": arn, "Name": name})


def _update(api: Api, changed: Changed) -> Made:
    moved = changed.differs("DefinitionS3Location")
    api(
        "stepfunctions",
        "UpdateStateMachine",
        stateMachineArn=changed.id,
        definition=_definition(api, changed.wanted["DefinitionS3Location"]) if moved else None,
        roleArn=changed.wanted["RoleArn"],
        loggingConfiguration=changed.get("LoggingConfiguration", {"Level": "OFF"}),
        tracingConfiguration=changed.get("TracingConfiguration", {"Enabled": False}),
    )
    return changed.made


def _remove(api: Api, made: Made, _properties: Properties) -> None:
    api("stepfunctions", "DeleteStateMachine", stateMachineArn=made.id)


KINDS: Mapping[str, Kind] = {
    "AWS::StepFunctions::StateMachine": Kind(
        attributes=names("Arn Name"),
        properties=names(
            "StateMachineName StateMachineType RoleArn DefinitionS3Location LoggingConfiguration TracingConfiguration"
        ),
        fixed=names("StateMachineName StateMachineType"),
        name="StateMachineName",
        make=_make,
        update=_update,
        remove=_remove,
    ),
}
