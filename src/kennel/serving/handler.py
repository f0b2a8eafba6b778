"""The shell that multi-model-server loads: its calling convention, and nothing else.

It must hold exactly one class and no function called `handle`: that is how multi-model-server finds
the service. What it raises would come out as a 503 with words that are not ours, so it raises nothing.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from kennel import errors
from kennel.serving import model as models
from kennel.serving.answer import DataPlane
from kennel.serving.predictor import Predictor
from kennel.serving.wire import ANSWER_HEADER, CONTENT_TYPE_HEADER, MANIFEST_KEY, error_body


class KennelService:
    """One worker's model."""

    def __init__(self) -> None:
        self._plane: DataPlane | None = None
        self._fault: errors.KennelError = errors.InvalidModel("the model was never loaded")

    def initialize(self, context: Any) -> None:
        """Load the model; a model that cannot be loaded is answered with InvalidModel ever after."""
        # Standard error is the stream that the log settings show.
        logging.getLogger("kennel").addHandler(logging.StreamHandler(sys.stderr))
        try:
            orders = context.manifest[MANIFEST_KEY]
            model = models.read(Path(orders["model_dir"]))
            self._plane = DataPlane(Predictor(model, threads=orders["threads"]))
        except errors.KennelError as error:
            self._fault = error

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answer a batch, which by configuration holds one request."""
        answers = []
        for index, request in enumerate(data):
            content_type = context.get_request_header(index, CONTENT_TYPE_HEADER) or ""
            status, body = self._answer(bytes(request.get("body") or b""), content_type)
            context.set_response_status(status, "", index)
            context.set_response_content_type(index, "application/json")
            context.set_response_header(index, ANSWER_HEADER, "1")
            answers.append(body)
        return answers

    def _answer(self, body: bytes, content_type: str) -> tuple[int, bytes]:
        if self._plane is None:
            return 500, error_body(self._fault)
        try:
            return self._plane.answer(body, content_type)
        except Exception:  # a bug of ours: the log gets the traceback, the caller does not
            logging.getLogger("kennel").exception("a request failed")
            return 500, error_body(errors.KennelError("the server failed on this request"))
