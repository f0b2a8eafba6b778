"""One AWS endpoint on 127.0.0.1: wires the services that are ours to moto's, and serves them over HTTP.

The service comes from the request's signature, as moto reads it. Ours: SageMaker, its runtime, Lambda's data
plane. Everything else is moto's. Nothing here decides what an API call means.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.awslambda.models import lambda_backends
from moto.core.request import Request
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Response

from kennel import errors
from kennel.local import moto_patches
from kennel.local.function_registry import MotoRegistry
from kennel.local.functions import Functions
from kennel.local.logs import LogWriter
from kennel.local.runtimes.process import ProcessRuntime
from kennel.local.sagemaker.arns import ACCOUNT, arns_of
from kennel.local.sagemaker.endpoints import Endpoints
from kennel.local.sagemaker.storage import Storage
from kennel.local.sagemaker.training_jobs import TrainingJobs
from kennel.local.sagemaker.tuning_jobs import TuningJobs
from kennel.local.wire import Service

STATUS_PATH = "/_kennel"
"""GET it for what no AWS API says: the process id, and where the instances of each endpoint listen."""

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class LocalAws:
    """The local AWS. One per process: moto's state and settings are the process's."""

    def __init__(self, *, port: int, state_dir: Path, region: str, environment: Mapping[str, str]) -> None:
        """Bind 127.0.0.1:`port` (0: any free one). Raises KennelError if it is taken."""
        self._moto = DomainDispatcherApplication(create_backend_app)
        try:
            self._server: BaseWSGIServer = make_server(
                "127.0.0.1", port, self._answer, threaded=True, request_handler=_QuietHandler
            )
        except (OSError, SystemExit) as error:
            raise errors.KennelError(
                f"port {port} is taken",
                where=f"127.0.0.1:{port}",
                hint="Stop what listens there, or choose another: --port 0 takes any free one.",
            ) from error
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"
        # moto's interpreter calls the APIs of its Task states at http://localhost:$MOTO_PORT, with any credentials
        os.environ["MOTO_PORT"] = str(self._server.server_port)

        def client(service: str) -> Any:
            return boto3.client(
                service,
                endpoint_url=self.endpoint_url,
                region_name=region,
                aws_access_key_id="local",
                aws_secret_access_key="local",  # noqa: S106  (the local AWS accepts any)
                config=Config(retries={"total_max_attempts": 2}, max_pool_connections=16),
            )

        folders = {name: state_dir / name for name in ("training-jobs", "channels", "endpoints", "functions")}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        storage = Storage(s3=client("s3"), cache=folders["channels"])
        logs = LogWriter(client("logs"))
        arn = arns_of(region)
        runtime = ProcessRuntime(random=random.SystemRandom(), environment=environment)
        self._training_jobs = TrainingJobs(
            arn=arn, storage=storage, logs=logs, runtime=runtime, state_dir=folders["training-jobs"]
        )
        self._tuning_jobs = TuningJobs(arn=arn, training_jobs=self._training_jobs)
        self._endpoints = Endpoints(
            arn=arn, storage=storage, logs=logs, runtime=runtime, state_dir=folders["endpoints"]
        )
        self._functions = Functions(
            registry=MotoRegistry(lambda: lambda_backends[ACCOUNT][region]),
            endpoint_url=self.endpoint_url,
            state_dir=folders["functions"],
            log=logs.write,
        )
        moto_patches.apply(invoke_async=self._functions.invoke_async)
        sagemaker = self._training_jobs.operations | self._tuning_jobs.operations | self._endpoints.operations
        self._services = (
            Service("sagemaker", sagemaker),
            Service("sagemaker-runtime", self._endpoints.runtime_operations),
            Service("lambda", self._functions.operations),
        )

    def serve(self) -> None:
        """Answer requests until `shutdown` is called from another thread."""
        self._server.serve_forever(poll_interval=0.1)

    def start(self) -> None:
        """Answer requests in a thread."""
        threading.Thread(target=self.serve, name="local AWS", daemon=True).start()

    def close(self) -> None:
        """End every process that was started, then stop answering."""
        self._tuning_jobs.close()
        self._training_jobs.close()
        self._functions.close()
        self._endpoints.close()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        if request.path == STATUS_PATH:
            return self._status()(environ, start_response)
        for service in self._ours(request):
            return service.respond(request)(environ, start_response)
        app: WsgiApp = self._moto
        return app(environ, start_response)

    def _ours(self, request: Request) -> list[Service]:
        """The service of ours that answers the request; none if it is moto's."""
        sagemaker, sagemaker_runtime, functions = self._services
        match _signing_service(request):
            case "sagemaker":
                return [sagemaker if "X-Amz-Target" in request.headers else sagemaker_runtime]
            case "lambda" if functions.answers(request):
                return [functions]
        return []

    def _status(self) -> Response:
        body = {"pid": os.getpid(), "endpoint_url": self.endpoint_url, "endpoints": self._endpoints.addresses()}
        return Response(json.dumps(body), content_type="application/json")


class _QuietHandler(MotoRequestHandler):  # type: ignore[misc]
    """Serves as moto does, without a line per request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing; errors are still logged."""


def _signing_service(request: Request) -> str:
    """`sagemaker` from `AWS4-HMAC-SHA256 Credential=KEY/20260101/us-east-1/sagemaker/aws4_request, …`."""
    _, _, scope = request.headers.get("Authorization", "").partition("Credential=")
    parts = scope.partition(",")[0].split("/")
    return parts[3] if len(parts) == 5 else ""
