"""Small real artefacts for the tests of serving: the network weighs mean colours, so we know what it must answer."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from kennel import contract

LABELS = ("red", "green", "blue")
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def network(*, classes: int = 3, size: int = 32, sharpness: float = 2.0, slow: int = 0) -> bytes:
    """Mean of each channel times `sharpness`, softmax over the classes; `slow` adds that many large products."""
    weights = np.zeros((3, classes), dtype=np.float32)
    for channel in range(min(3, classes)):
        weights[channel, channel] = sharpness
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["colours"]),
        helper.make_node("MatMul", ["colours", "weights"], ["scores"]),
    ]
    constants = [numpy_helper.from_array(weights, "weights")]
    scores = "scores"
    if slow:
        # Work whose result is multiplied by zero: the answers stay those of the colours.
        constants += [
            numpy_helper.from_array(np.full((512, 512), 1 / 512, dtype=np.float32), "square"),
            numpy_helper.from_array(np.zeros((1, classes), dtype=np.float32), "zero"),
            numpy_helper.from_array(np.ones((3, 512), dtype=np.float32), "wide"),
            numpy_helper.from_array(np.ones((512 * 512, 1), dtype=np.float32)[:512], "narrow"),
        ]
        nodes.append(helper.make_node("MatMul", ["colours", "wide"], ["work0"]))
        for step in range(slow):
            nodes.append(helper.make_node("MatMul", [f"work{step}", "square"], [f"work{step + 1}"]))
        nodes += [
            helper.make_node("MatMul", [f"work{slow}", "narrow"], ["one"]),
            helper.make_node("MatMul", ["one", "zero"], ["nothing"]),
            helper.make_node("Add", ["scores", "nothing"], ["total"]),
        ]
        scores = "total"
    nodes.append(helper.make_node("Softmax", [scores], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def picture(colour: tuple[int, int, int], *, size: tuple[int, int] = (64, 48), kind: str = "JPEG") -> bytes:
    """One plain image."""
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format=kind)
    return buffer.getvalue()


RED, GREEN, BLUE = picture((250, 10, 10)), picture((10, 250, 10)), picture((10, 10, 250))


def write_artefact(
    directory: Path,
    *,
    labels: tuple[str, ...] = LABELS,
    onnx_bytes: bytes | None = None,
    example: bytes | None = GREEN,
    changes: dict[str, Any] | None = None,
) -> Path:
    """A model directory as training leaves it; `changes` replaces keys of the manifest."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {
        contract.MODEL_FILE: onnx_bytes or network(classes=len(labels)),
        contract.LABELS_FILE: json.dumps(list(labels)).encode(),
    }
    if example is not None:
        files[contract.EXAMPLE_FILE] = example
    manifest = {
        "format_version": contract.MODEL_FORMAT_VERSION,
        "backbone": "colours",
        "image_size": 32,
        "resize": 37,
        "mean": list(MEAN),
        "std": list(STD),
        "classes": len(labels),
        "metrics": {"validation:accuracy": 1.0},
        "data": {"digest": "d" * 64},
        "example": None if example is None else {"label": "green", "probability": 0.9},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    } | (changes or {})
    for name, content in files.items():
        (directory / name).write_bytes(content)
    (directory / contract.MANIFEST_FILE).write_text(json.dumps(manifest))
    return directory
