"""Models, endpoint configurations and endpoints, with real instances, and InvokeEndpoint in front of them.

An update is blue/green, all at once: the new fleet starts beside the old one, takes the traffic when every
instance answers, and the old one drains. A new fleet that does not start leaves the old one in service.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import random
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from kennel import archive, contract, errors
from kennel.local.iam import containers
from kennel.local.iam.roles import Denial, Roles
from kennel.local.logs import LogWriter
from kennel.local.runtimes.runtime import Process, Runtime
from kennel.local.sagemaker import model_role
from kennel.local.sagemaker.alarms import alarmed, bake
from kennel.local.sagemaker.arns import Arn
from kennel.local.sagemaker.fleet import Answer, Fleet, StartFailed
from kennel.local.sagemaker.listing import listed
from kennel.local.sagemaker.storage import Storage
from kennel.local.sagemaker.tags import Tags
from kennel.local.wire import Operation, ServiceError, not_found

LOG = logging.getLogger(__name__)
_START_SECONDS = 600
"""ContainerStartupHealthCheckTimeoutInSeconds, when the variant does not say (SageMaker's default)."""


@dataclass(kw_only=True)
class _Variant:
    """One variant in service."""

    name: str
    weight: float
    count: int
    image: str
    fleet: Fleet


@dataclass
class _Endpoint:
    description: dict[str, Any]
    variants: list[_Variant] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class Endpoints:
    """Everything of SageMaker hosting, of one account and region."""

    def __init__(
        self,
        *,
        arn: Arn,
        storage: Storage,
        roles: Roles,
        runtime: Runtime,
        state_dir: Path,
        tags: Tags,
    ) -> None:
        self._arn = arn
        self._tags = tags
        self._storage = storage
        self._roles = roles
        self._runtime = runtime
        self._state_dir = state_dir
        self._models: dict[str, dict[str, Any]] = {}
        self._configs: dict[str, dict[str, Any]] = {}
        self._endpoints: dict[str, _Endpoint] = {}
        self._lock = threading.RLock()
        self._leaving: list[threading.Thread] = []
        self._deployments = itertools.count(1)
        self._random = random.Random(0)  # noqa: S311  (spreads traffic over variants)
        self.operations: dict[str, Operation] = {
            "CreateModel": self.create_model,
            "DescribeModel": lambda request: _named(self._models, request, "Model"),
            "ListModels": lambda request: _listed(self._models, request, "Model"),
            "DeleteModel": lambda request: self._delete(self._models, request, "Model"),
            "CreateEndpointConfig": self.create_config,
            "DescribeEndpointConfig": lambda request: _named(self._configs, request, "EndpointConfig"),
            "ListEndpointConfigs": lambda request: _listed(self._configs, request, "EndpointConfig"),
            "DeleteEndpointConfig": lambda request: self._delete(self._configs, request, "EndpointConfig"),
            "CreateEndpoint": self.create_endpoint,
            "DescribeEndpoint": self.describe_endpoint,
            "ListEndpoints": self.list_endpoints,
            "UpdateEndpoint": self.update_endpoint,
            "DeleteEndpoint": self.delete_endpoint,
        }
        self.runtime_operations: dict[str, Operation] = {"InvokeEndpoint": self.invoke}

    # --- models and configurations ----------------------------------------------------------

    def create_model(self, request: dict[str, Any]) -> dict[str, Any]:
        """CreateModel, with one container."""
        container = request.get("PrimaryContainer") or next(iter(request.get("Containers", [])), None)
        if (
            container is None
            or not {"Image", "ModelDataUrl"} <= container.keys()
            or len(request.get("Containers", [])) > 1
        ):
            raise ServiceError(
                "ValidationException", "the local AWS serves models of one container with Image and ModelDataUrl"
            )
        if not request.get("ExecutionRoleArn"):
            raise ServiceError("ValidationException", "A model of one container needs an ExecutionRoleArn here")
        self._storage.keys(container["ModelDataUrl"])
        model_role.assume(self._roles, request, container, arn=self._arn("model", request["ModelName"]))
        return self._create(self._models, request | {"PrimaryContainer": container}, "Model", "model")

    def create_config(self, request: dict[str, Any]) -> dict[str, Any]:
        """CreateEndpointConfig."""
        variants = request["ProductionVariants"]
        names = [variant["VariantName"] for variant in variants]
        if len(set(names)) < len(names):
            raise ServiceError("ValidationException", f"Production variant names must be unique: {', '.join(names)}")
        if not sum(variant.get("InitialVariantWeight", 1.0) for variant in variants):
            raise ServiceError("ValidationException", "At least one InitialVariantWeight must be above 0")
        for variant in variants:
            if "ModelName" not in variant or "ServerlessConfig" in variant or "InstancePools" in variant:
                raise ServiceError("ValidationException", "the local AWS serves instance-based variants of one model")
            if variant["ModelName"] not in self._models:
                raise not_found(f'Could not find model "{self._arn("model", variant["ModelName"])}"')
            if variant.get("InitialInstanceCount", 1) < 1:
                raise ServiceError("ValidationException", "InitialInstanceCount must be at least 1")
        if request.get("ShadowProductionVariants"):
            raise ServiceError("ValidationException", "the local AWS does not do shadow variants yet")
        return self._create(self._configs, request, "EndpointConfig", "endpoint-config")

    def _create(
        self, table: dict[str, dict[str, Any]], request: dict[str, Any], kind: str, arn_kind: str
    ) -> dict[str, Any]:
        name = request[f"{kind}Name"]
        arn = self._arn(arn_kind, name)
        with self._lock:
            if name in table:
                raise ServiceError("ValidationException", f'Cannot create already existing {kind} "{arn}"')
            kept = {key: value for key, value in request.items() if key != "Tags"}
            table[name] = kept | {f"{kind}Arn": arn, "CreationTime": datetime.now(UTC)}
        self._tags.create(arn, request.get("Tags", []))
        return {f"{kind}Arn": arn}

    def _delete(self, table: dict[str, dict[str, Any]], request: dict[str, Any], kind: str) -> dict[str, Any]:
        with self._lock:
            self._tags.forget(_named(table, request, kind)[f"{kind}Arn"])
            del table[request[f"{kind}Name"]]
        return {}

    # --- endpoints --------------------------------------------------------------------------

    def create_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        """CreateEndpoint: Creating, then InService or Failed."""
        name = request["EndpointName"]
        config = _named(self._configs, request, "EndpointConfig")
        now = datetime.now(UTC)
        with self._lock:
            if name in self._endpoints:
                raise ServiceError(
                    "ValidationException", f'Cannot create already existing endpoint "{self._arn("endpoint", name)}"'
                )
            endpoint = self._endpoints[name] = _Endpoint(
                description={
                    "EndpointName": name,
                    "EndpointArn": self._arn("endpoint", name),
                    "EndpointConfigName": config["EndpointConfigName"],
                    "EndpointStatus": "Creating",
                    "CreationTime": now,
                    "LastModifiedTime": now,
                }
            )
            self._tags.create(endpoint.description["EndpointArn"], request.get("Tags", []))
            self._deploy(endpoint, config)
        return {"EndpointArn": endpoint.description["EndpointArn"]}

    def update_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        """UpdateEndpoint: Updating, then InService, with the old configuration if the new one does not start."""
        endpoint = self._endpoint(request["EndpointName"])
        config = _named(self._configs, request, "EndpointConfig")
        deployment = request.get("DeploymentConfig", {})
        routing = deployment.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
        if routing.get("Type", "ALL_AT_ONCE") != "ALL_AT_ONCE" or "RollingUpdatePolicy" in deployment:
            raise ServiceError("ValidationException", "the local AWS shifts traffic ALL_AT_ONCE only, for now")
        with self._lock:
            status = endpoint.description["EndpointStatus"]
            if status != "InService":  # of a Failed one, AWS allows nothing but to delete it
                raise ServiceError("ValidationException", f"Cannot update an endpoint that is {status}")
            endpoint.description["EndpointStatus"] = "Updating"
            endpoint.description.pop("FailureReason", None)
            if deployment:
                endpoint.description["LastDeploymentConfig"] = deployment
            self._deploy(endpoint, config, request)
        return {"EndpointArn": endpoint.description["EndpointArn"]}

    def delete_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        """DeleteEndpoint: gone from the list at once; its instances drain and stop."""
        with self._lock:
            endpoint = self._endpoint(request["EndpointName"])
            if endpoint.description["EndpointStatus"] == "Updating":
                raise ServiceError("ValidationException", "Cannot delete an endpoint that is being updated")
            del self._endpoints[request["EndpointName"]]
            self._tags.forget(endpoint.description["EndpointArn"])
            endpoint.gone.set()  # a deployment under way gives up what it started
            leaving, endpoint.variants = endpoint.variants, []
            thread = threading.Thread(target=_close_all, args=(leaving,), daemon=True)
            self._leaving = [thread, *(t for t in (*self._leaving, endpoint.thread) if t is not None and t.is_alive())]
            thread.start()
        return {}

    def describe_endpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        """DescribeEndpoint."""
        endpoint = self._endpoint(request["EndpointName"])
        with self._lock:
            variants = [
                {
                    "VariantName": variant.name,
                    "DeployedImages": [{"SpecifiedImage": variant.image}],
                    "CurrentWeight": variant.weight,
                    "DesiredWeight": variant.weight,
                    "CurrentInstanceCount": len(variant.fleet.urls),
                    "DesiredInstanceCount": variant.count,
                }
                for variant in endpoint.variants
            ]
            return endpoint.description | ({"ProductionVariants": variants} if variants else {})

    def list_endpoints(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListEndpoints."""
        keys = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
        with self._lock:
            found = [endpoint.description for endpoint in self._endpoints.values()]
        return listed(request, found, kind="Endpoint", keys=keys, answer="Endpoints")

    def invoke(self, request: dict[str, Any]) -> dict[str, Any]:
        """InvokeEndpoint: one request to one instance of one variant, chosen by weight."""
        name = request["EndpointName"]
        try:
            with contextlib.ExitStack() as busy:
                with self._lock:  # an instance is taken before its fleet can begin to drain
                    endpoint = self._endpoints.get(name)
                    if endpoint is None:
                        raise not_found(f"Endpoint {name} of account not found.")
                    if not endpoint.variants:
                        status = endpoint.description["EndpointStatus"]
                        raise ServiceError("ValidationException", f"Endpoint {name} is {status}, not InService")
                    variant = self._choose(endpoint.variants, request.get("TargetVariant"))
                    url = busy.enter_context(variant.fleet.least_busy())
                answer = variant.fleet.ask(
                    url,
                    request.get("Body", b""),
                    content_type=request.get("ContentType", "application/octet-stream"),
                    accept=request.get("Accept", "application/json"),
                )
        except ConnectionError as error:
            raise ServiceError("ServiceUnavailable", f"no instance answered: {error}", status=503) from error
        if answer.status != 200:
            raise _model_error(endpoint, answer)
        return {
            "Body": answer.body,
            "ContentType": answer.content_type,
            "InvokedProductionVariant": variant.name,
        }

    def config_name(self, name: str) -> str:
        """The name of an endpoint's configuration; empty if there is no such endpoint."""
        with self._lock:
            endpoint = self._endpoints.get(name)
            return str(endpoint.description["EndpointConfigName"]) if endpoint else ""

    def addresses(self) -> dict[str, list[str]]:
        """Endpoint name → the URLs of its instances on this machine (AWS has no such call)."""
        with self._lock:
            return {
                name: [url for variant in endpoint.variants for url in variant.fleet.urls]
                for name, endpoint in self._endpoints.items()
            }

    def close(self) -> None:
        """Stop every instance, those included that are starting or draining."""
        with self._lock:
            endpoints, leaving = list(self._endpoints.values()), list(self._leaving)
        for endpoint in endpoints:
            endpoint.gone.set()
        for endpoint in endpoints:
            if endpoint.thread is not None:
                endpoint.thread.join()
            _close_all(endpoint.variants)
        for thread in leaving:
            thread.join()

    def _endpoint(self, name: str) -> _Endpoint:
        with self._lock:
            if name not in self._endpoints:
                raise not_found(f'Could not find endpoint "{self._arn("endpoint", name)}".')
            return self._endpoints[name]

    def _choose(self, variants: list[_Variant], wanted: str | None) -> _Variant:
        if wanted is None:
            return self._random.choices(variants, [variant.weight for variant in variants])[0]
        for variant in variants:
            if variant.name == wanted:
                return variant
        raise not_found(f"Variant {wanted} not found")

    # --- the work ---------------------------------------------------------------------------

    def _deploy(
        self, endpoint: _Endpoint, config: dict[str, Any], update: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        endpoint.thread = threading.Thread(
            target=self._replace,
            args=(endpoint, config, update),
            name=endpoint.description["EndpointName"],
            daemon=True,
        )
        endpoint.thread.start()

    def _replace(self, endpoint: _Endpoint, config: dict[str, Any], update: Mapping[str, Any]) -> None:
        """Start what `config` asks for beside what runs; then swap them, or give up the new.

        `update` is UpdateEndpoint's request; empty for a new endpoint.
        """
        started: list[_Variant] = []
        old = endpoint.variants
        kept = {variant.name: variant.count for variant in old} if update.get("RetainAllVariantProperties") else {}
        reason = ""
        number = next(self._deployments)
        for asked in config["ProductionVariants"]:
            try:
                count = kept.get(asked["VariantName"], asked.get("InitialInstanceCount", 1))
                started.append(self._start_variant(endpoint, asked, number, count))
            except StartFailed as failure:
                reason = f"The primary container for production variant {asked['VariantName']} {failure}"
            except (ServiceError, errors.KennelError) as error:
                reason = str(error)
            except Denial as denial:
                reason = f"AccessDenied: {denial}"
            except Exception as error:  # whatever happened, the endpoint must leave its transition with a reason
                LOG.exception("endpoint %s", endpoint.description["EndpointName"])
                reason = f"InternalServerError: {type(error).__name__}: {error}"
            if reason:
                break
        reason = reason or self._shift(endpoint, started, config, update.get("DeploymentConfig", {}))
        with self._lock:
            changed: dict[str, Any] = {"LastModifiedTime": datetime.now(UTC)}
            if endpoint.gone.is_set():  # whoever deleted it closes those that it had
                leaving = [one for one in (*started, *old) if not any(one is had for had in endpoint.variants)]
            elif reason:
                endpoint.variants, leaving = old, started
                changed["FailureReason"] = reason[: contract.FAILURE_REASON_CHARACTERS]
            else:
                endpoint.variants, leaving = started, old
                changed["EndpointConfigName"] = config["EndpointConfigName"]
            changed["EndpointStatus"] = "InService" if endpoint.variants else "Failed"
            endpoint.description |= changed
        _close_all(leaving)

    def _shift(
        self, endpoint: _Endpoint, started: list[_Variant], config: dict[str, Any], deployment: Mapping[str, Any]
    ) -> str:
        """Send all traffic to what was started, unless and until an alarm goes off; then the reason to go back."""
        model = _named(self._models, config["ProductionVariants"][0], "Model")

        def cloudwatch() -> Any:
            role = model_role.assume(self._roles, model, model["PrimaryContainer"], arn=model["ModelArn"])
            return role.client("cloudwatch")

        def look() -> str:
            try:
                return alarmed(cloudwatch, deployment)
            except Exception as error:  # an update whose alarms nobody can see must not stay
                return f"The alarms of the deployment cannot be seen: {error}"

        if reason := look():
            return reason
        with self._lock:
            if not endpoint.gone.is_set():
                endpoint.variants = started
        return bake(look, deployment, endpoint.gone)

    def _start_variant(self, endpoint: _Endpoint, asked: dict[str, Any], deployment: int, count: int) -> _Variant:
        name = endpoint.description["EndpointName"]
        model = _named(self._models, asked, "Model")
        container = model["PrimaryContainer"]
        role = model_role.assume(self._roles, model, container, arn=model["ModelArn"])
        role.check(containers.of_model(self._roles, model, group=_log_group(name)))
        logs = LogWriter(role.client("logs"))
        folder = self._state_dir / name / f"{deployment}-{asked['VariantName']}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        packed = folder / "model.tar.gz"
        self._storage.acting_with(role).fetch_object(container["ModelDataUrl"], packed)
        archive.unpack(packed, folder / "model")
        stream = f"{asked['VariantName']}/{deployment}"

        def write(instance: int, lines: list[str]) -> None:
            logs.write(_log_group(name), f"{stream}-{instance}", lines)

        def begin(log: Path) -> tuple[Process, Callable[[], str]]:
            return self._runtime.start_instance(
                endpoint=name,
                image=container["Image"],
                instance_type=asked.get("InstanceType", ""),
                isolated=model.get("EnableNetworkIsolation", False),
                model_dir=folder / "model",
                log=log,
                environment=container.get("Environment", {}),
            )

        fleet = Fleet(
            begin=begin,
            log_dir=folder,
            on_lines=write,
            give_up=endpoint.gone,
            start_seconds=asked.get("ContainerStartupHealthCheckTimeoutInSeconds", _START_SECONDS),
        )
        fleet.start(count)
        return _Variant(
            name=asked["VariantName"],
            weight=asked.get("InitialVariantWeight", 1.0),
            count=count,
            image=container["Image"],
            fleet=fleet,
        )


def _log_group(endpoint: str) -> str:
    return f"/aws/sagemaker/Endpoints/{endpoint}"


def _model_error(endpoint: _Endpoint, answer: Answer) -> ServiceError:
    text = answer.body.decode("utf-8", "replace")
    whose = "client" if answer.status < 500 else "server"
    return ServiceError(
        "ModelError",
        f"Received {whose} error ({answer.status}) from primary with message {json.dumps(text)}.",
        status=424,
        OriginalStatusCode=answer.status,
        OriginalMessage=text,
        LogStreamArn=_log_group(endpoint.description["EndpointName"]),
    )


def _close_all(variants: list[_Variant]) -> None:
    for variant in variants:
        variant.fleet.close()


def _named(table: dict[str, dict[str, Any]], request: dict[str, Any], kind: str) -> dict[str, Any]:
    name = request[f"{kind}Name"]
    if name not in table:
        raise not_found(f'Could not find {kind} "{name}".')
    return table[name]


def _listed(table: dict[str, dict[str, Any]], request: dict[str, Any], kind: str) -> dict[str, Any]:
    keys = (f"{kind}Name", f"{kind}Arn", "CreationTime")
    return listed(request, list(table.values()), kind=kind, keys=keys, answer=f"{kind}s")
