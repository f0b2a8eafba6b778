"""Sends S3's notifications to our functions instead of moto's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from moto.s3 import notifications


def send_notifications_to(invoke_async: Callable[[str, bytes], None]) -> None:
    """Change moto in this process: `invoke_async(function_arn, payload)` takes what S3 tells functions."""

    # moto runs functions in Docker, inside the request that put the object; AWS queues the event
    def invoke_function(_account_id: str, event: Any, function_arn: str, _region: str) -> None:
        invoke_async(function_arn, json.dumps(event).encode())

    notifications._invoke_awslambda = invoke_function
