"""What the user may choose: TOML into frozen dataclasses, every problem reported at once with its key. Pure.

The dataclasses are the reference: one field per key, its meaning below it. Which AWS request a value ends up in
is `kennel.pipeline.document`'s business.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kennel import contract
from kennel.errors import InvalidArguments


@dataclass(frozen=True, kw_only=True)
class Aws:
    """Which AWS."""

    endpoint_url: str
    """`local` starts one on 127.0.0.1; empty is AWS; anything else is an endpoint that already runs."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is trained on."""

    source: str
    """`sample` (generated), a folder, or an `s3://` prefix, that holds `train/`, `valid/` and `test/`."""

    pretrained: str
    """A file of pretrained backbone weights, or its `s3://` URI; empty for none."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """Which container images run."""

    training: str
    """URI of the training image."""

    serving: str
    """URI of the serving image."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """One tuned hyperparameter."""

    type: Literal["continuous", "integer", "categorical"]
    """What its values are."""

    min: float | None = None
    """Lowest value, of a continuous or integer range."""

    max: float | None = None
    """Highest value, of a continuous or integer range."""

    scaling: Literal["Auto", "Linear", "Logarithmic"] = "Auto"
    """How values are spread between them."""

    values: tuple[str, ...] = ()
    """The values of a categorical range."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The search for hyperparameters."""

    strategy: Literal["Bayesian", "Random"]
    """How the next trial is chosen."""

    objective: str
    """The metric that decides; measured on the validation split."""

    objective_type: Literal["Minimize", "Maximize"]
    """Which way is better."""

    max_jobs: int
    """Trials in all."""

    max_parallel_jobs: int
    """Trials at once."""

    instance_type: str
    """Of the hosts of a trial."""

    instance_count: int
    """Hosts per trial."""

    volume_gb: int
    """Disk per host, in GB."""

    max_runtime_seconds: int
    """A trial that runs longer is stopped."""

    ranges: Mapping[str, Range]
    """Tuned hyperparameters by name."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The final training."""

    instance_type: str
    """Of its hosts."""

    instance_count: int
    """Hosts, in one process group."""

    volume_gb: int
    """Disk per host, in GB."""

    max_runtime_seconds: int
    """A training that runs longer is stopped."""

    hyperparameters: Mapping[str, str]
    """Of every trial and of the final training; tuned values replace them."""


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What a model must reach to be deployed."""

    minimum_validation_accuracy: float
    """Fraction of the validation images, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where the model answers."""

    instance_type: str
    """Of its instances."""

    instance_count: int
    """Instances at first."""

    start_seconds: int
    """How long an instance may take until it answers /ping."""

    poll_seconds: int
    """Between two looks at an endpoint that is being created or updated."""

    max_polls: int
    """Looks, before the deployment counts as failed."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How the number of instances follows the traffic."""

    min_capacity: int
    """Fewest instances."""

    max_capacity: int
    """Most instances."""

    target_invocations_per_minute: float
    """Per instance. AWS's rule: most requests per second one instance bears × 0.5 × 60."""

    scale_in_cooldown: int
    """Seconds after removing instances before removing more."""

    scale_out_cooldown: int
    """Seconds after adding instances before adding more."""


@dataclass(frozen=True, kw_only=True)
class Function:
    """The Lambda function in front of the endpoint."""

    memory_mb: int
    """Memory, which also sets its share of CPU."""

    timeout_seconds: int
    """A longer invocation is ended."""

    reserved_concurrency: int
    """Invocations at once, at most; further callers are throttled."""

    provisioned_concurrency: int
    """Environments that are started before they are needed; 0 for none."""

    allowed_url_hosts: tuple[str, ...]
    """Hosts that a `{"url": "https://…"}` may name."""

    poll_seconds: int
    """Between two looks at a function that is being updated."""

    max_polls: int
    """Looks, before the update counts as failed."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything."""

    name: str
    """Every resource is named after it."""

    region: str
    """The AWS region."""

    seed: int
    """Of everything random."""

    aws: Aws
    data: Data
    images: Images
    tuning: Tuning
    training: Training
    metrics: Mapping[str, str]
    """Metric name → regular expression that finds its value in the log."""

    quality: Quality
    endpoint: Endpoint
    scaling: Scaling
    function: Function


def parse(text: str, *, where: str) -> Config:
    """Read TOML. Raises InvalidArguments with every problem; `where` names the file in it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArguments("this is not TOML", where=where, problems=(str(error),)) from error
    problems: list[str] = []
    config = _read(Config, document, "", problems)
    if not problems:
        problems += _contradictions(config)
    if problems:
        plural = "s" if len(problems) > 1 else ""
        raise InvalidArguments(
            f"{len(problems)} problem{plural} in the configuration",
            where=where,
            hint="Mend each of these keys; config/local.toml shows them all.",
            problems=tuple(problems),
        )
    assert isinstance(config, Config)
    return config


def _read(kind: Any, value: Any, path: str, problems: list[str]) -> Any:
    """`value` as a `kind`; what does not fit is added to `problems`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _read_table(kind, value, path, problems)
    if origin is Literal:
        if value not in arguments:
            problems.append(f"{path} is {value!r}; it must be one of {', '.join(map(repr, arguments))}")
    elif origin is types.UnionType:  # only `X | None`, whose None is the absent key
        return _read(arguments[0], value, path, problems)
    elif origin is tuple:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        problems.append(f"{path} is {value!r}; it must be a list of strings")
    elif origin in (dict, Mapping):
        if isinstance(value, dict):
            return {name: _read(arguments[1], item, f"{path}.{name}", problems) for name, item in value.items()}
        problems.append(f"{path} must be a table")
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        problems.append(f"{path} is {value!r}; it must be a {_NAMES[kind]}")
    return value


