"""What the user may choose: TOML into frozen dataclasses, every problem reported at once with its key. Pure.

The dataclasses are the reference: one field per key, its meaning below it. Which AWS request a value ends up in
is `kennel.pipeline.document`'s business.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kennel import contract, references
from kennel.errors import InvalidArguments


@dataclass(frozen=True, kw_only=True)
class Aws:
    """Which AWS."""

    endpoint_url: str
    """`local` starts one on 127.0.0.1; empty is AWS; anything else is an endpoint that already runs."""

    runtime: Literal["process", "docker"]
    """What the local AWS runs jobs and instances in: processes of this environment, or containers of the images."""


@dataclass(frozen=True, kw_only=True)
class Infrastructure:
    """Parameters of `statemachine/infrastructure.yaml`."""

    network: bool
    """Whether the function runs in the VPC, and what is called from there has interface endpoints, paid by the hour."""

    log_execution_data: bool
    """Whether the state machine's log holds the input and output of states, too."""

    rollout_on_push: bool
    """Whether a serving image that is pushed is rolled out by itself."""


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
    """The training image: the name of a repository, for the image of this very source; or an image as it is."""

    serving: str
    """The serving image, likewise."""

    torch: Literal["cpu", "cuda"]
    """Which build of torch the training image gets: `cuda` for instances with a GPU."""


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

    spot: bool
    """On spare capacity: cheaper, may be interrupted, and then goes on from its last checkpoint."""

    max_wait_seconds: int
    """With spot: seconds in all, those of waiting for capacity included."""

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

    spot: bool
    """On spare capacity: cheaper, may be interrupted, and then goes on from its last checkpoint."""

    max_wait_seconds: int
    """With spot: seconds in all, those of waiting for capacity included."""

    hyperparameters: Mapping[str, str]
    """Of every trial and of the final training; tuned values replace them."""


@dataclass(frozen=True, kw_only=True)
class Ec2:
    """Training on one EC2 instance: `run.py train-on-ec2`."""

    instance_type: str
    """Of the instance."""

    volume_gb: int
    """Its disk, in GB."""

    max_runtime_seconds: int
    """A training that runs longer is stopped; the instance ends itself half an hour later, whatever happens."""

    spot: bool
    """On spare capacity."""


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

    bake_seconds: int
    """Of an update: how long the old instances stay beside the new, to go back to if an alarm goes off."""

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
    """Per instance. AWS's rule: most requests per second one instance bears, times 0.5, times 60."""

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
    infrastructure: Infrastructure
    data: Data
    images: Images
    tuning: Tuning
    training: Training
    ec2: Ec2
    metrics: Mapping[str, str]
    """Metric name → regular expression that finds its value in the log."""

    quality: Quality
    endpoint: Endpoint
    scaling: Scaling
    function: Function


_UNBOUNDED = math.inf
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "tuning.max_jobs": (1, _UNBOUNDED),
    "tuning.max_parallel_jobs": (1, _UNBOUNDED),
    "tuning.instance_count": (1, _UNBOUNDED),
    "tuning.volume_gb": (1, _UNBOUNDED),
    "tuning.max_runtime_seconds": (1, _UNBOUNDED),
    "tuning.max_wait_seconds": (1, _UNBOUNDED),
    "training.instance_count": (1, _UNBOUNDED),
    "training.volume_gb": (1, _UNBOUNDED),
    "training.max_runtime_seconds": (1, _UNBOUNDED),
    "training.max_wait_seconds": (1, _UNBOUNDED),
    "ec2.volume_gb": (1, _UNBOUNDED),
    "ec2.max_runtime_seconds": (60, _UNBOUNDED),
    "quality.minimum_validation_accuracy": (0, 1),
    "endpoint.instance_count": (1, _UNBOUNDED),
    "endpoint.start_seconds": (60, 3600),
    "endpoint.bake_seconds": (0, 3600),
    "endpoint.poll_seconds": (1, _UNBOUNDED),
    "endpoint.max_polls": (1, _UNBOUNDED),
    "scaling.min_capacity": (1, _UNBOUNDED),
    "scaling.max_capacity": (1, _UNBOUNDED),
    "scaling.target_invocations_per_minute": (1, _UNBOUNDED),
    "scaling.scale_in_cooldown": (0, 3600),
    "scaling.scale_out_cooldown": (0, 3600),
    "function.memory_mb": (128, 10_240),
    "function.timeout_seconds": (1, 900),
    "function.reserved_concurrency": (1, 1000),
    "function.provisioned_concurrency": (0, 1000),
    "function.poll_seconds": (1, _UNBOUNDED),
    "function.max_polls": (1, _UNBOUNDED),
}
"""Lowest and highest value of a number, by its key path."""

