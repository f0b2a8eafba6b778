"""Where boto3 clients come from. The endpoint URL is the one value in which local and AWS differ."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
from botocore.config import Config


class Aws:
    """AWS, or an endpoint that speaks it. `endpoint_url` None is AWS itself, with the usual credentials."""

    def __init__(self, *, region: str, endpoint_url: str | None) -> None:
        self.region = region
        self.endpoint_url = endpoint_url
        self.poll_seconds = 0.2 if endpoint_url else 5.0  # AWS counts calls, and what is waited for there takes minutes
        # an endpoint that is not AWS takes any credentials, and the user's real ones must not go there
        fake = {"aws_access_key_id": "local", "aws_secret_access_key": "local"} if endpoint_url else {}
        session = boto3.session.Session(region_name=region, **fake)
        self.has_credentials = session.get_credentials() is not None
        settings = Config(retries={"mode": "standard", "total_max_attempts": 5}, max_pool_connections=16)
        self.client = cache(lambda service: session.client(service, endpoint_url=endpoint_url, config=settings))

    @property
    def account(self) -> str:
        """The account number."""
        identity: dict[str, Any] = self.client("sts").get_caller_identity()
        return str(identity["Account"])
