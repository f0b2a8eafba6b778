"""One AWS endpoint on 127.0.0.1: wires the services that are ours to moto's, and serves them over HTTP.

The service comes from the request's signature, as moto reads it. Ours: SageMaker, its runtime, Lambda's data
plane, ECR's images. Everything else is moto's. Nothing here decides what an API call means.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.awslambda.models import lambda_backends
from moto.core.request import Request
from moto.ecr.models import ecr_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Response

from kennel import errors
from kennel.local.cloudformation.stacks import Stacks
from kennel.local.ecr import REGISTRY, Ecr
from kennel.local.ecr_events import Pushes
from kennel.local.events import EventBus
from kennel.local.function_registry import MotoRegistry
from kennel.local.function_role import assuming
from kennel.local.functions import Functions
from kennel.local.iam import service_roles
from kennel.local.iam.account import MotoAccount
from kennel.local.iam.enforcement import Enforcement, signer
from kennel.local.iam.roles import Decision, Roles
from kennel.local.iam.sessions import Credentials, Session, Sessions
from kennel.local.instances import Instances
from kennel.local.moto_patches import buckets, lambda_functions
from kennel.local.moto_patches.ecr import keep_images_at
from kennel.local.moto_patches.s3 import send_notifications_to
from kennel.local.runtimes.runtime import Runtime
from kennel.local.sagemaker.arns import ACCOUNT, arns_of
from kennel.local.sagemaker.endpoints import Endpoints
from kennel.local.sagemaker.storage import Storage
from kennel.local.sagemaker.tags import Tags
from kennel.local.sagemaker.training_jobs import TrainingJobs
from kennel.local.sagemaker.tuning_jobs import TuningJobs
from kennel.local.wire import Service

STATUS_PATH = "/_kennel"
"""GET it for what no AWS API says: the process id, the runtime, and where the instances of each endpoint listen."""

DECISIONS_PATH = f"{STATUS_PATH}/decisions"
"""GET it for what roles were allowed and denied, and by which statements: a list of `Decision`s."""

_WITHOUT_STATE_MACHINES = ("s3", "sts", "iam", "logs", "lambda", "ecr")
"""Services that make no state machines and no instances. (S3 can start one, but somebody must have made it before.)"""

_TASKS = "AWSStepFunctions"
"""How the sessions of Task states are called."""

_CREDENTIALS = ("access_key_id", "secret_access_key", "session_token")

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class LocalAws:
    """The local AWS. One per process: moto's state and settings are the process's."""

    def __init__(
        self,
        *,
        port: int,
        state_dir: Path,
        region: str,
        runtime: Runtime,
        host: str = "127.0.0.1",
        registry: str = REGISTRY,
    ) -> None:
        """Bind `host` (loopback, or 0.0.0.0) at `port` (0: any free one). Raises KennelError if it is taken."""
        self._moto = DomainDispatcherApplication(create_backend_app)
        try:
            self._server: BaseWSGIServer = make_server(
                host, port, self._answer, threaded=True, request_handler=_QuietHandler
            )
        except (OSError, SystemExit) as error:
            raise errors.KennelError(
                f"port {port} is taken",
                where=f"{host}:{port}",
                hint="Stop what listens there, or choose another: --port 0 takes any free one.",
            ) from error
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"
        # moto's interpreter calls the APIs of its Task states at http://localhost:$MOTO_PORT, with any credentials
        os.environ["MOTO_PORT"] = str(self._server.server_port)

        def client(service: str, session: Session | None = None) -> Any:
            """A client of the role's session, or of the account's owner."""
            credentials = session.credentials if session else Credentials(**dict.fromkeys(_CREDENTIALS, "local"))
            return boto3.client(
                service,
                endpoint_url=self.endpoint_url,
                region_name=region,
                aws_access_key_id=credentials.access_key_id,
                aws_secret_access_key=credentials.secret_access_key,
                aws_session_token=credentials.session_token,
                config=Config(retries={"total_max_attempts": 2}, max_pool_connections=16, proxies={}),
            )

        folders = {name: state_dir / name for name in ("training-jobs", "channels", "endpoints", "functions")}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        storage = Storage(s3=client("s3"), cache=folders["channels"])
        arn = arns_of(region)
        self.roles = Roles(
            facts=MotoAccount(account=ACCOUNT, region=region, endpoint_config=self._endpoint_config),
            sessions=Sessions(os.urandom),
            account=ACCOUNT,
            region=region,
            registry=registry,
            connect=client,
        )
        self._enforcement = Enforcement(self.roles, region=region, account=ACCOUNT)
        tags = Tags()
        self._training_jobs = TrainingJobs(
            arn=arn, storage=storage, roles=self.roles, runtime=runtime, state_dir=folders["training-jobs"], tags=tags
        )
        self._tuning_jobs = TuningJobs(arn=arn, training_jobs=self._training_jobs, tags=tags)
        self._endpoints = Endpoints(
            arn=arn,
            storage=storage,
            roles=self.roles,
            runtime=runtime,
            state_dir=folders["endpoints"],
            tags=tags,
        )
        self._functions = Functions(
            registry=MotoRegistry(lambda: lambda_backends[ACCOUNT][region]),
            endpoint_url=self.endpoint_url,
            state_dir=folders["functions"],
            assume=assuming(self.roles),
        )
        send_notifications_to(self._functions.invoke_async)
        keep_images_at(registry)
        buckets.apply()
        lambda_functions.apply()
        ecr = Ecr(
            registry=registry,
            account=ACCOUNT,
            has_repository=lambda name: name in ecr_backends[ACCOUNT][region].repositories,
        )
        self._instances = Instances(
            endpoint_url=self.endpoint_url,
            state_dir=state_dir / "instances",
            runtime=runtime,
            registry=registry,
            describe_images=ecr.describe_images,
            environment=dict(os.environ),
            credentials=self._instance_credentials,
        )
        self._stacks = Stacks(client=client, region=region, account=ACCOUNT)
        self.bus = EventBus(client=client, assume=self._target_client, account=ACCOUNT, region=region)
        self._pushes = Pushes(bus=self.bus, list_images=ecr.list_images)
        self._runtime_name = runtime.name
        self._patching = threading.Lock()
        self._patched = False
        sagemaker = self._training_jobs.operations | self._tuning_jobs.operations | self._endpoints.operations
        sagemaker |= tags.operations
        self._services = (
            Service("sagemaker", sagemaker),
            Service("sagemaker-runtime", self._endpoints.runtime_operations),
            Service("lambda", self._functions.operations),
            Service("ecr", ecr.operations),
            Service("cloudformation", self._stacks.operations),
        )

    def serve(self) -> None:
        """Answer requests until `shutdown` is called from another thread."""
        self._server.serve_forever(poll_interval=0.1)

    def start(self) -> None:
        """Answer requests in a thread."""
        threading.Thread(target=self.serve, name="local AWS", daemon=True).start()

    def close(self) -> None:
        """End every process that was started, then stop answering."""
        self._stacks.close()
        self._pushes.close()
        self._instances.close()
        self._tuning_jobs.close()
        self._training_jobs.close()
        self._functions.close()
        self._endpoints.close()
        self._server.shutdown()
        self._server.server_close()

    def interrupt(self, training_job: str) -> None:
        """Take the instances of a managed spot training job away, as EC2 does. Raises ServiceError if it has none."""
        self._training_jobs.interrupt(training_job)

    def _endpoint_config(self, name: str) -> str:
        return self._endpoints.config_name(name)

    def decisions(self) -> list[Decision]:
        """What the roles of the account were allowed and denied, each decision once, the latest last."""
        return self.roles.decisions()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = Request(environ)
        app: WsgiApp
        if foreign := foreign_origin(request.headers.get("Host"), request.headers.get("Origin")):
            app = Response(f"{foreign} may not use the local AWS\n", status=403)
            return app(environ, start_response)
        if request.path == DECISIONS_PATH:
            found = [asdict(decision) for decision in self.decisions()]
            app = Response(json.dumps(found), content_type="application/json")
            return app(environ, start_response)
        if request.path == STATUS_PATH:
            app = self._status()
            return app(environ, start_response)
        if refusal := self._enforcement.refusal(request, environ):
            app = refusal
        elif service := self._ours(request):
            app = service.respond(request)
        else:
            self._patch_moto_for(request)
            if _signing_service(request) == "events":  # before that there is no rule
                self._pushes.start()
            app = self._moto
        return app(environ, start_response)

    def _patch_moto_for(self, request: Request) -> None:
        """Make moto's Step Functions and EC2 ours before anybody can need them."""
        if self._patched or _signing_service(request) in _WITHOUT_STATE_MACHINES:
            return
        with self._patching:
            if not self._patched:
                from kennel.local.moto_patches import ec2, queues, security_groups, step_functions  # noqa: PLC0415  (see there: they are slow)

                step_functions.apply(self._task_credentials)
                ec2.hand_instances_to(self._instances)
                security_groups.apply()
                queues.apply()
                self._patched = True

    def _task_credentials(self, role_arn: str) -> Credentials:
        """What a Task of an execution signs with, whose state machine has that role. Raises ServiceError."""
        machine = self.roles.facts.state_machine_of(role_arn)
        role = self.roles.assume(role_arn, service=service_roles.STATES, name=_TASKS, source_arn=machine)
        return role.session.credentials

    def _target_client(self, role_arn: str, rule_arn: str) -> Callable[[str], Any]:
        """Clients of the role with which a rule of EventBridge starts its target. Raises ServiceError."""
        name = rule_arn.rpartition("/")[2]
        return self.roles.assume(role_arn, service="events.amazonaws.com", name=name, source_arn=rule_arn).client

    def _instance_credentials(self, role_arn: str, instance_id: str) -> Mapping[str, str]:
        """Of an EC2 instance with that role, as variables. Raises ServiceError."""
        role = self.roles.assume(role_arn, service="ec2.amazonaws.com", name=instance_id)
        return role.session.credentials.variables()

    def _ours(self, request: Request) -> Service | None:
        """The service of ours that answers the request; None if it is moto's."""
        sagemaker, sagemaker_runtime, functions, ecr, cloudformation = self._services
        match _signing_service(request):
            case "sagemaker":
                return sagemaker if "X-Amz-Target" in request.headers else sagemaker_runtime
            case "lambda" if functions.answers(request):
                return functions
            case "ecr" if ecr.answers(request):
                return ecr
            case "cloudformation":
                return cloudformation
        return None

    def _status(self) -> Response:
        body = {
            "pid": os.getpid(),
            "endpoint_url": self.endpoint_url,
            "runtime": self._runtime_name,
            "endpoints": self._endpoints.addresses(),
        }
        return Response(json.dumps(body), content_type="application/json")


class _QuietHandler(MotoRequestHandler):  # type: ignore[misc]
    """Serves as moto does, without a line per request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing; errors are still logged."""


def foreign_origin(host: str | None, origin: str | None) -> str:
    """Who asks, if it is not this machine; else an empty string.

    The local AWS runs code for whoever asks. A web page elsewhere must not: not through a name that resolves
    to 127.0.0.1 (the Host header gives it away), nor through a browser that asks for it (Origin does).
    """
    if host is None or not _LOOPBACK.fullmatch(host):
        return f"Host {host}"
    scheme, _, name = (origin or "").partition("://")
    return f"Origin {origin}" if origin and not (scheme and _LOOPBACK.fullmatch(name)) else ""


_LOOPBACK = re.compile(r"(127\.0\.0\.1|\[::1\]|([a-z0-9_.-]+\.)?localhost)(:[0-9]{1,5})?", re.IGNORECASE)


def _signing_service(request: Request) -> str:
    return signer(request.headers.get("Authorization", ""))[1]