_NAMES = {str: "string", int: "whole number", float: "number", bool: "true or false"}


def _read_table(kind: type, value: Any, path: str, problems: list[str]) -> Any:
    if not isinstance(value, dict):
        problems.append(f"{path} must be a table")
        return None
    dot = f"{path}." if path else ""
    hints, fields = typing.get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
    before = len(problems)
    for name in value.keys() - fields.keys():
        problems.append(f"{dot}{name} is unknown; known here: {', '.join(fields)}")
    found = {}
    for name, field in fields.items():
        if name in value:
            found[name] = _read(hints[name], value[name], f"{dot}{name}", problems)
        elif field.default is dataclasses.MISSING:
            problems.append(f"{dot}{name} is missing")
    return kind(**found) if len(problems) == before else None


def _contradictions(config: Config) -> Iterator[str]:
    """What is well formed and still cannot work."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", config.name) or len(config.name) > 12:
        yield f"name is {config.name!r}; it must be at most 12 lower-case letters, digits and single hyphens"
    yield from _counts(config)
    yield from _ranges(config.tuning)
    yield from _metrics(config)
    if not 0 <= config.quality.minimum_validation_accuracy <= 1:
        yield "quality.minimum_validation_accuracy must lie between 0 and 1"
    if config.scaling.max_capacity < config.scaling.min_capacity:
        yield "scaling.max_capacity is below scaling.min_capacity"
    if config.function.provisioned_concurrency > config.function.reserved_concurrency:
        yield "function.provisioned_concurrency is above function.reserved_concurrency; AWS refuses that"
    if config.tuning.max_parallel_jobs > config.tuning.max_jobs:
        yield "tuning.max_parallel_jobs is above tuning.max_jobs"


def _counts(config: Config) -> Iterator[str]:
    positive = {
        "tuning": ("max_jobs", "max_parallel_jobs", "instance_count", "volume_gb", "max_runtime_seconds"),
        "training": ("instance_count", "volume_gb", "max_runtime_seconds"),
        "endpoint": ("instance_count", "poll_seconds", "max_polls"),
        "scaling": ("min_capacity", "max_capacity", "target_invocations_per_minute"),
        "function": ("timeout_seconds", "poll_seconds", "max_polls"),
    }
    for table, names in positive.items():
        for name in names:
            if (value := getattr(getattr(config, table), name)) < 1:
                yield f"{table}.{name} is {value}; it must be at least 1"
    bounds = (
        ("endpoint.start_seconds", config.endpoint.start_seconds, 60, 3600),
        ("function.memory_mb", config.function.memory_mb, 128, 10_240),
        ("function.timeout_seconds", config.function.timeout_seconds, 1, 900),
        ("function.reserved_concurrency", config.function.reserved_concurrency, 1, 1000),
        ("function.provisioned_concurrency", config.function.provisioned_concurrency, 0, 1000),
        ("scaling.scale_in_cooldown", config.scaling.scale_in_cooldown, 0, 3600),
        ("scaling.scale_out_cooldown", config.scaling.scale_out_cooldown, 0, 3600),
    )
    for path, number, low, high in bounds:
        if not low <= number <= high:
            yield f"{path} is {number}; it must lie between {low} and {high}"


def _ranges(tuning: Tuning) -> Iterator[str]:
    if not tuning.ranges:
        yield "tuning.ranges is empty: there is nothing to tune"
    for name, item in tuning.ranges.items():
        path = f"tuning.ranges.{name}"
        if item.type == "categorical":
            if not item.values:
                yield f"{path}.values is missing"
        elif item.min is None or item.max is None or not math.isfinite(item.min + item.max):
            yield f"{path} needs min and max"
        elif item.min > item.max:
            yield f"{path}.min is above {path}.max"
        elif item.scaling == "Logarithmic" and item.min <= 0:
            yield f"{path}.min must be above 0 for Logarithmic scaling"


def _metrics(config: Config) -> Iterator[str]:
    log = contract.sample_log()
    for name, regex in config.metrics.items():
        try:
            if re.search(regex, log) is None:
                yield f'metrics."{name}" never matches what a training job prints, such as: {log.splitlines()[0]}'
        except re.error as error:
            yield f'metrics."{name}" is not a regular expression: {error}'
    for needed in {config.tuning.objective, "validation:accuracy"} - config.metrics.keys():
        yield f'metrics."{needed}" is missing; tuning and the quality threshold need it'
