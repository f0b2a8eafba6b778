"""The words that the parts of kennel agree on: paths, ports, names, formats.

Everything here is a constant or a pure function of its arguments. Training, serving, the Lambda
function, the pipeline and the local AWS never import one another; what they share, they share
through this module. It must not import anything outside the standard library: the Lambda zip holds it.

Sources: the SageMaker container contract ("How Amazon SageMaker runs your training image",
"Use your own inference code with hosting services") and botocore's service models.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# --- the training container -----------------------------------------------------------------

BASE_DIR: Final = "/opt/ml"
"""Root of the container contract. `SAGEMAKER_BASE_DIR` moves it (sagemaker-training honours it)."""

BASE_DIR_ENV: Final = "SAGEMAKER_BASE_DIR"

TRAINING_CHANNEL: Final = "training"
"""Channel that holds `train/`, `valid/` and `test/`, each `<class>/<image>`."""

PRETRAINED_CHANNEL: Final = "pretrained"
"""Optional channel that holds one file of pretrained backbone weights."""

CHECKPOINTS_DIR: Final = "/opt/ml/checkpoints"
"""LocalPath of a job's CheckpointConfig; SageMaker makes the folder for jobs that have one, and keeps it in S3."""

PARTIAL_SUFFIX: Final = ".partial"
"""Files of this suffix there are not finished: they are not checkpoints yet."""

SPLITS: Final = ("train", "valid", "test")

FAILURE_REASON_CHARACTERS: Final = 1024
"""How much of `output/failure` becomes FailureReason."""

NO_TELEMETRY_ENV: Final = {"ORT_DISABLE_TELEMETRY": "1"}
"""ONNX Runtime's official builds since 1.29 report each model's shape and use to Microsoft unless this is set."""

TRAINING_IMAGE_ENV: Final = {"SAGEMAKER_TRAINING_MODULE": "kennel.training.entry:main", **NO_TELEMETRY_ENV}
"""What `containers/training/Dockerfile` sets with ENV: the module that the `train` command calls, and no reports."""

RENDEZVOUS_PORT: Final = 7777
"""Port of the first host on which a multi-host training job meets (sagemaker-training's choice too)."""

# --- what a training job prints -------------------------------------------------------------

METRICS: Final = (
    "train:loss",
    "train:accuracy",
    "validation:loss",
    "validation:accuracy",
    "test:loss",
    "test:accuracy",
)
"""Losses are mean cross-entropy in nats per image; accuracies are fractions of images."""

METRIC_PREFIX: Final = "kennel-metrics"
PROGRESS_PREFIX: Final = "kennel-progress"


def metric_line(**values: float) -> str:
    """One log line that carries metrics, as every training job prints them.

    Keyword names are free; a `_` after the split stands for `:` (``validation_loss=0.5`` prints
    ``validation:loss=0.500000``). Integers print as they are.

    >>> metric_line(epoch=3, validation_loss=0.25)
    'kennel-metrics epoch=3 validation:loss=0.250000'
    """
    words = [METRIC_PREFIX]
    for name, value in values.items():
        shown = str(value) if isinstance(value, int) else f"{value:.6f}"
        words.append(f"{_metric_name(name)}={shown}")
    return " ".join(words)


def progress_line(*, epoch: int, epochs: int, step: int, steps: int) -> str:
    """One log line that says how far an epoch is.

    >>> progress_line(epoch=1, epochs=8, step=3, steps=14)
    'kennel-progress epoch=1/8 step=3/14'
    """
    return f"{PROGRESS_PREFIX} epoch={epoch}/{epochs} step={step}/{steps}"


def metric_regex(name: str) -> str:
    """The regular expression with which SageMaker reads metric `name` from the log."""
    return rf"{re.escape(name)}=([0-9.eE+-]+|nan|inf)"


def sample_log() -> str:
    """What the log of any successful training job contains, with made-up values.

    A MetricDefinition whose regex finds nothing here would find nothing in a real job either.
    """
    per_epoch = metric_line(
        epoch=1, train_loss=1.5, train_accuracy=0.5, validation_loss=1.25, validation_accuracy=0.625
    )
    return f"{per_epoch}\n{metric_line(test_loss=1.0, test_accuracy=0.75)}\n"


def _metric_name(keyword: str) -> str:
    for split in ("train", "validation", "test"):
        if keyword.startswith(f"{split}_"):
            return f"{split}:{keyword.removeprefix(f'{split}_')}"
    return keyword


# --- the artefact: model.tar.gz -------------------------------------------------------------

ARTEFACT_NAME: Final = "model.tar.gz"
MODEL_FORMAT_VERSION: Final = 1
MODEL_FILE: Final = "model.onnx"
"""Input `image` (N, 3, S, S) float32, normalized; output `probabilities` (N, classes) float32."""

LABELS_FILE: Final = "labels.json"
"""A JSON list of class names; position is the class index."""

MANIFEST_FILE: Final = "manifest.json"
WEIGHTS_FILE: Final = "model.safetensors"
"""The weights once more, for training further; serving never reads it."""

EXAMPLE_FILE: Final = "example.jpg"
"""An image of the validation split that the model classifies correctly. Its class is the manifest's
`example.label`: a deployment is tested with the image whose answer is known."""

# --- the serving container ------------------------------------------------------------------

SERVING_PORT: Final = 8080
PING_PATH: Final = "/ping"
INVOCATIONS_PATH: Final = "/invocations"
MODEL_DIR: Final = "/opt/ml/model"

SERVING_PORT_ENV: Final = "KENNEL_SERVING_PORT"
"""Where `serve` listens; SageMaker always wants 8080, several servers on one host need others."""

SERVING_HOST_ENV: Final = "KENNEL_SERVING_HOST"
"""Address on which `serve` listens: `127.0.0.1` unless set; the image sets `0.0.0.0`."""

MODEL_DIR_ENV: Final = "KENNEL_MODEL_DIR"
"""Where the unpacked artefact lies, when not in /opt/ml/model."""

MAX_PAYLOAD_BYTES: Final = 6_291_456
"""Largest InvokeEndpoint body (botocore: BodyBlob max)."""

MAX_PIXELS: Final = 25_000_000
TOP_K: Final = 5
"""How many labels an answer ranks, at most."""


class ContentType(StrEnum):
    """What `POST /invocations` takes."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    JSON = "application/json"


# --- the function ---------------------------------------------------------------------------

UPLOADS_PREFIX: Final = "uploads/"
PREDICTIONS_PREFIX: Final = "predictions/"


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One ranked label of an answer."""

    label: str
    probability: float
