"""Reads functions, versions, aliases and their settings out of moto, which keeps them.

The one module here that knows moto's Lambda classes. It changes nothing in moto and starts nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kennel.local.function_code import FunctionVersion
from kennel.local.wire import ServiceError

LATEST: Final = "$LATEST"
_NAME: Final = re.compile(
    r"(arn:aws[a-zA-Z-]*:lambda:[a-z0-9-]+:\d{12}:function:|\d{12}:function:|function:)?"
    r"(?P<name>[a-zA-Z0-9_.-]+)(:(?P<qualifier>\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9_-]+))?"
)


@dataclass(frozen=True, kw_only=True)
class AsyncSettings:
    """How asynchronous invocations of a function are retried; `max_age` is in seconds."""

    max_retries: int = 2
    max_age: float = 21_600.0
    on_failure: str | None = None


class Registry(Protocol):
    """What the local Lambda must know of functions. `qualifier` is a version, an alias or None ($LATEST)."""

    def resolve(self, name: str, qualifier: str | None) -> FunctionVersion:
        """The version behind a name. Raises ServiceError ResourceNotFoundException."""
        ...

    def is_alias(self, name: str, qualifier: str) -> bool:
        """Whether `qualifier` is an alias and not a version."""
        ...

    def reserved(self, name: str) -> int | None:
        """Reserved concurrency; None if none is configured or the function is gone."""
        ...

    def total_reserved(self) -> int:
        """Sum of the reserved concurrency of all functions."""
        ...

    def async_settings(self, name: str) -> AsyncSettings:
        """Retry settings and failure destination."""
        ...


def parse_name(function_name: str, qualifier: str | None) -> tuple[str, str | None]:
    """Name and qualifier out of a name, partial or full ARN, with or without its own qualifier.

    >>> parse_name("arn:aws:lambda:eu-west-1:123456789012:function:classify:live", None)
    ('classify', 'live')
    """
    found = _NAME.fullmatch(function_name)
    if found is None:
        raise ServiceError("InvalidParameterValueException", f"{function_name!r} is not a function name or ARN")
    own = found["qualifier"]
    if own and qualifier and own != qualifier:
        message = "The derived qualifier from the function name does not match the specified qualifier."
        raise ServiceError("InvalidParameterValueException", message)
    return found["name"], own or qualifier


class MotoRegistry:
    """A `Registry` over moto's Lambda backend, which `backend` returns."""

    def __init__(self, backend: Callable[[], Any]) -> None:
        self._backend = backend

    def resolve(self, name: str, qualifier: str | None) -> FunctionVersion:
        """See `Registry`."""
        function = self._find(name, qualifier)
        base = function.function_arn.split(":function:")[0] + f":function:{name}"
        return FunctionVersion(
            name=name,
            version=str(function.version),
            arn=f"{base}:{qualifier}" if qualifier else base,
            handler=function.handler or "",
            runtime=function.run_time or "",
            timeout=int(function.timeout),
            memory=int(function.memory_size),
            role=function.role or "",
            variables={key: str(value) for key, value in (function.environment_vars or {}).items()},
            code=getattr(function, "code_bytes", b""),
        )

    def is_alias(self, name: str, qualifier: str) -> bool:
        """See `Registry`."""
        return any(alias.name == qualifier for alias in self._backend().list_aliases(name))

    def reserved(self, name: str) -> int | None:
        """See `Registry`."""
        try:
            value = self._find(name, None).reserved_concurrency
        except ServiceError:
            return None
        return None if value is None else int(value)

    def total_reserved(self) -> int:
        """See `Registry`."""
        return sum(int(function.reserved_concurrency or 0) for function in self._backend().list_functions())

    def async_settings(self, name: str) -> AsyncSettings:
        """See `Registry`."""
        try:
            configs = self._find(name, None).event_invoke_config
        except ServiceError:
            return AsyncSettings()
        config = configs[0].config if configs else {}
        return AsyncSettings(
            max_retries=int(config.get("MaximumRetryAttempts", 2)),
            max_age=float(config.get("MaximumEventAgeInSeconds", 21_600)),
            on_failure=config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination") or None,
        )

    def _find(self, name: str, qualifier: str | None) -> Any:
        try:
            return self._backend().get_function(name, qualifier)
        except Exception as error:
            if getattr(error, "code", None) != 404:
                raise
            raise ServiceError("ResourceNotFoundException", _message(error), status=404, Type="User") from error


def _message(error: Exception) -> str:
    return str(getattr(error, "message", error))
