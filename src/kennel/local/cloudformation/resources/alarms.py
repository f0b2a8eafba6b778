"""AWS::CloudWatch::Alarm."""

from __future__ import annotations

from collections.abc import Mapping

from kennel.local.cloudformation.api import Api, Refused
from kennel.local.cloudformation.kinds import Changed, Kind, Made, Properties, Wanted, names


def _put(api: Api, name: str, properties: Properties) -> None:
    api("cloudwatch", "PutMetricAlarm", **{**properties, "AlarmName": name})


def _make(api: Api, wanted: Wanted) -> Made:
    name = wanted.name("AlarmName")
    if api("cloudwatch", "DescribeAlarms", AlarmNames=[name])["MetricAlarms"]:
        raise Refused(f"Resource with identifier '{name}' already exists.", "AlreadyExists")
    _put(api, name, wanted.properties)
    return Made(id=name, attributes={"Arn": wanted.arn("cloudwatch", f"alarm:{name}")})


def _update(api: Api, changed: Changed) -> Made:
    _put(api, changed.id, changed.wanted.properties)
    return changed.made


def _remove(api: Api, made: Made, _properties: Properties) -> None:
    api("cloudwatch", "DeleteAlarms", AlarmNames=[made.id])


KINDS: Mapping[str, Kind] = {
    "AWS::CloudWatch::Alarm": Kind(
        attributes=names("Arn"),
        properties=names(
            "AlarmName AlarmDescription Namespace MetricName Dimensions Statistic ExtendedStatistic Unit Period "
            "EvaluationPeriods DatapointsToAlarm Threshold ComparisonOperator TreatMissingData AlarmActions OKActions "
            "ActionsEnabled"
        ),
        fixed=names("AlarmName"),
        name="AlarmName",
        make=_make,
        update=_update,
        remove=_remove,
    ),
}
