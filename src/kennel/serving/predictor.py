"""The network behind one call: an image in, ranked labels out.

Pure but for reading the model file. Threads are explicit: ONNX Runtime does not read OMP_NUM_THREADS,
and workers times cores threads fight for the CPUs and halve throughput.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

from kennel import contract, errors
from kennel.contract import Prediction
from kennel.serving import decode
from kennel.serving.model import Model


class Predictor:
    """One loaded model. Calls are independent; one thread at a time is what it is made for."""

    def __init__(self, model: Model, *, threads: int = 1) -> None:
        """Load the network and run it once, so that the first request pays for nothing.

        Raises InvalidModel when the file is no network, or not one of the artefact's shape.
        """
        self.model = model
        try:
            # From bytes: what was checked is what runs, and a network that points to files elsewhere fails to load.
            self._session = onnxruntime.InferenceSession(
                model.network.read_bytes(), sess_options=_options(threads), providers=["CPUExecutionProvider"]
            )
            blank = np.zeros((1, 3, model.image_size, model.image_size), dtype=np.float32)
            answer = self._run(blank)
        except Exception as error:  # ONNX Runtime's exceptions share no base that is public
            raise errors.InvalidModel(
                f"ONNX Runtime cannot run it: {_first_line(error)}", where=str(model.network), hint="Train again."
            ) from error
        if answer.shape != (1, len(model.labels)):
            raise errors.InvalidModel(
                f"answers of shape {answer.shape} for {len(model.labels)} classes", where=str(model.network)
            )

    def predict(self, image: Image.Image, *, top_k: int) -> tuple[Prediction, ...]:
        """The `top_k` most probable labels of an RGB image, best first; equals in the order of the classes."""
        model = self.model
        square = decode.centre_square(image, resize=model.resize, size=model.image_size)
        return rank(self._run(decode.normalized(square, mean=model.mean, std=model.std))[0], model.labels, top_k)

    def _run(self, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        outputs: list[Any] = self._session.run(["probabilities"], {"image": images})
        return np.asarray(outputs[0], dtype=np.float32)


def rank(probabilities: npt.NDArray[np.float32], labels: Sequence[str], top_k: int) -> tuple[Prediction, ...]:
    """The `top_k` best of (classes,) probabilities; fails on NaN, which would otherwise rank as anything."""
    if not np.isfinite(probabilities).all():
        raise ArithmeticError("the network answered with probabilities that are no numbers")
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return tuple(Prediction(label=labels[index], probability=float(probabilities[index])) for index in order)


def default_top_k(model: Model) -> int:
    """How many labels an answer ranks when the request does not say."""
    return min(contract.TOP_K, len(model.labels))


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning starves the other workers
    options.log_severity_level = 3
    return options


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
