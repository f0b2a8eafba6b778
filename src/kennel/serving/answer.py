"""The data plane: request body and content type in, status and JSON out.

It knows no transport: the handler puts it behind multi-model-server, tests call it as it is. Every
fault of a request becomes a 4xx with a reason here; any other exception is a bug and passes through.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict
from typing import Any, Final

from kennel import errors
from kennel.contract import ContentType
from kennel.serving import decode
from kennel.serving.predictor import Predictor, default_top_k
from kennel.serving.wire import SNIFFED, dump, error_body

_KEYS: Final = ("image", "example", "top_k")


class DataPlane:
    """Answers requests with one predictor."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def answer(self, body: bytes, content_type: str) -> tuple[int, bytes]:
        """HTTP status and JSON body for one request."""
        try:
            return 200, dump(self._answer(body, content_type))
        except errors.BadRequest as error:
            return int(error.status), error_body(error)

    def _answer(self, body: bytes, content_type: str) -> dict[str, Any]:
        match _media_type(content_type):
            case ContentType.JSON:
                return self._answer_json(body)
            case claimed:
                return self._ranked(body, claimed, default_top_k(self._predictor.model))

    def _answer_json(self, body: bytes) -> dict[str, Any]:
        model = self._predictor.model
        request = _parse(body)
        top_k = request.get("top_k", default_top_k(model))
        if not isinstance(top_k, int) or isinstance(top_k, bool) or not 1 <= top_k <= len(model.labels):
            raise errors.BadRequest(f"top_k is not a whole number from 1 to {len(model.labels)}")
        if "image" in request:
            return self._ranked(_from_base64(request["image"]), None, top_k)
        if request["example"] is not True:
            raise errors.BadRequest("example is not true")
        if model.example is None:
            raise errors.BadRequest("this model has no example image", hint='Send {"image": "<base64>"}.')
        return self._ranked(model.example.read_bytes(), None, top_k) | {"expected": model.example_label}

    def _ranked(self, body: bytes, claimed: ContentType | None, top_k: int) -> dict[str, Any]:
        ranked = self._predictor.predict(decode.decode(body, claimed), top_k=top_k)
        return {
            "predictions": [asdict(prediction) for prediction in ranked],
            "model": self._predictor.model.described(),
        }


def _media_type(content_type: str) -> ContentType | None:
    """The content type without parameters and casing; None stands for "go by the bytes"."""
    name = content_type.split(";", 1)[0].strip().lower()
    if name == SNIFFED:
        return None
    try:
        return ContentType(name)
    except ValueError:
        what = f"the content type {name[:100]!r} is not supported" if name else "there is no content type"
        raise errors.UnsupportedMediaType(what, hint=f"Send {decode.ACCEPTED}.") from None


def _parse(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise errors.BadRequest("the body is not JSON") from None
    if not isinstance(request, dict):
        raise errors.BadRequest("the body is not a JSON object", hint='Send {"image": "<base64>"}.')
    unknown = sorted(set(request) - set(_KEYS))
    if unknown:
        raise errors.BadRequest(f"unknown key {unknown[0][:100]!r}", hint=f"The keys are {', '.join(_KEYS)}.")
    if ("image" in request) == ("example" in request):
        raise errors.BadRequest("the body needs either image or example", hint='Send {"image": "<base64>"}.')
    return request


def _from_base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise errors.BadRequest("image is not a string", hint="Send the image's bytes in base64.")
    try:
        # Line breaks are common (the base64 command wraps); anything else outside the alphabet is a mistake.
        return base64.b64decode("".join(text.split()).encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        raise errors.BadRequest(
            "image is not base64", hint="Send the image's bytes in base64, no data: prefix."
        ) from None
