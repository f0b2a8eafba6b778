"""The function `classify`: an image in, ranked labels out. All it does is in `kennel.invocation`.

Environment: ENDPOINT_NAME; BUCKET (holds uploads and predictions); ALLOWED_URL_HOSTS (comma-separated, may be empty).
The clients are made at import, because that is what provisioned concurrency does in advance.
"""

import os
from typing import Any

import boto3
from botocore.config import Config

from kennel.invocation import Settings, handle

_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=3, read_timeout=20)
_RUNTIME = boto3.client("sagemaker-runtime", config=_CONFIG)
_S3 = boto3.client("s3", config=_CONFIG)
_SETTINGS = Settings.read(os.environ)


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Lambda's entry point; see `kennel.invocation.handle` for the events and answers."""
    return handle(event, settings=_SETTINGS, runtime=_RUNTIME, s3=_S3, request_id=context.aws_request_id)
