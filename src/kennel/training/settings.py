"""Hyperparameters: the strings of hyperparameters.json become one checked record.

SageMaker hands every hyperparameter over as a string, the tuned ones JSON-quoted once more. All
problems are reported at once, each with its key. This module must not import torch: a wrong
hyperparameter fails a job before the seconds that the import takes.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, get_type_hints

from kennel.errors import InvalidArguments

WHERE: Final = "hyperparameters"


class Backbone(StrEnum):
    """The networks, by torchvision's names."""

    RESNET18 = "resnet18"
    RESNET50 = "resnet50"
    MOBILENET_V3_SMALL = "mobilenet_v3_small"
    MOBILENET_V3_LARGE = "mobilenet_v3_large"
    EFFICIENTNET_B0 = "efficientnet_b0"


class Optimizer(StrEnum):
    """How weights follow gradients."""

    ADAMW = "adamw"
    SGD = "sgd"


class TrainLayers(StrEnum):
    """Which layers learn."""

    AUTO = "auto"
    HEAD = "head"
    ALL = "all"


class Augmentation(StrEnum):
    """How training images vary from epoch to epoch."""

    NONE = "none"
    STANDARD = "standard"


class Precision(StrEnum):
    """The number type of training."""

    AUTO = "auto"
    SINGLE = "single"
    DOUBLE = "double"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a training job can be told."""

    backbone: Backbone = Backbone.RESNET18
    """The network between the image and the classes."""

    image_size: int = 224
    """Side of the square that the network sees, in pixels. 32 to 1024."""

    epochs: int = 10
    """How often every training image is used. 1 to 1000."""

    batch_size: int = 64
    """Images per step over *all* hosts together, so that a value tuned on one host keeps its meaning
    on several. At least 4 per host. Batches of an epoch differ in size by one image at most, and none
    is larger than this."""

    learning_rate: float = 0.001
    """Peak of the schedule: a linear warm-up, then a cosine down to zero. Above 0, at most 10."""

    warmup: float = 0.1
    """Share of all steps over which the learning rate rises. 0 to 0.5."""

    optimizer: Optimizer = Optimizer.ADAMW
    """`adamw`, or `sgd` with Nesterov momentum 0.9."""

    weight_decay: float = 0.01
    """Applied to matrices and kernels only, not to biases and normalization. 0 to 1."""

    label_smoothing: float = 0.0
    """Of the loss that is minimized; reported losses are always plain cross-entropy. 0 to 0.5."""

    train_layers: TrainLayers = TrainLayers.AUTO
    """`head`: the backbone stays as it came. `all`: everything learns. `auto`: `head` when there are
    pretrained weights, else `all`."""

    pretrained: str = "auto"
    """Where weights come from: `auto` (the channel `pretrained` if the job has it, else none), `none`,
    `torchvision` (downloaded; needs a network), or the path of a .safetensors or .pth file."""

    augmentation: Augmentation = Augmentation.STANDARD
    """`standard`: random crop, mirror, brightness and contrast. `none`: the evaluation view, always."""

    precision: Precision = Precision.AUTO
    """`auto`: mixed precision on a GPU, else float32. `single`: float32. `double`: float64, several times
    slower: rounding grows from step to step, so only here do different numbers of hosts give the same
    losses to many digits. The artefact holds float32 in any case."""

    seed: int = 0
    """Of the initial weights, the order of images and their augmentation. At least 0."""

    host_timeout: float = 60.0
    """Seconds after which a host that does not answer is lost, and the job fails. 5 to 3600."""


_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "image_size": (32, 1024),
    "epochs": (1, 1000),
    "batch_size": (4, 65536),
    "learning_rate": (0, 10),
    "warmup": (0, 0.5),
    "weight_decay": (0, 1),
    "label_smoothing": (0, 0.5),
    "seed": (0, 2**31 - 1),
    "host_timeout": (5, 3600),
}
_ABOVE: Final = frozenset({"learning_rate"})
"""Keys whose lower bound is itself not allowed."""


def parse(raw: Mapping[str, str]) -> Settings:
    """Settings from the strings of hyperparameters.json.

    Keys that start with `_` or `sagemaker_` belong to the tuner and the toolkit and are ignored.
    Raises InvalidArguments that lists every unknown key and every wrong value.

    >>> parse({"batch_size": '"32"', "_tuning_objective_metric": "validation:loss"}).batch_size
    32
    """
    types = get_type_hints(Settings)
    values: dict[str, Any] = {}
    problems = []
    for key, given in raw.items():
        if key.startswith(("_", "sagemaker_")):
            continue
        if key not in types:
            close = difflib.get_close_matches(key, types, n=1)
            problems.append(f"{key}: unknown" + (f"; did you mean {close[0]}?" if close else ""))
            continue
        try:
            values[key] = _value(key, types[key], unquoted(given))
        except ValueError as error:
            problems.append(f"{key}: {error}")
    if problems:
        raise InvalidArguments(
            f"{len(problems)} of {len(raw)} hyperparameters cannot be used.",
            where=WHERE,
            hint=f"Known are: {', '.join(field.name for field in dataclasses.fields(Settings))}.",
            problems=tuple(problems),
        )
    return Settings(**values)


def unquoted(given: str) -> str:
    """The value of a hyperparameter, without the JSON quotes that a tuner puts around it."""
    text = str(given).strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text)).strip()
        except ValueError:
            return text
    return text


def _value(key: str, kind: Any, text: str) -> Any:
    if kind is str:
        if not text:
            raise ValueError("is empty")
        return text
    if issubclass(kind, StrEnum):
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"{text!r} is not one of {', '.join(kind)}") from None
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    low, high = _BOUNDS[key]
    if not math.isfinite(number) or not low <= number <= high or (key in _ABOVE and number == low):
        span = f"above {low:g} and at most {high:g}" if key in _ABOVE else f"{low:g} to {high:g}"
        raise ValueError(f"{text} is not {span}")
    if kind is int:
        if number != int(number):
            raise ValueError(f"{text} is not a whole number")
        return int(number)
    return number
