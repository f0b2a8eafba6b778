"""Lambda's data plane in the local AWS: invocations and provisioned concurrency, by functions that really run.

moto keeps the functions' metadata and answers every other Lambda call; `operations` holds the ones answered here.
Parameters and results have botocore's shapes and were checked against its model before. Memory is not enforced, and
queued asynchronous events do not survive this process.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from kennel.local.function_code import FunctionVersion, unpack_code
from kennel.local.function_pool import Initialization, Pool, PoolEnvironment, ProvisionState, Start
from kennel.local.function_queue import EventQueue, QueuedEvent
from kennel.local.function_registry import LATEST, Registry, parse_name
from kennel.local.function_runtime import Environment, Outcome
from kennel.local.wire import Operation, ServiceError

MAX_SYNC_BYTES: Final = 6_291_456
MAX_ASYNC_BYTES: Final = 1_048_576
LOG_TAIL_BYTES: Final = 4096
MINIMUM_UNRESERVED: Final = 100
RETRY_DELAYS: Final = (60.0, 120.0)
"""Seconds before the first and the second retry of an asynchronous event whose function failed."""

MAX_THROTTLE_DELAY: Final = 300.0


class Role(Protocol):
    """What acts with a function's role; see `kennel.local.function_role`."""

    credentials: Mapping[str, str]
    """Environment variables that carry them."""

    def log(self, group: str, stream: str, lines: list[str]) -> None:
        """Write lines to CloudWatch Logs."""
        ...

    def deliver(self, destination: str, record: dict[str, Any]) -> None:
        """Hand a record to the ARN of an on-failure destination."""
        ...


LOG = logging.getLogger(__name__)


