"""Prices: `config/prices.toml` into a frozen dataclass. Pure. All in USD."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from kennel.errors import InvalidArguments

HOURS_PER_MONTH = 730
"""As AWS's own calculator counts."""


@dataclass(frozen=True, kw_only=True)
class PerMonth:
    """What is paid by the month."""

    ebs_gp3_gb: float
    sagemaker_volume_gb: float
    kms_key: float
    cloudwatch_alarm: float


@dataclass(frozen=True, kw_only=True)
class PerHour:
    """What is paid by the hour, instances aside."""

    interface_endpoint: float
    """In one zone."""


@dataclass(frozen=True, kw_only=True)
class Lambda:
    """What a function costs as long as it is there."""

    provisioned_idle_gb_second: float


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Everything."""

    date: date
    """When they were right."""

    region: str
    month: PerMonth
    hour: PerHour
    function: Lambda
    sagemaker: Mapping[str, float]
    """An hour of an instance, by its type. What is not in it has no price: it is not free."""

    ec2: Mapping[str, float]
    """Likewise."""


_TABLES = {"month": PerMonth, "hour": PerHour, "lambda": Lambda}


def parse(text: str, *, where: str) -> Prices:
    """Read TOML. Raises InvalidArguments with every problem; `where` names the file in it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArguments("this is not TOML", where=where, problems=(str(error),)) from error
    if problems := tuple(_problems(document)):
        raise InvalidArguments(
            "the prices cannot be used",
            where=where,
            hint="Mend each of these keys: a price is a number of USD, at least 0.",
            problems=problems,
        )
    return Prices(
        date=document["date"],
        region=document["region"],
        month=PerMonth(**document["month"]),
        hour=PerHour(**document["hour"]),
        function=Lambda(**document["lambda"]),
        sagemaker=document["sagemaker"],
        ec2=document["ec2"],
    )


def _problems(document: Mapping[str, Any]) -> Iterator[str]:
    if type(document.get("date")) is not date:
        yield "date is missing, or is not like 2026-01-31"
    if not isinstance(document.get("region"), str):
        yield "region is missing, or is no text"
    for table, kind in _TABLES.items():
        wanted, found = {field.name for field in dataclasses.fields(kind)}, document.get(table, {})
        yield from (f"{table}.{name} is missing" for name in sorted(wanted - found.keys()))
        yield from (f"{table}.{name} is unknown" for name in sorted(found.keys() - wanted))
    for table in (*_TABLES, "sagemaker", "ec2"):
        if not isinstance(document.get(table), dict):
            yield f"{table} is missing"
        for name, price in document.get(table, {}).items():
            if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < float("inf"):
                yield f"{table}.{name} is {price!r}"
