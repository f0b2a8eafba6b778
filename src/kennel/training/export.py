"""The artefact: what a trained network leaves in model/, ready for SageMaker to pack.

Holds ONNX for serving, safetensors for training further, labels, an example whose answer is known,
and a manifest. No pickle, no clock: the same weights give the same bytes. Serving trusts what lies
here, so the export is compared with the network before anything is called done.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from kennel import contract
from kennel.training import images
from kennel.training.data import DataSet, ImageSet
from kennel.training.settings import Settings

TOLERANCE: Final = 1e-4
"""By how much the probabilities of ONNX and torch may differ."""

_OPSET: Final = 17
_EXAMPLES_TRIED: Final = 256


@dataclass(frozen=True, kw_only=True)
class Example:
    """A validation image as a JPEG, and what the exported model says of it."""

    jpeg: bytes
    label: str
    probability: float


class _Probabilities(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        return torch.softmax(self.model(image), dim=1)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def write_artefact(
    directory: Path,
    *,
    model: nn.Module,
    data: DataSet,
    settings: Settings,
    metrics: Mapping[str, float],
    versions: Mapping[str, str],
) -> Example | None:
    """Writes all files of the artefact into `directory`; the example, or None where the model gets none right.

    Moves the model to the CPU. Raises RuntimeError when ONNX and torch disagree.
    """
    model = model.cpu().float().eval()
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    onnx = to_onnx(model, image_size=settings.image_size)
    answer = Onnx(onnx, threads=torch.get_num_threads())
    example = find_example(data.splits["valid"], data.classes, answer=answer, image_size=settings.image_size)
    _compare(model, answer, data.splits["valid"], example=example, image_size=settings.image_size)
    files = {
        contract.MODEL_FILE: onnx,
        contract.WEIGHTS_FILE: to_safetensors(
            {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        ),
        contract.LABELS_FILE: _json(list(data.classes)),
    }
    if example is not None:
        files[contract.EXAMPLE_FILE] = example.jpeg
    manifest = {
        "format_version": contract.MODEL_FORMAT_VERSION,
        "backbone": settings.backbone.value,
        "image_size": settings.image_size,
        "resize": images.resize_for(settings.image_size),
        "mean": list(images.MEAN),
        "std": list(images.STD),
        "classes": len(data.classes),
        "metrics": dict(metrics),
        "data": {
            "digest": data.digest,
            "counts": {split: len(held) for split, held in data.splits.items()},
            "skipped": [asdict(skipped) for skipped in data.skipped],
        },
        "example": None if example is None else {"label": example.label, "probability": example.probability},
        "settings": asdict(settings),
        "versions": dict(versions),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in {**files, contract.MANIFEST_FILE: _json(manifest)}.items():
        (directory / name).write_bytes(content)
    return example


def to_onnx(model: nn.Module, *, image_size: int) -> bytes:
    """The model as ONNX: `image` (N, 3, S, S) -> `probabilities` (N, classes), N free."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The older exporter takes a tenth of the newer one's time (0.4 s against 4 s, in every trial) and
        # writes the same graph for these networks; torch asks on every call to move on.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Probabilities(model).eval(),
            (torch.zeros(1, 3, image_size, image_size),),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=_OPSET,
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_axes={"image": {0: "N"}, "probabilities": {0: "N"}},
        )
    return buffer.getvalue()


class Onnx:
    """The exported model in ONNX Runtime, on the CPU, as serving runs it."""

    def __init__(self, content: bytes, *, threads: int) -> None:
        import onnxruntime  # noqa: PLC0415 - only the first host exports

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3, S, S) -> probabilities (N, classes)."""
        answer: NDArray[np.float32] = self._session.run(["probabilities"], {"image": image})[0]
        return answer


def network_input(pixels: images.Pixels, image_size: int) -> NDArray[np.float32]:
    """(1, 3, S, S): the normalized evaluation view of a reduced image."""
    view = images.evaluation_view(pixels, image_size).astype(np.float32) / 255
    scaled = (view - np.array(images.MEAN, dtype=np.float32)) / np.array(images.STD, dtype=np.float32)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def find_example(held: ImageSet, classes: tuple[str, ...], *, answer: Onnx, image_size: int) -> Example | None:
    """The image that the exported model recognizes most surely, after it was encoded anew.

    Looks at up to 256 images, spread over the split.
    """
    short_side = images.resize_for(image_size)
    spread = np.unique(np.linspace(0, len(held) - 1, min(len(held), _EXAMPLES_TRIED)).round().astype(int))
    chances = [
        (float(answer(network_input(held.reduced(int(index)), image_size))[0, held.items[index].label]), int(index))
        for index in spread
    ]
    for chance, index in sorted(chances, key=lambda pair: (-pair[0], pair[1])):
        if chance <= 1 / len(classes):
            break  # Every further one is wrong.
        item = held.items[index]
        jpeg = images.reencoded(images.read(item.path.read_bytes()))
        probabilities = answer(network_input(images.reduced(images.read(jpeg), short_side), image_size))[0]
        if int(probabilities.argmax()) == item.label:
            return Example(jpeg=jpeg, label=classes[item.label], probability=round(float(probabilities[item.label]), 6))
    return None


@torch.no_grad()
def _compare(model: nn.Module, answer: Onnx, held: ImageSet, *, example: Example | None, image_size: int) -> None:
    if example is None:
        pixels = held.reduced(0)
    else:
        pixels = images.reduced(images.read(example.jpeg), images.resize_for(image_size))
    image = network_input(pixels, image_size)
    expected = torch.softmax(model(torch.from_numpy(image)), dim=1).numpy()
    difference = float(np.abs(answer(image) - expected).max())
    if not difference <= TOLERANCE:
        raise RuntimeError(f"ONNX and torch differ by {difference:.2g} in a probability, more than {TOLERANCE:g}")


def _json(document: object) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
