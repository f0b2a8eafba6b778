"""AWS::Events::Rule."""

from __future__ import annotations

from collections.abc import Mapping

from kennel.local.cloudformation.api import Api, Refused
from kennel.local.cloudformation.kinds import (
    Changed,
    Kind,
    Made,
    Properties,
    Wanted,
    must_not_exist,
    names,
    or_undone,
)


def _put_rule(api: Api, name: str, properties: Properties) -> str:
    rule = {key: value for key, value in properties.items() if key not in ("Name", "Targets")}
    return str(api("events", "PutRule", Name=name, **rule)["RuleArn"])


def _put_targets(api: Api, rule: str, properties: Properties) -> None:
    if targets := properties.get("Targets"):
        failed = api("events", "PutTargets", Rule=rule, Targets=targets)["FailedEntries"]
        if failed:
            raise Refused(str(failed[0]["ErrorMessage"]), str(failed[0]["ErrorCode"]))


def _remove_targets(api: Api, rule: str, ids: list[str]) -> None:
    if ids:
        api("events", "RemoveTargets", Rule=rule, Ids=ids)


def _make(api: Api, wanted: Wanted) -> Made:
    name = wanted.name("Name")
    must_not_exist(api, "events", "DescribeRule", Name=name)
    arn = _put_rule(api, name, wanted.properties)
    with or_undone(lambda: api("events", "DeleteRule", Name=name)):
        _put_targets(api, name, wanted.properties)
    return Made(id=name, attributes={"Arn": arn})


def _update(api: Api, changed: Changed) -> Made:
    _put_rule(api, changed.id, changed.wanted.properties)
    new = {target["Id"] for target in changed.get("Targets", [])}
    _remove_targets(api, changed.id, [old["Id"] for old in changed.old.get("Targets", []) if old["Id"] not in new])
    _put_targets(api, changed.id, changed.wanted.properties)
    return changed.made


def _remove(api: Api, made: Made, properties: Properties) -> None:
    _remove_targets(api, made.id, [target["Id"] for target in properties.get("Targets", [])])
    api("events", "DeleteRule", Name=made.id)


KINDS: Mapping[str, Kind] = {
    "AWS::Events::Rule": Kind(
        attributes=names("Arn"),
        properties=names("Name Description State EventPattern ScheduleExpression Targets"),
        fixed=names("Name"),
        name="Name",
        make=_make,
        update=_update,
        remove=_remove,
    ),
}
