"""Keeps the execution environments of all functions: who may start one, who may use which, when they end.

This is Lambda's concurrency: reserved concurrency caps a function, the account's pool caps the others, and provisioned
environments are started ahead and used first. It knows neither processes (`start` makes an environment) nor payloads.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from kennel.local.function_code import FunctionVersion
from kennel.local.function_registry import Registry
from kennel.local.function_runtime import Outcome
from kennel.local.wire import ServiceError

HOUSEKEEPING_SECONDS: Final = 1.0
CLOSE_SECONDS: Final = 10.0


class Initialization(StrEnum):
    """Values of AWS_LAMBDA_INITIALIZATION_TYPE."""

    ON_DEMAND = "on-demand"
    PROVISIONED = "provisioned-concurrency"


class ProvisionStatus(StrEnum):
    """Values of a provisioned concurrency configuration's Status."""

    IN_PROGRESS = "IN_PROGRESS"
    READY = "READY"
    FAILED = "FAILED"


class PoolEnvironment(Protocol):
    """What the pool needs of an environment; see `function_runtime.Environment`."""

    version: FunctionVersion
    idle_since: float

    @property
    def usable(self) -> bool: ...  # noqa: D102
    def wait_ready(self, timeout: float) -> Outcome | None: ...  # noqa: D102
    def invoke(  # noqa: D102
        self, payload: bytes, *, request_id: str, arn: str, client_context: str | None = None
    ) -> Outcome: ...
    def stop(self) -> None: ...  # noqa: D102
    def join(self, timeout: float = 30.0) -> None: ...  # noqa: D102


Start = Callable[[FunctionVersion, Initialization], PoolEnvironment]


@dataclass(kw_only=True, eq=False)
class Provision:
    """The provisioned concurrency of one alias or version. Guarded by the pool's lock."""

    name: str
    qualifier: str
    version: FunctionVersion
    requested: int
    modified: str
    environments: list[PoolEnvironment] = field(default_factory=list)
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class ProvisionState:
    """A `Provision` as it is now."""

    qualifier: str
    requested: int
    allocated: int
    available: int
    status: ProvisionStatus
    reason: str
    modified: str


@dataclass(kw_only=True, eq=False)
class Lease:
    """The right to run one invocation. `environment` is None until one was started for it."""

    name: str
    environment: PoolEnvironment | None
    provision: Provision | None


