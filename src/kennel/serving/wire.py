"""What the gate and a worker agree on, so that the gate need not load the worker's libraries (60 MB)."""

from __future__ import annotations

import json
from typing import Final

from kennel import errors

CONTENT_TYPE_HEADER: Final = "x-kennel-content-type"
"""Carries the request's content type: multi-model-server would act on the real header (forms are a 500)."""

SNIFFED: Final = "application/x-image"
"""What SageMaker's clients send for an image of any type."""

ANSWER_HEADER: Final = "x-kennel-answer"
"""Marks a response as our handler's own; the gate words every other one itself."""

MANIFEST_KEY: Final = "kennel"
"""Where MAR-INF/MANIFEST.json tells the handler what to load: `model_dir` and `threads`."""


def dump(value: object) -> bytes:
    """JSON as every answer carries it; fails on numbers that JSON does not have."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def error_body(error: errors.KennelError) -> bytes:
    """The JSON body that tells a caller what is wrong and what to do."""
    message = " ".join(
        part if part.endswith((".", "}", "?")) else f"{part}." for part in (error.what, error.hint) if part
    )
    return dump({"error": {"code": error.code, "message": message}})