class Functions:
    """The local Lambda.

    `registry` knows the functions (`function_registry.MotoRegistry`), `assume` takes the role of one. `clock_factor`
    divides the delays of asynchronous retries. `start` makes environments; tests pass their own.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        endpoint_url: str,
        state_dir: Path,
        assume: Callable[[FunctionVersion], Role],
        clock_factor: float = 1.0,
        account_concurrency: int = 1000,
        idle_seconds: float = 300.0,
        init_timeout: float = 60.0,
        workers: int = 8,
        start: Start | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._registry = registry
        self._endpoint_url = endpoint_url
        self._state_dir = state_dir
        self._assume = assume
        self._clock_factor = clock_factor
        self._account_concurrency = account_concurrency
        self._clock = clock
        self._wall = wall
        self._new_id = new_id
        self._pool = Pool(
            registry=registry,
            start=start or self._start,
            clock=clock,
            account_concurrency=account_concurrency,
            idle_seconds=idle_seconds,
            init_timeout=init_timeout,
            batch=len(os.sched_getaffinity(0)),
        )
        self._queue = EventQueue(self._run_queued, workers=workers, clock=clock)

    @property
    def operations(self) -> dict[str, Operation]:
        """The Lambda operations that are answered here, by name."""
        return {
            "Invoke": self.invoke,
            "PutProvisionedConcurrencyConfig": self.put_provisioned_concurrency,
            "GetProvisionedConcurrencyConfig": self.get_provisioned_concurrency,
            "DeleteProvisionedConcurrencyConfig": self.delete_provisioned_concurrency,
            "ListProvisionedConcurrencyConfigs": self.list_provisioned_concurrency,
        }

    def close(self) -> None:
        """End every process and thread; queued events are dropped."""
        self._queue.begin_close()
        self._pool.close()
        self._queue.close()

    def _start(self, version: FunctionVersion, initialization: Initialization) -> PoolEnvironment:
        role = self._assume(version)
        return Environment(
            version,
            code=unpack_code(version, self._state_dir),
            state_dir=self._state_dir,
            environment_id=self._new_id(),
            initialization=initialization,
            endpoint_url=self._endpoint_url,
            region=version.arn.split(":")[3],
            credentials=role.credentials,
            log=role.log,
            wall=self._wall,
        )

    # --- invocations

    def invoke(self, params: dict[str, Any]) -> dict[str, Any]:
        """Lambda's Invoke."""
        name, qualifier = parse_name(params["FunctionName"], params.get("Qualifier"))
        version = self._registry.resolve(name, qualifier)
        kind = params.get("InvocationType", "RequestResponse")
        payload = _checked_payload(params.get("Payload"), MAX_ASYNC_BYTES if kind == "Event" else MAX_SYNC_BYTES)
        if kind == "DryRun":
            return {"StatusCode": 204, "Payload": b"", "ExecutedVersion": version.version}
        if kind == "Event":
            self._enqueue(name, qualifier, payload)
            return {"StatusCode": 202, "Payload": b""}
        context = params.get("ClientContext")
        outcome = self._run(
            version, qualifier, payload, request_id=self._new_id(), client_context=_client_context(context)
        )
        result: dict[str, Any] = {"StatusCode": 200, "Payload": outcome.payload, "ExecutedVersion": version.version}
        if outcome.error:
            result["FunctionError"] = outcome.error
        if params.get("LogType") == "Tail":
            tail = "\n".join(outcome.log).encode()[-LOG_TAIL_BYTES:]
            result["LogResult"] = base64.b64encode(tail).decode()
        return result

    def invoke_async(self, function_arn: str, payload: bytes) -> None:
        """Queue an event as S3 does. Raises ServiceError if there is no such function or `payload` is no JSON."""
        name, qualifier = parse_name(function_arn, None)
        self._registry.resolve(name, qualifier)
        self._enqueue(name, qualifier, _checked_payload(payload, MAX_ASYNC_BYTES))

    def drain(self, timeout: float) -> bool:
        """Wait until no asynchronous event is queued or running; False if that takes over `timeout` seconds."""
        return self._queue.drain(timeout)

    def _run(
        self,
        version: FunctionVersion,
        qualifier: str | None,
        payload: bytes,
        *,
        request_id: str,
        client_context: str | None = None,
    ) -> Outcome:
        def use(environment: PoolEnvironment) -> Outcome:
            return environment.invoke(payload, request_id=request_id, arn=version.arn, client_context=client_context)

        return self._pool.run(version, qualifier, use)

    def _enqueue(self, name: str, qualifier: str | None, payload: bytes) -> None:
        self._queue.put(
            QueuedEvent(name=name, qualifier=qualifier, payload=payload, request_id=self._new_id(), born=self._clock())
        )

    def _run_queued(self, event: QueuedEvent) -> tuple[QueuedEvent, float] | None:
        """Run a queued event; return it with a delay if it must run again."""
        settings, outcome = self._registry.async_settings(event.name), None
        try:
            version = self._registry.resolve(event.name, event.qualifier)
        except ServiceError as error:
            LOG.warning("event %s is dropped: %s", event.request_id, error.message)
            return None
        try:
            outcome = self._run(version, event.qualifier, event.payload, request_id=event.request_id)
        except Exception as error:  # throttled, or the machine's fault: tried again until the event is too old
            bug = None if isinstance(error, ServiceError) else error
            LOG.log(logging.ERROR if bug else logging.INFO, "event %s waits: %s", event.request_id, error, exc_info=bug)
            delay = min(2.0**event.throttles, MAX_THROTTLE_DELAY) / self._clock_factor
            if self._clock() + delay - event.born <= settings.max_age / self._clock_factor:
                return replace(event, throttles=event.throttles + 1), delay
        else:
            event = replace(event, attempts=event.attempts + 1)
            if outcome.error is None:
                return None
            if event.attempts <= settings.max_retries:
                return event, RETRY_DELAYS[event.attempts - 1] / self._clock_factor
        self._give_up(event, version, outcome)
        return None

    def _give_up(self, event: QueuedEvent, version: FunctionVersion, outcome: Outcome | None) -> None:
        condition = "EventAgeExceeded" if outcome is None else "RetriesExhausted"
        LOG.warning("event %s of function %s is given up: %s", event.request_id, event.name, condition)
        destination = self._registry.async_settings(event.name).on_failure
        if not destination:
            return
        record: dict[str, Any] = {
            "version": "1.0",
            "timestamp": datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "requestContext": {
                "requestId": event.request_id,
                "functionArn": version.arn if event.qualifier else f"{version.arn}:{LATEST}",
                "condition": condition,
                "approximateInvokeCount": event.attempts,
            },
            "requestPayload": json.loads(event.payload),
        }
        if outcome is not None:
            record["responseContext"] = {
                "statusCode": 200,
                "executedVersion": version.version,
                "functionError": outcome.error,
            }
            record["responsePayload"] = json.loads(outcome.payload)
        try:
            self._assume(version).deliver(destination, record)
        except Exception:  # a destination that is gone must not end the worker
            LOG.exception("event %s cannot be delivered to %s", event.request_id, destination)

    # --- provisioned concurrency

    def put_provisioned_concurrency(self, params: dict[str, Any]) -> dict[str, Any]:
        """Lambda's PutProvisionedConcurrencyConfig."""
        name, qualifier = parse_name(params["FunctionName"], params["Qualifier"])
        requested = params["ProvisionedConcurrentExecutions"]
        if qualifier is None or qualifier == LATEST:
            raise _invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
        version = self._registry.resolve(name, qualifier)
        if version.version == LATEST:
            raise _invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
        wanted = requested + self._pool.provisioned_total(name, but=qualifier)
        reserved = self._registry.reserved(name)
        if reserved is not None and wanted > reserved:
            raise _invalid(
                "Requested Provisioned Concurrency should not be greater than "
                "the reservedConcurrentExecution for function"
            )
        unreserved = self._account_concurrency - self._registry.total_reserved()
        if reserved is None and wanted > unreserved - MINIMUM_UNRESERVED:
            raise _invalid(
                "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
                f"below its minimum value of [{MINIMUM_UNRESERVED}]."
            )
        self._refuse_overlap(name, qualifier, version)
        modified = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")
        return _config(self._pool.provision(version, qualifier, requested, modified=modified))

    def _refuse_overlap(self, name: str, qualifier: str, version: FunctionVersion) -> None:
        """A version may be provisioned through itself or through an alias, not both."""
        for state in self._pool.provisioned(name):
            if state.qualifier == qualifier:
                continue
            other = self._registry.resolve(name, state.qualifier)
            if other.version != version.version:
                continue
            if self._registry.is_alias(name, qualifier):
                message = (
                    "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
                )
            else:
                message = "Version is pointed by a Provisioned Concurrency alias"
            raise ServiceError("ResourceConflictException", message, status=409, Type="User")

    def get_provisioned_concurrency(self, params: dict[str, Any]) -> dict[str, Any]:
        """Lambda's GetProvisionedConcurrencyConfig."""
        name, qualifier = parse_name(params["FunctionName"], params["Qualifier"])
        if qualifier is None or qualifier == LATEST:
            raise _invalid("The function resource provided must be an alias or a published version.")
        self._registry.resolve(name, qualifier)
        for state in self._pool.provisioned(name):
            if state.qualifier == qualifier:
                return _config(state)
        message = "No Provisioned Concurrency Config found for this function"
        raise ServiceError("ProvisionedConcurrencyConfigNotFoundException", message, status=404, Type="User")

    def delete_provisioned_concurrency(self, params: dict[str, Any]) -> dict[str, Any]:
        """Lambda's DeleteProvisionedConcurrencyConfig; deleting what is not there is no error, as on AWS."""
        name, qualifier = parse_name(params["FunctionName"], params["Qualifier"])
        if qualifier is None or qualifier == LATEST:
            raise _invalid("The function resource provided must be an alias or a published version.")
        self._registry.resolve(name, qualifier)
        self._pool.unprovision(name, qualifier)
        return {}

    def list_provisioned_concurrency(self, params: dict[str, Any]) -> dict[str, Any]:
        """Lambda's ListProvisionedConcurrencyConfigs, on one page whatever MaxItems says."""
        name, _ = parse_name(params["FunctionName"], None)
        self._registry.resolve(name, None)
        return {
            "ProvisionedConcurrencyConfigs": [
                {"FunctionArn": self._registry.resolve(name, state.qualifier).arn, **_config(state)}
                for state in self._pool.provisioned(name)
            ]
        }


