"""Keeps what moto's Lambda drops of a function's configuration."""

from __future__ import annotations

import inspect
from typing import Any

from moto.awslambda.models import LambdaFunction

_KEPT = "logging_config"


def apply() -> None:
    """Change moto in this process."""
    initialize, describe, update = (
        LambdaFunction.__init__,
        LambdaFunction.get_configuration,
        LambdaFunction.update_configuration,
    )
    parameters = inspect.signature(initialize)

    # moto knows no LoggingConfig
    def initialize_with_logging(*arguments: Any, **keywords: Any) -> None:
        given = parameters.bind(*arguments, **keywords).arguments
        initialize(*arguments, **keywords)
        setattr(given["self"], _KEPT, given["spec"].get("LoggingConfig") or {})

    def describe_with_logging(function: Any, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        defaults = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{function.function_name}"}
        logging = {"LoggingConfig": {**defaults, **getattr(function, _KEPT, {})}}
        return {**describe(function, *arguments, **keywords), **logging}

    # moto updates neither LoggingConfig nor TracingConfig
    def update_all(function: Any, changes: dict[str, Any]) -> Any:
        if "LoggingConfig" in changes:
            setattr(function, _KEPT, {**getattr(function, _KEPT, {}), **changes["LoggingConfig"]})
        if "TracingConfig" in changes:
            function.tracing_config = changes["TracingConfig"]
        return update(function, changes)

    LambdaFunction.__init__ = initialize_with_logging
    LambdaFunction.get_configuration = describe_with_logging
    LambdaFunction.update_configuration = update_all