_NOT_ABOVE = (
    ("tuning.max_parallel_jobs", "tuning.max_jobs", ""),
    ("scaling.min_capacity", "scaling.max_capacity", ""),
    ("function.provisioned_concurrency", "function.reserved_concurrency", "; AWS refuses that"),
)
"""Pairs of key paths of which the first may not be above the second, and why."""


def parse(text: str, *, where: str) -> Config:
    """Read TOML. Raises InvalidArguments with every problem; `where` names the file in it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArguments("this is not TOML", where=where, problems=(str(error),)) from error
    reading = _Reading()
    config = reading.table(Config, document, "")
    problems = [*reading.problems, *_contradictions(reading.right)]
    if problems:
        plural = "s" if len(problems) > 1 else ""
        raise InvalidArguments(
            f"{len(problems)} problem{plural} in the configuration",
            where=where,
            hint="Mend each of these keys; config/local.toml shows them all.",
            problems=tuple(problems),
        )
    return typing.cast(Config, config)


def endpoint_url_problem(url: str) -> str | None:
    """Why `url` cannot be an AWS endpoint; None if it can.

    >>> endpoint_url_problem("http://127.0.0.1:4566") is None
    True
    """
    if url in ("", "local") or re.fullmatch(r"https?://[^/\s]+/?", url):
        return None
    return f"is {url!r}; it must be an address such as http://127.0.0.1:4566"


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """A document being read: what is wrong, and what is right by itself, each by its key path."""

    problems: list[str] = field(default_factory=list)
    right: dict[str, Any] = field(default_factory=dict)

    def table(self, kind: type, value: Any, path: str) -> Any:
        """`value` as the dataclass `kind`; None if anything in it is wrong."""
        if not isinstance(value, dict):
            return self._wrong(f"{path} must be a table")
        dot, before = f"{path}." if path else "", len(self.problems)
        hints, fields = typing.get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
        for name in value:
            if name not in fields:
                close = difflib.get_close_matches(name, fields, n=1)
                known = f"did you mean {close[0]}?" if close else f"known here: {', '.join(fields)}"
                self._wrong(f"{dot}{name} is unknown; {known}")
        found = {}
        for name, field_ in fields.items():
            if name in value:
                found[name] = self._value(hints[name], value[name], f"{dot}{name}")
            elif field_.default is dataclasses.MISSING:
                self._wrong(f"{dot}{name} is missing")
        return self._right(path, kind(**found)) if len(self.problems) == before else None

    def _value(self, kind: Any, value: Any, path: str) -> Any:
        """`value` as a `kind`; None if it does not fit."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is types.UnionType:  # only `X | None`, whose None is the absent key
            return self._value(arguments[0], value, path)
        if origin is Mapping:
            return self._mapping(arguments[1], value, path)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self.table(kind, value, path)
        return self._leaf(kind, value, path)

    def _mapping(self, kind: Any, value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            return self._wrong(f"{path} must be a table")
        # what is right in it is kept, though it may not be all
        return self._right(path, {name: self._value(kind, item, f"{path}.{name}") for name, item in value.items()})

    def _leaf(self, kind: Any, value: Any, path: str) -> Any:
        allowed = typing.get_args(kind)
        if typing.get_origin(kind) is Literal:
            if value not in allowed:
                return self._wrong(f"{path} is {value!r}; it must be one of {', '.join(map(repr, allowed))}")
            return self._right(path, value)
        if typing.get_origin(kind) is tuple:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                return self._wrong(f"{path} is {value!r}; it must be a list of strings")
            return self._right(path, tuple(value))
        if not isinstance(value, (int, float) if kind is float else kind) or (
            isinstance(value, bool) and kind is not bool
        ):
            return self._wrong(f"{path} is {value!r}; it must be {_NAMES[kind]}")
        return self._bounded(path, kind(value))

    def _bounded(self, path: str, value: Any) -> Any:
        low, high = _BOUNDS.get(path, (-_UNBOUNDED, _UNBOUNDED))
        if isinstance(value, str) or (math.isfinite(value) and low <= value <= high):
            return self._right(path, value)
        if path not in _BOUNDS:
            return self._wrong(f"{path} is {value}; it must be finite")
        span = f"be at least {low}" if high == _UNBOUNDED else f"lie between {low} and {high}"
        return self._wrong(f"{path} is {value}; it must {span}")

    def _right(self, path: str, value: Any) -> Any:
        self.right[path] = value
        return value

    def _wrong(self, problem: str) -> None:
        self.problems.append(problem)


_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def _contradictions(right: Mapping[str, Any]) -> Iterator[str]:
    """What is well formed and still cannot work; `right` holds what is well formed, by its key path."""
    name = right.get("name", "a")
    # without a hyphen: what begins with `<name>-` is this one's, in AWS and in the policies, and nobody else's
    well_named = bool(re.fullmatch(r"[a-z][a-z0-9]{0,11}", name))
    if not well_named:
        yield f"name is {name!r}; it must be at most 12 lower-case letters and digits"
    if problem := endpoint_url_problem(right.get("aws.endpoint_url", "")):
        yield f"aws.endpoint_url {problem}"
    for part in ("training", "serving"):
        repository = f"{name}-{part}" if well_named and "name" in right else ""
        if problem := _image_problem(right.get(f"images.{part}", repository or "a"), repository):
            yield f"images.{part} {problem}"
    for lower, upper, why in _NOT_ABOVE:
        if lower in right and upper in right and right[lower] > right[upper]:
            yield f"{lower} is {right[lower]}, above {upper}, which is {right[upper]}{why}"
    if right.get("tuning.ranges") == {}:
        yield "tuning.ranges is empty: there is nothing to tune"
    for range_name, item in right.get("tuning.ranges", {}).items():
        if item is not None:
            yield from _range(item, f"tuning.ranges.{range_name}")
    yield from _objective(right)
    metrics = {name: regex for name, regex in right.get("metrics", {}).items() if regex is not None}
    for metric, regex in metrics.items():
        if problem := _metric_problem(metric, regex):
            yield f'metrics."{metric}" {problem}'


def _image_problem(image: str, repository: str) -> str | None:
    """Why it is no reference, or a plain name that is not `repository`, this source's (empty: not known)."""
    if problem := references.problem(image):
        return problem
    if not repository or not references.parse(image).is_plain or image == repository:
        return None
    return f"is {image!r}; the image of this source is {repository}, any other is named with its registry"


def _range(item: Range, path: str) -> Iterator[str]:
    if item.type == "categorical":
        if not item.values:
            yield f"{path}.values is missing"
        if item.min is not None or item.max is not None:
            yield f"{path} is categorical: it has values, not min and max"
        return
    if item.values:
        yield f"{path} is {item.type}: it has min and max, not values"
    if item.min is None or item.max is None:
        yield f"{path} needs min and max"
    elif item.min > item.max:
        yield f"{path}.min is {item.min:g}, above {path}.max, which is {item.max:g}"
    elif item.scaling == "Logarithmic" and item.min <= 0:
        yield f"{path}.min is {item.min:g}; it must be above 0 for Logarithmic scaling"
    elif item.type == "integer" and not (item.min.is_integer() and item.max.is_integer()):
        yield f"{path} is integer: min and max must be whole numbers"


def _objective(right: Mapping[str, Any]) -> Iterator[str]:
    objective, direction = right.get("tuning.objective"), right.get("tuning.objective_type")
    if objective is not None and objective.startswith("test:"):
        yield f"tuning.objective is {objective!r}; the test split must stay unseen: take a validation metric"
    better = {"loss": "Minimize", "accuracy": "Maximize"}.get((objective or "").rpartition(":")[2])
    if better and direction and direction != better:
        yield f"tuning.objective_type is {direction!r}; for {objective} it must be {better!r}"
    if "metrics" in right:
        for needed in sorted({objective or "validation:accuracy", "validation:accuracy"} - right["metrics"].keys()):
            yield f'metrics."{needed}" is missing; tuning and the quality threshold need it'


def _metric_problem(name: str, regex: str) -> str | None:
    """Why the regular expression would not find the metric in a training job's log; None if it would."""
    log = contract.sample_log()
    line = next((line for line in log.splitlines() if f"{name}=" in line), log.splitlines()[0])
    try:
        compiled = re.compile(regex)
    except re.error as error:
        return f"is not a regular expression: {error}"
    if compiled.groups != 1:
        return f"needs one group, around the value: {re.escape(name)}=([0-9.eE+-]+)"
    if (found := compiled.search(log)) is None:
        return f"never matches what a training job prints, such as: {line}"
    wanted = re.search(contract.metric_regex(name), log)
    if wanted is not None and found[1] != wanted[1]:
        return f"finds {found[1]!r} instead of {wanted[1]!r} in: {line}"
    try:
        float(found[1])
    except ValueError:
        return f"finds {found[1]!r}, which is no number, in: {line}"
    return None