class Pool:
    """All environments. Thread-safe; `start` and everything that waits happens outside the lock."""

    def __init__(
        self,
        *,
        registry: Registry,
        start: Start,
        clock: Callable[[], float],
        account_concurrency: int,
        idle_seconds: float,
        init_timeout: float,
        batch: int,
    ) -> None:
        self._registry = registry
        self._start = start
        self._clock = clock
        self._account_concurrency = account_concurrency
        self._idle_seconds = idle_seconds
        self._init_timeout = init_timeout
        self._batch = batch
        self._condition = threading.Condition()
        self._idle: list[PoolEnvironment] = []
        self._leases: list[Lease] = []
        self._provisions: dict[tuple[str, str], Provision] = {}
        self._ending: list[PoolEnvironment] = []
        self._starting: set[PoolEnvironment] = set()
        self._closed = False
        self._housekeeper = threading.Thread(target=self._keep_house, name="function-pool", daemon=True)
        self._housekeeper.start()

    def run(
        self, version: FunctionVersion, qualifier: str | None, use: Callable[[PoolEnvironment], Outcome]
    ) -> Outcome:
        """Run `use` on a free environment of `version`, starting one if there is none.

        Raises ServiceError TooManyRequestsException if the function's or the account's concurrency is used up.
        """
        lease = self._admit(version, qualifier)
        try:
            if lease.environment is None:
                environment = self._start_one(version, Initialization.ON_DEMAND)
                lease.environment = environment
                failure = environment.wait_ready(self._init_timeout)
                with self._condition:
                    self._starting.discard(environment)
                if failure is not None:
                    return failure
            return use(lease.environment)
        finally:
            self._release(lease)

    def _admit(self, version: FunctionVersion, qualifier: str | None) -> Lease:
        name, reserved = version.name, self._registry.reserved(version.name)
        with self._condition:
            if self._closed:
                raise ServiceError("ServiceException", "The local Lambda is shutting down.", status=500)
            if reserved is not None and sum(lease.name == name for lease in self._leases) >= reserved:
                raise _throttled("ReservedFunctionConcurrentInvocationLimitExceeded")
            provision = self._provisions.get((name, qualifier or ""))
            if provision is not None:
                self._follow(provision, version)
                busy = {lease.environment for lease in self._leases}
                for environment in provision.environments:
                    if environment.usable and environment not in busy:
                        return self._lease(Lease(name=name, environment=environment, provision=provision))
            if reserved is not None:
                if self._on_demand({name}) + self._provisioned({name}) >= reserved:
                    raise _throttled("ReservedFunctionConcurrentInvocationLimitExceeded")
            elif self._unreserved_use() >= self._account_concurrency - self._registry.total_reserved():
                raise _throttled("ConcurrentInvocationLimitExceeded")
            for environment in reversed(self._idle):  # the last one used first: the others may end
                if environment.version.fingerprint == version.fingerprint and environment.usable:
                    self._idle.remove(environment)
                    return self._lease(Lease(name=name, environment=environment, provision=None))
            return self._lease(Lease(name=name, environment=None, provision=None))

    def _lease(self, lease: Lease) -> Lease:
        self._leases.append(lease)
        return lease

    def _on_demand(self, names: set[str]) -> int:
        return sum(lease.provision is None and lease.name in names for lease in self._leases)

    def _provisioned(self, names: set[str]) -> int:
        return sum(provision.requested for provision in self._provisions.values() if provision.name in names)

    def _unreserved_use(self) -> int:
        names = {lease.name for lease in self._leases} | {name for name, _ in self._provisions}
        names = {name for name in names if self._registry.reserved(name) is None}
        return self._on_demand(names) + self._provisioned(names)

    def _start_one(self, version: FunctionVersion, initialization: Initialization) -> PoolEnvironment:
        environment = self._start(version, initialization)
        with self._condition:
            if self._closed:
                environment.stop()
            self._starting.add(environment)
        return environment

    def _release(self, lease: Lease) -> None:
        with self._condition:
            self._leases.remove(lease)
            environment, provision = lease.environment, lease.provision
            if environment is not None:
                kept = provision is not None and environment in provision.environments
                if not environment.usable or (provision is not None and not kept) or self._closed:
                    self._end(environment)
                elif provision is None:
                    environment.idle_since = self._clock()
                    self._idle.append(environment)
            self._condition.notify_all()

    def _end(self, environment: PoolEnvironment) -> None:
        """Begin to end an environment and remember to wait for it. The lock is held."""
        environment.stop()
        self._starting.discard(environment)
        self._ending.append(environment)
        for provision in self._provisions.values():
            if environment in provision.environments:
                provision.environments.remove(environment)

    # --- provisioned concurrency

    def provision(self, version: FunctionVersion, qualifier: str, requested: int, *, modified: str) -> ProvisionState:
        """Ask for `requested` environments of `version`, in place of what was asked before."""
        key = (version.name, qualifier)
        with self._condition:
            provision = self._provisions.get(key)
            if provision is None:
                provision = Provision(
                    name=version.name, qualifier=qualifier, version=version, requested=requested, modified=modified
                )
                self._provisions[key] = provision
            self._follow(provision, version)
            provision.requested, provision.modified, provision.failure = requested, modified, ""
            self._retire(provision, len(provision.environments) - requested)
            self._condition.notify_all()
            return self._state(provision)

    def unprovision(self, name: str, qualifier: str) -> bool:
        """Give up what was provisioned; False if nothing was."""
        with self._condition:
            provision = self._provisions.pop((name, qualifier), None)
            if provision is not None:
                self._retire(provision, len(provision.environments))
            return provision is not None

    def provisioned(self, name: str) -> list[ProvisionState]:
        """What is provisioned for a function, by qualifier."""
        self._follow_aliases()
        with self._condition:
            return [self._state(provision) for key, provision in sorted(self._provisions.items()) if key[0] == name]

    def provisioned_total(self, name: str, *, but: str) -> int:
        """How much is provisioned for a function's qualifiers other than `but`."""
        with self._condition:
            return sum(p.requested for p in self._provisions.values() if p.name == name and p.qualifier != but)

    def _state(self, provision: Provision) -> ProvisionState:
        ready = [environment for environment in provision.environments if environment.usable]
        busy = sum(lease.environment in ready for lease in self._leases)
        status = ProvisionStatus.READY if len(ready) >= provision.requested else ProvisionStatus.IN_PROGRESS
        return ProvisionState(
            qualifier=provision.qualifier,
            requested=provision.requested,
            allocated=len(ready),
            available=len(ready) - busy,
            status=ProvisionStatus.FAILED if provision.failure else status,
            reason=provision.failure,
            modified=provision.modified,
        )

    def _follow(self, provision: Provision, version: FunctionVersion) -> None:
        """Replace the environments if the qualifier means another version by now. The lock is held."""
        if provision.version.fingerprint != version.fingerprint:
            self._retire(provision, len(provision.environments))
            provision.version, provision.failure = version, ""
            self._condition.notify_all()

    def _follow_aliases(self) -> None:
        with self._condition:
            provisions = list(self._provisions.values())
        for provision in provisions:
            try:
                version = self._registry.resolve(provision.name, provision.qualifier)
            except ServiceError:  # deleted
                self.unprovision(provision.name, provision.qualifier)
                continue
            with self._condition:
                self._follow(provision, version)

    def _retire(self, provision: Provision, count: int) -> None:
        """Take `count` environments out, idle ones first; busy ones end when they are released. The lock is held."""
        busy = {lease.environment for lease in self._leases}
        for environment in sorted(provision.environments, key=lambda each: each in busy)[: max(count, 0)]:
            provision.environments.remove(environment)
            if environment not in busy:
                self._end(environment)

    # --- housekeeping: one thread fills, replaces and ends environments

    def _keep_house(self) -> None:
        while True:
            with self._condition:
                if self._closed:
                    return
                self._sweep()
                due = next((p for p in self._provisions.values() if not p.failure and self._missing(p) > 0), None)
                ending, self._ending = self._ending, []
                if due is None and not ending:
                    self._condition.wait(HOUSEKEEPING_SECONDS)
            _join(ending)
            if due is not None:
                self._fill(due)
            self._follow_aliases()

    def _missing(self, provision: Provision) -> int:
        return provision.requested - len(provision.environments)

    def _sweep(self) -> None:
        """End what died or was idle for long. The lock is held."""
        now, busy = self._clock(), {lease.environment for lease in self._leases}
        for environment in [*self._idle]:
            if not environment.usable or now - environment.idle_since > self._idle_seconds:
                self._idle.remove(environment)
                self._end(environment)
        for provision in self._provisions.values():
            for environment in [*provision.environments]:
                if not environment.usable and environment not in busy:
                    self._end(environment)

    def _fill(self, provision: Provision) -> None:
        """Start up to a batch of missing environments and wait for them."""
        with self._condition:
            version, count = provision.version, min(self._missing(provision), self._batch)
        failure = ""
        try:
            started = [self._start_one(version, Initialization.PROVISIONED) for _ in range(count)]
        except (ServiceError, OSError) as error:
            started, failure = [], f"FUNCTION_ERROR_INIT_FAILURE: {error}"
        for environment in started:
            failed = environment.wait_ready(self._init_timeout)
            with self._condition:
                self._starting.discard(environment)
                current = self._provisions.get((provision.name, provision.qualifier)) is provision
                wanted = current and provision.version is version and self._missing(provision) > 0
                if failed is None and wanted and not self._closed:
                    provision.environments.append(environment)
                else:
                    self._end(environment)
                if failed is not None and not self._closed:
                    failure = "FUNCTION_ERROR_INIT_FAILURE"
        with self._condition:
            if failure and provision.version is version:
                provision.failure = failure

    def close(self) -> None:
        """End every environment and wait for them."""
        with self._condition:
            self._closed = True
            busy = [lease.environment for lease in self._leases if lease.environment is not None]
            provisioned = [e for provision in self._provisions.values() for e in provision.environments]
            everything = {*self._idle, *busy, *provisioned, *self._ending, *self._starting}
            for environment in everything:
                environment.stop()
            self._condition.notify_all()
        self._housekeeper.join()
        with self._condition:
            # an invocation that was admitted before may start its environment, and stop it, just now
            self._condition.wait_for(lambda: not self._leases, CLOSE_SECONDS)
            everything |= {*self._ending, *self._starting}
        _join([*everything])


def _join(environments: list[PoolEnvironment]) -> None:
    for environment in environments:
        with contextlib.suppress(TimeoutError):
            environment.join()


def _throttled(reason: str) -> ServiceError:
    return ServiceError("TooManyRequestsException", "Rate Exceeded.", status=429, Type="User", Reason=reason)