def _config(state: ProvisionState) -> dict[str, Any]:
    result: dict[str, Any] = {
        "RequestedProvisionedConcurrentExecutions": state.requested,
        "AvailableProvisionedConcurrentExecutions": state.available,
        "AllocatedProvisionedConcurrentExecutions": state.allocated,
        "Status": str(state.status),
        "LastModified": state.modified,
    }
    if state.reason:
        result["StatusReason"] = state.reason
    return result


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterValueException", message, Type="User")


def _checked_payload(payload: bytes | str | None, most: int) -> bytes:
    body = payload.encode() if isinstance(payload, str) else bytes(payload or b"{}")
    if len(body) > most:
        message = f"Request must be smaller than {most} bytes for the InvokeFunction operation"
        raise ServiceError("RequestTooLargeException", message, status=413, Type="User")
    try:
        json.loads(body)
    except ValueError as error:
        message = f"Could not parse request body into json: {error}"
        raise ServiceError("InvalidRequestContentException", message, Type="User") from error
    return body


def _client_context(encoded: str | None) -> str | None:
    if not encoded:
        return None
    try:
        context = base64.b64decode(encoded, validate=True).decode()
        return json.dumps(json.loads(context))
    except ValueError as error:
        raise ServiceError("InvalidRequestContentException", f"Client context is not base64 JSON: {error}") from error
